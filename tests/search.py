"""How long tests search that try many cases: TEST_SEARCH is short (`make quick`), steady (`make test`) or deep (`.ci/run`)."""

import os
from typing import Final

SEARCH: Final = os.environ.get("TEST_SEARCH", "steady")


def cases(*, short: int, steady: int, deep: int) -> int:
    """How many; the first ones are the same in each. Raises KeyError for a word that is none of the three."""
    return {"short": short, "steady": steady, "deep": deep}[SEARCH]
