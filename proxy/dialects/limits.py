"""The tightest of several rate limits, which is the one that vendors' headers can show."""

from collections.abc import Sequence

from proxy.dialects.dialect import NamedRate


def tightest(rate: Sequence[NamedRate], kind: str) -> NamedRate | None:
    """The limit of that kind with the fewest units left, of equals the one that takes longest to refill; None if there is none."""
    return min((each for each in rate if each.kind == kind), key=lambda each: (each.remaining, -each.reset_ms), default=None)
