"""Grounding of the Gemini API: answers that rest on searches, which are billed beside the tokens.

Sources: Google, "Gemini Developer API pricing": Gemini 3 and newer by the query, older models by the prompt that was grounded, with
Google Maps at rates of its own; "Grounding with Google Search": "we ignore the empty web search queries when counting unique
queries". Which of the two applies is a matter of the price: both are counted, and a price has a rate for one of them.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from tallygate.dialects.lenient import items_of, member
from tallygate.domain.unit import Unit

# Held for each candidate of a request with such a tool. Google documents no maximum, and has no member to set one.
QUERIES_MAX: Final = 30
QUERIES_READ_MAX: Final = 1_000  # different ones of one answer; more are not counted
MAPS_PROMPT: Final = f"{Unit.GROUNDED_PROMPT}:maps"
MAPS_QUERY: Final = f"{Unit.GROUNDING_QUERY}:maps"

_SEARCH: Final = frozenset({"googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"})
_MAPS: Final = frozenset({"googleMaps", "google_maps"})
# Tools that cost nothing themselves: their results are input. "Gemini Developer API pricing", section "Pricing for tools".
_FREE: Final = frozenset({"codeExecution", "code_execution", "urlContext", "url_context", "fileSearch", "file_search"})


def calls_of_tools(tools: Collection[str], candidates: int) -> dict[str, int]:
    """The most that tools of these names, which run at the provider, can cause by unit. An unknown tool may have a fee."""
    calls: dict[str, int] = {}
    for name in tools:
        if name in _SEARCH:
            calls |= {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: QUERIES_MAX * candidates}
        elif name in _MAPS:
            calls |= {MAPS_PROMPT: 1, MAPS_QUERY: QUERIES_MAX * candidates}
        elif name not in _FREE:
            calls[Unit.SERVER_TOOL] = 1
    return calls


def are_results_free(tools: Collection[str]) -> bool:
    """Whether no result of these tools is charged as input.

    "Gemini Developer API pricing": "Retrieved context provided by Grounding with Google Search is not charged as input tokens".
    """
    return _SEARCH.issuperset(tools)


class Grounding:
    """What the grounding of one answer comes to, over all of its candidates and pieces.

    facts_calls   what the request can cause, by unit
    """

    __slots__ = ("_calls", "_has_missed", "_is_maps_alone", "_queries", "_used_maps")

    def __init__(self, facts_calls: Mapping[str, int]) -> None:
        self._calls = facts_calls
        self._has_missed = False
        self._is_maps_alone = MAPS_QUERY in facts_calls and Unit.GROUNDING_QUERY not in facts_calls
        self._queries: set[int] = set()  # digests, since a query may be long
        self._used_maps = False

    def add(self, metadata: object) -> dict[str, int]:
        """Take a candidate's `groundingMetadata`; return what all so far comes to, by unit."""
        if not isinstance(metadata, dict):
            return self.calls()
        for kind, spelled in (("web", "webSearchQueries"), ("image", "imageSearchQueries")):
            for query in items_of(_either(metadata, spelled)):
                if isinstance(query, str) and query.strip() and len(self._queries) < QUERIES_READ_MAX:
                    self._queries.add(hash((kind, query)))
        self._used_maps |= bool(_either(metadata, "googleMapsWidgetContextToken"))
        self._used_maps |= any(member(chunk, "maps") is not None for chunk in items_of(_either(metadata, "groundingChunks")))
        return self.calls()

    def miss(self) -> dict[str, int]:
        """Note that a part of the answer cannot be read; return what it may come to."""
        self._has_missed = True
        return self.calls()

    def calls(self) -> dict[str, int]:
        """Quantities by unit. Of a use of Maps beside a search nothing tells how many queries it took: it counts as one."""
        number = len(self._queries)
        calls: dict[str, int] = {}
        if number and not self._is_maps_alone:
            calls |= {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: number}
        if self._used_maps or (number and self._is_maps_alone):
            calls |= {MAPS_PROMPT: 1, MAPS_QUERY: max(number, 1) if self._is_maps_alone else 1}
        for unit, most in self._calls.items():
            if self._has_missed or unit == Unit.SERVER_TOOL:  # of whose use no answer shows anything
                calls[unit] = max(calls.get(unit, 0), most)
        return calls


_SNAKE: Final = {
    "webSearchQueries": "web_search_queries",
    "imageSearchQueries": "image_search_queries",
    "groundingChunks": "grounding_chunks",
    "googleMapsWidgetContextToken": "google_maps_widget_context_token",
}


def _either(metadata: dict[str, Any], name: str) -> object:
    """A member in the spelling of the API or of Google's libraries."""
    return metadata.get(name) or metadata.get(_SNAKE[name])
