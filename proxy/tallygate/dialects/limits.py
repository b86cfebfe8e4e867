"""Rate limits in vendors' headers, which can show only the tightest of several."""

from collections.abc import Sequence
from typing import Final

from tallygate.dialects.dialect import NamedRate

RATE_LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
RESET_HEADER: Final = b"x-ratelimit-reset"  # docs.gloo.com, "Rate Limits": until when to pause after a 429


def tightest(rate: Sequence[NamedRate], kind: str) -> NamedRate | None:
    """The limit of that kind with the fewest units left; if equal, the one that refills last; None if there is none."""
    found: NamedRate | None = None
    for each in rate:
        if each.kind == kind and (
            found is None
            or each.remaining < found.remaining
            or (each.remaining == found.remaining and each.reset_ms > found.reset_ms)
        ):
            found = each
    return found
