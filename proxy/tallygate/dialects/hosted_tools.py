"""Tools of OpenAI-shaped APIs that run at the provider and are billed beside tokens: what requests can cause, and answers show.

Sources: OpenAI, pricing page, "Tools": searches and file searches by the call, containers by the session, images by the tokens of
their own model; xAI, pricing page and "Tool Usage Details"; OpenRouter, "Server Tools": each `openrouter:…` tool runs there, some
at the price of another model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tallygate.dialects.dialect import MeterReading, OtherModel, RequestFacts
from tallygate.dialects.generated_images import CallsOfImages, image_model
from tallygate.dialects.lenient import lenient_decode, member
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

# Calls of one request that states no `max_tool_calls`. OpenAI states no bound; OpenRouter's API reference does: "Defaults to 30,
# which is also the maximum".
CALLS_MAX: Final = 30
# Posts and profiles that one `x_search` is held for: what X's own search returns unless asked for more (API reference, "Search
# recent Posts", max_results). xAI states no bound.
X_RESULTS: Final = 10
ITEMS_MAX: Final = 10_000  # items of one answer that are looked at

PREVIEW_SEARCH: Final = f"{Unit.WEB_SEARCH}:preview"
CODE_CALL: Final = f"{Unit.SERVER_TOOL}:code_interpreter"  # xAI bills calls; OpenAI bills containers
DOCUMENT_SEARCH: Final = f"{Unit.SERVER_TOOL}:document_search"
OPENROUTER_CALL: Final = f"{Unit.SERVER_TOOL}:openrouter"
X_SEARCH: Final = f"{Unit.SERVER_TOOL}:x_search"
X_POST: Final = f"{Unit.SEARCH_SOURCE}:x_post"
X_USER: Final = f"{Unit.SEARCH_SOURCE}:x_user"

_CLIENT_TOOLS: Final = frozenset({"function", "custom"})  # any other tool runs at the provider and reads unseen input
_OPENROUTER: Final = "openrouter:"
_WITH_MODELS: Final = ("image_generation", _OPENROUTER)  # tools that are held for the models that they name
_FREE: Final = frozenset({"openrouter:datetime"})
_BUILTIN: Final = "builtin_function"  # Moonshot's, by the function's name
_WEB_SEARCHES: Final = ("web_search", "openrouter:web_search", "browser_search", "$web_search")
_FILE_SEARCHES: Final = frozenset({"file_search", "collections_search"})
_CODE: Final = frozenset({"code_interpreter", "code_execution"})
_DOCUMENT_SEARCHES: Final = frozenset({"attachment_search", "document_search"})
# Items of an answer that tell of a billed call.
BILLED_ITEMS: Final = frozenset(
    {"web_search_call", "file_search_call", "image_generation_call", "code_interpreter_call", "shell_call"}
)
_MEMORY: Final = frozenset({"1g", "4g", "16g", "64g"})
_SEARCHED: Final = "search"
# xAI, "Tool Usage Details": calls that succeeded, which are billed. Since 2026-09-21 an `x_search` is billed by what it fetched.
_XAI_UNITS: Final[Mapping[str, str]] = {
    "web_search_calls": Unit.WEB_SEARCH,
    "x_posts_fetched": X_POST,
    "x_users_fetched": X_USER,
    "code_interpreter_calls": CODE_CALL,
    "file_search_calls": Unit.FILE_SEARCH,
    "document_search_calls": DOCUMENT_SEARCH,
    "image_generation_calls": Unit.IMAGE,
}


class ToolKind(msgspec.Struct, gc=False):
    type: Any = None


_kinds: Final = msgspec.json.Decoder(ToolKind)
_objects: Final = msgspec.json.Decoder(dict[str, Any])


def hosted_tools(tools: Sequence[msgspec.Raw] | None) -> list[dict[str, Any]]:
    """Those of a request's tools that do not run at the client; one that cannot be read has no members.

    Raises RequestRejectedError for one that would have another model work at a cost that is not known.
    """
    found = []
    for tool in tools or ():
        kind = lenient_decode(bytes(tool), _kinds)
        if kind is None or not isinstance(kind.type, str) or kind.type not in _CLIENT_TOOLS:
            hosted = lenient_decode(bytes(tool), _objects) or {}
            if "model" in hosted and not str(hosted.get("type")).startswith(_WITH_MODELS):
                shown = str(hosted.get("type"))[:100]
                message = f"'{shown}' among the tools runs another model, which cannot be metered: leave it out."
                raise RequestRejectedError(message, param="tools")
            found.append(hosted)
    return found


def billed_calls_max(tools: Sequence[dict[str, Any]], *, model: str | None, max_tool_calls: int | None) -> dict[str, int]:
    """The most that these tools can cause, by unit. The maximum bounds all calls together, of whichever tools."""
    calls: dict[str, int] = {}
    is_xai = "grok" in (model or "")
    most = max_tool_calls or CALLS_MAX  # 0 is none
    if is_xai:
        most = max(most, CALLS_MAX)  # its own bound is `max_turns`, in each of which several tools may be called
    for tool in tools:
        for unit, number in _of_tool(tool, most, is_xai=is_xai).items():
            calls[unit] = min(calls.get(unit, 0) + number if unit.startswith(Unit.CODE_CONTAINER) else number, TOKENS_MAX)
    return calls


def image_models(
    tools: Sequence[dict[str, Any]], *, model: str | None, max_tool_calls: int | None, images_in: int
) -> tuple[OtherModel, ...]:
    """The models of images that these tools can cause to work."""
    if "grok" in (model or ""):
        return ()  # by the image
    return tuple([image_model(tool, max_tool_calls, images_in) for tool in tools if tool.get("type") == "image_generation"])


def _of_tool(tool: dict[str, Any], most: int, *, is_xai: bool) -> dict[str, int]:
    kind = tool.get("type")
    if kind == _BUILTIN:
        kind = member(tool.get("function"), "name")
    if not isinstance(kind, str):
        return {}
    if kind.startswith("web_search_preview"):
        return {PREVIEW_SEARCH: most}
    if kind.startswith(_WEB_SEARCHES):
        return {Unit.WEB_SEARCH: most}
    if kind in _FILE_SEARCHES:
        return {Unit.FILE_SEARCH: most}
    if kind in _CODE:
        return {CODE_CALL: most} if is_xai else {_container(tool.get("container")): 1}
    if kind == "shell":
        environment = tool.get("environment")
        return {} if member(environment, "type") == "local" else {_container(environment): 1}
    if kind == "x_search":
        return {X_POST: most * X_RESULTS, X_USER: most * X_RESULTS}
    if kind in _DOCUMENT_SEARCHES:
        return {DOCUMENT_SEARCH: most}
    if kind == "image_generation" and is_xai:
        return {Unit.IMAGE: most}
    if kind.startswith(_OPENROUTER) and kind not in _FREE:
        return {OPENROUTER_CALL: most}
    return {}


def _container(asked: object) -> str:
    memory = member(asked, "memory_limit")
    return f"{Unit.CODE_CONTAINER}:{memory}" if isinstance(memory, str) and memory in _MEMORY else Unit.CODE_CONTAINER


class CallItems:
    """The billed calls that the items of one answer show, counted as the items come; each again and again, if need be.

    A search counts from its beginning on, and no longer once it turns out to have opened a page. Containers count once each: their
    sessions last 20 minutes, and no answer says whether one was begun by an earlier request.
    """

    __slots__ = ("_containers", "_facts", "_images", "_units")

    def __init__(self, facts: RequestFacts) -> None:
        self._facts = facts
        self._units: dict[object, str | None] = {}
        self._containers: set[str] = set()
        self._images = CallsOfImages(facts.other_models)

    def add(self, reading: MeterReading, item: object, place: int) -> None:
        """Take an item that is a call. place: in the answer's output."""
        if not isinstance(item, dict):
            return
        kind, key = item.get("type"), item.get("id")
        key = key if isinstance(key, str) else place
        if len(self._units) >= ITEMS_MAX and key not in self._units:
            return
        if kind == "web_search_call":
            is_search = member(item.get("action"), "type") in (None, _SEARCHED)
            self._count(reading, key, self._search_unit() if is_search else None)
        elif kind == "file_search_call":
            self._count(reading, key, Unit.FILE_SEARCH)
        elif kind == "image_generation_call":
            self._units.setdefault(key, None)
            self._images.add(key, item)
            reading.passes, reading.others_begun = self._images.passes(), self._images.number
        container = item.get("container_id") or member(item.get("environment"), "container_id")
        if isinstance(container, str) and len(self._containers) < ITEMS_MAX:
            self._containers.add(container)
            reading.billed_calls[self._container_unit()] = len(self._containers)

    def state(self, reading: MeterReading, tool_usage: object, tools: object) -> None:
        """Take the `tool_usage` of a final response, which has the last word, and the tools that it names."""
        searches = _number(member(member(tool_usage, "web_search"), "num_requests"))
        if searches or (searches is not None and reading.billed_calls):
            reading.billed_calls[self._search_unit()] = searches
        self._images.state(member(tool_usage, "image_gen"), tools)
        reading.passes = self._images.passes()

    def _count(self, reading: MeterReading, key: object, unit: str | None) -> None:
        self._units[key] = unit
        counts = Counter([each for each in self._units.values() if each is not None])
        reading.billed_calls |= {each: counts[each] for each in (self._search_unit(), Unit.FILE_SEARCH)}

    def _search_unit(self) -> str:
        calls = self._facts.calls
        return PREVIEW_SEARCH if PREVIEW_SEARCH in calls and Unit.WEB_SEARCH not in calls else Unit.WEB_SEARCH

    def _container_unit(self) -> str:
        """That of the largest container which was asked for."""
        asked = [unit for unit in self._facts.calls if unit.startswith(Unit.CODE_CONTAINER)]
        return max(asked, key=_megabytes, default=Unit.CODE_CONTAINER)


def _megabytes(unit: str) -> int:
    memory = unit.rpartition(":")[2]
    return int(memory[:-1]) if memory in _MEMORY else 0


def calls_in_usage(usage: Mapping[str, Any]) -> dict[str, int]:
    """The billed calls that a usage object states, by unit: xAI's, OpenRouter's and Perplexity's members, and Mistral's seconds."""
    details = usage.get("server_side_tool_usage_details")
    if isinstance(details, dict):
        calls: dict[str, int] = {
            unit: number for name, unit in _XAI_UNITS.items() if (number := _number(details.get(name))) is not None
        }
        if X_POST not in calls and X_USER not in calls and (searches := _number(details.get("x_search_calls"))):
            calls[X_SEARCH] = searches
        return calls
    details = usage.get("server_tool_use_details")
    searches = _number(member(details, "web_search_requests"))
    if searches is None:
        searches = _number(usage.get("num_search_queries"))
    calls = {} if searches is None else {Unit.WEB_SEARCH: searches}
    if seconds := _number(usage.get("prompt_audio_seconds")):
        calls[Unit.AUDIO_SECOND] = seconds
    executed = _number(member(details, "tool_calls_executed"))
    others = (executed or 0) - (searches or 0)
    return calls | {OPENROUTER_CALL: others} if others > 0 else calls


def _number(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None
