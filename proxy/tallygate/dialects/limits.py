"""Rate limits in vendors' headers, which can show only the tightest of several."""

from collections.abc import Sequence
from typing import Final

from tallygate.dialects.dialect import NamedRate

RATE_LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
RESET_HEADER: Final = b"x-ratelimit-reset"  # docs.gloo.com, "Rate Limits": until when to pause after a 429


def tightest(rate: Sequence[NamedRate]) -> dict[str, NamedRate]:
    """By kind, the limit with the fewest units left; if equal, the one that refills last."""
    found: dict[str, NamedRate] = {}
    for each in rate:
        other = found.get(each.kind)
        if (
            other is None
            or each.remaining < other.remaining
            or (each.remaining == other.remaining and each.reset_ms > other.reset_ms)
        ):
            found[each.kind] = each
    return found
