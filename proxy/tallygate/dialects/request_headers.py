"""Headers that have a meaning to APIs. Upstreams read a request's whatever its route's dialect, so they apply to every dialect."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace
from multidict import MultiMapping

from tallygate.dialects.dialect import RequestFacts, units_of

LONG_WINDOW_BETA: Final = "context-1m"
LONG_WINDOW_TOKENS: Final = 1_000_000


def facts_with_headers(facts: RequestFacts, headers: MultiMapping[str]) -> RequestFacts:
    """Adjust the facts of a body to its request's headers."""
    for name, read in READERS.items():
        if name in headers:
            facts = read(facts, ",".join(headers.getall(name)))
    return facts


def _with_cache_ttl(facts: RequestFacts, ttl: str) -> RequestFacts:
    """Apply Gloo's `X-Cache-TTL` (5m or 1h), which marks a prompt for caching outside of the body.

    Any other value is assumed to be as dear as the longest time.
    """
    if not ttl:
        return facts
    is_long = ttl.strip() != "5m"
    return replace(facts, units=facts.units | units_of(cache_write_5m=True, cache_write_1h=is_long), writes_1h=is_long)


def _with_long_window(facts: RequestFacts, betas: str) -> RequestFacts:
    """Apply Anthropic's `anthropic-beta` with `context-1m-…`, which lets a model read a million tokens."""
    return replace(facts, window_min_tokens=LONG_WINDOW_TOKENS) if LONG_WINDOW_BETA in betas.lower() else facts


# The effect of each header on the facts of its request.
READERS: Final[Mapping[str, Callable[[RequestFacts, str], RequestFacts]]] = {
    "x-cache-ttl": _with_cache_ttl,
    "anthropic-beta": _with_long_window,
}
# Headers of answers.
TELL_WHOSE_KEY: Final = (b"openai-organization", b"openai-project", b"anthropic-organization-id")
# Other headers that SDKs send, on which an answer does not depend.
SENT_BY_SDKS: Final = frozenset(
    {b"anthropic-version", b"anthropic-dangerous-direct-browser-access", b"openai-beta", b"x-goog-api-client", b"x-server-timeout"}
    | {name.encode() for name in READERS}
)
# Headers that remove the usage from an answer or change its form. Google, "System parameters": the mask filters the answer.
CHANGE_FORM: Final = frozenset({b"x-goog-fieldmask", b"x-goog-encode-response-if-executable"})
