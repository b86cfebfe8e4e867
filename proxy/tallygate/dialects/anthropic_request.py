"""Requests to Anthropic's Messages API."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from tallygate.dialects.anthropic_conditions import conditions_of
from tallygate.dialects.anthropic_others import ADVISOR, other_models, uses_of
from tallygate.dialects.body import ParsedBody
from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.dialects.lenient import items_of, member
from tallygate.dialects.prompt_parts import PromptParts, json_text
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

# Tools with a type that the client runs itself: no input arises but their definition, which the provider fills in. Any other typed
# tool runs at the provider and feeds its results back to the model (a web search turned 2,479 input tokens into 404,500).
_CLIENT_TOOLS: Final = ("bash_", "text_editor_", "computer_", "browser_", "memory_", "tool_search_")
# After each round of such a tool the model reads its context again, and the usage is the sum (Anthropic, "Handling stop reasons",
# section "pause_turn"). No recorded answer has read more than three whole windows.
ROUNDS: Final = 3
_WEB_SEARCH: Final = "web_search_"
# Where `max_uses` sets no bound: the loop of such tools ends after 10 iterations (Anthropic, "Handling stop reasons", section
# "pause_turn"), each of which may search more than once. How often, no page says: three times, as with ROUNDS.
SEARCHES: Final = 30
_KIND_CHARS_SHOWN: Final = 60
CLIENT_TOOL_TOKENS: Final = 2000  # of such a definition: bash 245, text editor 700, computer use 735 and 499 for its system prompt

# Anthropic, "Citations": a request that enables them has more input, by "system prompt additions and document chunking". Measured:
# 560 tokens for one short document.
CITATION_TOKENS: Final = 600


class MessagesBody(msgspec.Struct, gc=False):
    """The members of a request body that are acted on. Those left open are walked leniently: the upstream validates them."""

    model: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stream: bool | None = None
    system: Any = None
    messages: Any = None
    tools: Any = None
    output_config: Any = None
    output_format: Any = None
    cache_control: Any = None
    mcp_servers: Any = None
    container: Any = None
    thread: Any = None
    thinking: Any = None
    compaction: Any = None
    context_management: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None
    fallbacks: Any = None


_INSIDE: Final = (
    *("role", "content", "type", "text", "source", "data", "media_type", "url", "title", "context", "name", "ttl", "schema"),
    *("budget_tokens", "max_uses"),
)
MEMBERS: Final = RequestMembers(MessagesBody, inside=_INSIDE)
# The members that are read, by type of block; the model may read others as text.
_BLOCKS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"text"}),
    "thinking": frozenset({"thinking", "signature"}),
    "image": frozenset({"source"}),
    "document": frozenset({"title", "context", "source"}),
    "tool_result": frozenset({"content"}),
    "tool_use": frozenset({"name", "input"}),
    "server_tool_use": frozenset({"name", "input"}),
    "mcp_tool_use": frozenset({"name", "input"}),
}
_NO_CALLS: Final[Mapping[str, int]] = {}
_CACHE_CONTROL: Final = frozenset({"cache_control"})
_MESSAGE: Final = frozenset({"content"})
_SOURCE: Final = frozenset({"type", "media_type", "data", "content", "url", "file_id"})


def read_messages(body: bytes) -> RequestFacts:
    """Facts of a request for a message. Raises RequestRejectedError."""
    parsed = MEMBERS.parse(body)
    request = parsed.fields
    walker = _PromptWalker()
    walker.walk(parsed)
    compacts = _compacts(request)
    units = units_of(cache_write_5m=walker.cache_write_5m, cache_write_1h=walker.cache_write_1h)
    has_others = walker.advisors or request.fallbacks is not None
    references = body_references(parsed)
    conditions, default_conditions = conditions_of(request.service_tier, request.speed, request.inference_geo)
    return RequestFacts(
        model=required_model(request.model),
        prompt=walker.parts.shape(),
        stream=request.stream or False,
        choices=2 if compacts else 1,  # a summary is one more answer
        prompt_reads=2 if compacts else 1,
        max_output_tokens=min(request.max_tokens, TOKENS_MAX) if request.max_tokens else None,  # 0 is none
        window_reads=ROUNDS if walker.has_server_tools else 1,
        output_min_tokens=_thinking_budget(request.thinking) + 1,  # max_tokens must be larger
        units=units,
        conditions=conditions,
        default_conditions=default_conditions,
        calls={Unit.WEB_SEARCH: walker.searches} if walker.searches else _NO_CALLS,
        other_models=other_models(request, walker.advisors, units) if has_others else (),
        has_unknown_input=walker.parts.has_unknown_input(references),
        has_unseen_input=walker.parts.has_unseen_input,
        references=references,
    )


def _compacts(request: MessagesBody) -> bool:
    """Whether a compaction may happen. Anthropic, "Compaction": the model may read its prompt once more, to summarize it."""
    edits = items_of(member(request.context_management, "edits"))
    kinds = [member(edit, "type") for edit in edits]
    return request.compaction is not None or any(isinstance(kind, str) and kind.startswith("compact") for kind in kinds)


def _thinking_budget(thinking: object) -> int:
    """The thinking budget. Anthropic, "Extended thinking": `budget_tokens` must be less than `max_tokens`."""
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return min(max(budget, 0), TOKENS_MAX) if isinstance(budget, int) else 0


def _cites(citations: object) -> bool:
    """Whether a document, or another given block, requests citations. In earlier answers, the member is a list."""
    return isinstance(citations, dict) and citations.get("enabled") is True


def required_model(model: str | None) -> str:
    """The model, without which nothing can be priced. Raises RequestRejectedError."""
    if not model:
        raise RequestRejectedError("The request names no model.", param="model")
    return model


class _PromptWalker:
    """Walks system prompt, messages and tools. Depth is bounded: parse_body has refused deeper nesting."""

    __slots__ = ("advisors", "cache_write_1h", "cache_write_5m", "cites", "has_server_tools", "parts", "searches")

    def __init__(self) -> None:
        self.parts = PromptParts()
        self.cache_write_5m = False
        self.cache_write_1h = False
        self.has_server_tools = False
        self.searches = 0  # at most
        self.advisors: list[dict[str, Any]] = []
        self.cites = False

    def walk(self, body: ParsedBody[MessagesBody]) -> None:
        request, parts = body.fields, self.parts
        self._cache_control(request.cache_control)
        self._content(request.system)
        messages = request.messages if isinstance(request.messages, list) else []
        parts.messages = len(messages) + (request.system is not None)
        for message in messages:
            self._message(message)
        for tool in request.tools if isinstance(request.tools, list) else []:
            self._tool(tool)
        if isinstance(request.output_config, dict) and "format" in request.output_config:
            parts.add_schema(request.output_config)
        else:
            parts.add_text(request.output_config)
        parts.add_schema(request.output_format)
        parts.add_text(request.compaction)
        parts.add_text(request.context_management)
        for fallback in items_of(request.fallbacks):
            parts.add_text(member(fallback, "output_config"))
        if self.cites:
            parts.tokens += CITATION_TOKENS
        MEMBERS.add_unknown(body, parts)
        if request.mcp_servers or request.container or request.thread:
            parts.add_unseen()

    def _message(self, message: object) -> None:
        if isinstance(message, dict):
            self._content(message.get("content"))
            self.parts.add_unknown_members(message, _MESSAGE)
        else:
            self._content(message)

    def _content(self, content: object) -> None:
        """Add content: a string, a list of blocks, or one block."""
        if isinstance(content, list):
            for block in content:
                self._content(block)
        elif isinstance(content, dict):
            self._block(content)
        else:
            self.parts.add_text(content)

    def _block(self, block: dict[str, Any]) -> None:
        parts = self.parts
        self._cache_control(block.get("cache_control"))
        if "citations" in block:
            self.cites |= _cites(block["citations"])
        match block.get("type"):
            case "text":
                parts.add_text(block.get("text"))
            case "thinking":
                parts.add_text(block.get("thinking"))
                parts.add_signature(block.get("signature"))
            case "image":
                self._source(block.get("source"), "image")
            case "document":
                parts.add_text(block.get("title"))
                parts.add_text(block.get("context"))
                self._source(block.get("source"), "document")
            case "tool_result":
                self._content(block.get("content"))
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                parts.calls += 1
                parts.add_text(block.get("name"))
                parts.add_json(block.get("input"))
            case "container_upload":
                parts.add_unseen()
                return
            case _:
                self._unknown(block)
                return
        parts.add_unknown_members(block, _BLOCKS[block["type"]] | _CACHE_CONTROL)

    def _source(self, source: object, kind: str) -> None:
        """Add the source of an image or document."""
        parts = self.parts
        if not isinstance(source, dict):
            parts.add_text(source)
            return
        match source.get("type"):
            case "base64":
                media_type = "image/" if kind == "image" else source.get("media_type")
                parts.add_base64(media_type, source.get("data"))
            case "text":
                parts.add_text(source.get("data"))
            case "content":
                self._content(source.get("content"))
            case "url" | "file" if kind == "image":
                parts.images.append(ImageInput())
                parts.image_files += source.get("type") == "file"
            case "file":
                parts.add_referred()
            case "url":
                parts.add_unseen()
            case _:
                self._unknown(source)
                return
        parts.add_unknown_members(source, _SOURCE)

    def _tool(self, tool: object) -> None:
        self.parts.add_tool(tool)
        if not isinstance(tool, dict):
            return
        self._cache_control(tool.get("cache_control"))
        kind = tool.get("type")
        if not isinstance(kind, str) or kind == "custom":
            return
        if kind.startswith(ADVISOR):
            self.advisors.append(tool)
            return
        if "model" in tool:
            message = f"'{kind[:_KIND_CHARS_SHOWN]}' among the tools runs another model, which cannot be metered: leave it out."
            raise RequestRejectedError(message, param="tools")
        if kind.startswith(_CLIENT_TOOLS):
            self.parts.tokens += CLIENT_TOOL_TOKENS
        else:
            self.has_server_tools = True
            self.parts.add_unseen()
            if kind.startswith(_WEB_SEARCH):
                self.searches += uses_of(tool, SEARCHES)

    def _unknown(self, value: object) -> None:
        """Add a value newer than this code: its text counts, and a cache mark anywhere in it may be of either kind."""
        text = json_text(value)
        self.parts.texts.append(text)
        if '"cache_control"' in text:
            self.cache_write_5m = self.cache_write_1h = True

    def _cache_control(self, mark: object) -> None:
        """Note a cache breakpoint: written for 5 minutes unless it states otherwise."""
        if mark is None:
            return
        ttl = mark.get("ttl") if isinstance(mark, dict) else None
        if ttl == "1h":
            self.cache_write_1h = True
        else:
            self.cache_write_5m = True
