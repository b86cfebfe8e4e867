"""What a request's headers add to its facts. Upstreams read them whatever the route's dialect, so these are every dialect's."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace
from multidict import MultiMapping

from tallygate.dialects.dialect import RequestFacts

LONG_WINDOW_BETA: Final = "context-1m"
LONG_WINDOW_TOKENS: Final = 1_000_000


def facts_with_headers(facts: RequestFacts, headers: MultiMapping[str]) -> RequestFacts:
    """The facts of a body under its request's headers."""
    for name, read in READERS.items():
        if name in headers:
            facts = read(facts, ",".join(headers.getall(name)))
    return facts


def _with_cache_ttl(facts: RequestFacts, ttl: str) -> RequestFacts:
    """Gloo's `X-Cache-TTL` (5m or 1h) marks a prompt for caching without a word in the body.

    Any other value may come to mean a time as dear as the longest.
    """
    if not ttl:
        return facts
    is_long = ttl.strip() != "5m"
    return replace(facts, cache_write_5m=True, cache_write_1h=facts.cache_write_1h or is_long, writes_1h=is_long)


def _with_long_window(facts: RequestFacts, betas: str) -> RequestFacts:
    """Anthropic's `anthropic-beta` with `context-1m-…` lets a model read a million tokens."""
    return replace(facts, window_min_tokens=LONG_WINDOW_TOKENS) if LONG_WINDOW_BETA in betas.lower() else facts


READERS: Final[Mapping[str, Callable[[RequestFacts, str], RequestFacts]]] = {
    "x-cache-ttl": _with_cache_ttl,
    "anthropic-beta": _with_long_window,
}
