"""The tightest of several rate limits, which is the one that vendors' headers can show."""

from collections.abc import Sequence

from tallygate.dialects.dialect import NamedRate


def tightest(rate: Sequence[NamedRate], kind: str) -> NamedRate | None:
    """The limit of that kind with the fewest units left, of equals the one that takes longest to refill; None if there is none."""
    found: NamedRate | None = None
    for each in rate:
        if each.kind == kind and (
            found is None
            or each.remaining < found.remaining
            or (each.remaining == found.remaining and each.reset_ms > found.reset_ms)
        ):
            found = each
    return found
