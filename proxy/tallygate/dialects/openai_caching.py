"""How long OpenAI keeps what a request writes to the prompt cache: API reference, `prompt_cache_options` of a response."""

from typing import Any, Final

from tallygate.dialects.body import ParsedBody, keys_of
from tallygate.dialects.lenient import member

OPTIONS: Final = "prompt_cache_options"  # of a request
BREAKPOINT: Final = "prompt_cache_breakpoint"  # of a part of a message
_MARKS: Final = keys_of((OPTIONS, BREAKPOINT))
_TTL: Final = keys_of(("ttl",))
_SHORT: Final = (None, "30m")  # the default


def is_kept_long(body: ParsedBody[Any], retention: object) -> bool:
    """Whether something may be kept for longer than 30 minutes, which costs more. retention: the former member for it."""
    keys = body.keys_anywhere
    return retention == "24h" or (not _MARKS.isdisjoint(keys) and keys >= _TTL and _states_long(body.decoded()))


def _states_long(body: object) -> bool:
    left = [body]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            if any(member(each.get(name), "ttl") not in _SHORT for name in (OPTIONS, BREAKPOINT)):
                return True
            left += each.values()
        elif isinstance(each, list):
            left += each
    return False
