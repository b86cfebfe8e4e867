"""Rate limits in vendors' headers, which can show only the tightest of several."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

RATE_LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
RESET_HEADER: Final = b"x-ratelimit-reset"  # docs.gloo.com, "Rate Limits": until when to pause after a 429


class LimitHeaders(msgspec.Struct, frozen=True, eq=False):
    """A dialect's own headers of rate limits.

    names   by the kind of limit, "requests" or "tokens": the headers of its capacity, of what remains, and of its reset
    reset   the value of the last, from the time and how long it takes until the limit is full again, in milliseconds
    """

    names: Mapping[str, tuple[bytes, bytes, bytes]]
    reset: Callable[[int, int], bytes]
