"""OpenAI's chat completions, and every API of their shape."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from tallygate.dialects.body import keys_of, with_member
from tallygate.dialects.dialect import RequestFacts, ResponseMeter, units_of
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.hosted_tools import billed_calls_max, hosted_tools
from tallygate.dialects.openai_caching import is_kept_long
from tallygate.dialects.openai_choices import ChoicesBody, ChoicesJsonMeter, ChoicesStreamMeter
from tallygate.dialects.openai_prompt import MESSAGE_MEMBERS, ChatMessage, OpenAiPrompt, add_message
from tallygate.dialects.openai_required import required, required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.ordinary_chat import ordinary_chat_facts
from tallygate.dialects.prompt_parts import json_text
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.service_tiers import tier_conditions
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

CHOICES_MAX: Final = 1024  # answers that one request may ask for; OpenAI's own bound is 128

OutputTokens = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)]
ToolCalls = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    messages: list[ChatMessage] | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: OutputTokens | None = None
    max_tokens: OutputTokens | None = None
    n: Choices | None = None
    best_of: Choices | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: msgspec.Raw = msgspec.Raw()
    modalities: list[Any] | None = None
    prediction: Any = None
    web_search_options: Any = None
    service_tier: Any = None
    max_tool_calls: ToolCalls | None = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    auto_routing: bool | None = None
    model_family: str | None = None


class ChatOutline(msgspec.Struct, gc=False):
    """The names of the messages' members; their values are skipped."""

    messages: list[dict[str, msgspec.Raw]] | None = None


# Members of inner objects that decide how a part is read.
_INSIDE: Final = (
    *("role", "content", "name", "tool_calls", "function_call", "refusal", "reasoning_content", "audio", "include_usage"),
    *("type", "text", "image_url", "url", "detail", "input_audio", "file", "file_data", "filename", "data", "function"),
)
_MEMBERS: Final = RequestMembers(ChatRequest, inside=_INSIDE)
# Members that make services of this shape search for the model: OpenAI, OpenRouter, xAI, Qwen, Mistral and others.
_SEARCHES: Final = keys_of(
    {
        "web_search_options",
        "plugins",
        "search_parameters",
        "enable_search",
        "search_options",
        "web_search",
        "connectors",
        "grounding",
    }
    | {"retrieval", "data_sources", "extra_body"}
)
# Mistral's Voxtral bills audio by the second. mistral.ai/news/voxtral: 40 minutes fit into its context of 32,768 tokens, of which a
# second takes 12.5 (arXiv 2507.13264).
_BY_THE_SECOND: Final = "voxtral"
AUDIO_SECONDS_MAX: Final = 2_622
# The least maximum of OpenAI's Responses API, which OpenRouter uses for its models ("integer below minimum value. Expected a value
# >= 16"): it raises a lower one, and generates and bills up to this.
_RAISED_TO: Final = 16
_AT_OPENROUTER: Final = "openai/"
# In the names of OpenAI's models that search before each answer ("Web search", "Chat Completions"): gpt-4o-search-preview.
_SEARCH_MODEL: Final = "-search-"


def _is_plain_name(model: str | None) -> bool:
    """Whether a model's name says nothing about the request but its price."""
    return model is not None and _SEARCH_MODEL not in model and not model.startswith(_AT_OPENROUTER)


def _calls_max(request: ChatRequest, tools: list[dict[str, Any]], *, searches: bool) -> dict[str, int]:
    """The most that a chat request can cause of what is billed by the call. A request that just searches does so once."""
    calls = billed_calls_max(tools, model=request.model, max_tool_calls=request.max_tool_calls)
    return {Unit.WEB_SEARCH: 1, **calls} if searches else calls


class OpenAiChat(OpenAiShape):
    """POST /v1/chat/completions."""

    name = "openai_chat"
    default_maximum = "max_completion_tokens"  # the member that bounds the output if the request has none
    adds_unknown_input = False  # the provider itself adds text to every prompt
    needs_messages = True

    def __init__(self) -> None:
        self._outlines = msgspec.json.Decoder(ChatOutline)
        self._answers = msgspec.json.Decoder(ChoicesBody)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a chat request. The larger of two maxima bounds it: OpenAI refuses both together, other services obey either."""
        del path, query
        ordinary = None if self.adds_unknown_input else ordinary_chat_facts(body)
        if ordinary is not None and _is_plain_name(ordinary.model):
            return ordinary
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        model, model_family = self._model(request)
        messages = required(request.messages, "messages") if self.needs_messages else request.messages or ()
        draft = OpenAiPrompt()
        for message in messages:
            add_message(draft, message)
        draft.add_tools(request.tools)
        draft.add_tools(request.functions)
        draft.add_raw_schema(request.response_format)
        draft.add_text(request.prediction)
        draft.add_text(request.web_search_options)
        _MEMBERS.add_unknown(parsed, draft)
        for members in self._outlines.decode(body).messages or ():
            draft.add_raw_unknown_members(members, MESSAGE_MEMBERS)
        searches = not parsed.keys.isdisjoint(_SEARCHES) or (model is not None and _SEARCH_MODEL in model)
        tools = hosted_tools(request.tools) if request.tools else []
        if searches or tools:
            draft.add_unseen()
        references = body_references(parsed)
        is_long_cached = is_kept_long(parsed, request.prompt_cache_retention)
        maxima = [given for given in (request.max_completion_tokens, request.max_tokens) if given]  # 0 is none
        maximum = max(maxima, default=None)
        if maximum is not None and maximum < _RAISED_TO and model is not None and model.startswith(_AT_OPENROUTER):
            maximum = _RAISED_TO
        calls = _calls_max(request, tools, searches=searches) if searches or tools else {}
        if draft.audio_input and model is not None and model.rpartition("/")[2].startswith(_BY_THE_SECOND):
            calls = {**calls, Unit.AUDIO_SECOND: AUDIO_SECONDS_MAX}
        return RequestFacts(
            model=model,
            model_family=model_family,
            prompt=draft.shape(),
            stream=request.stream is True,
            max_output_tokens=maximum,
            choices=max(request.n or 1, request.best_of or 1),
            client_asks_usage=request.stream_options is not None and request.stream_options.include_usage is True,
            units=units_of(
                cache_write_5m=True,  # prompts are cached unasked
                cache_write_1h=is_long_cached,
                audio_input=draft.audio_input,
                audio_output="audio" in (request.modalities or ()),
                image_input=bool(draft.images),
                image_output="image" in (request.modalities or ()),
            ),
            conditions=tier_conditions(request.service_tier),
            calls=calls,
            has_unknown_input=self.adds_unknown_input or draft.has_unknown_input(references),
            has_unseen_input=self.adds_unknown_input or draft.has_unseen_input,
            predicted="" if request.prediction is None else json_text(request.prediction),
            references=references,
        )

    def _model(self, request: ChatRequest) -> tuple[str | None, str | None]:
        """The requested model and Gloo's family; here a model is required."""
        return required_model(request.model), None

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """Set stream_options.include_usage and the maximum in `body` if requested; every other byte stays."""
        if ask_usage and facts.stream and not facts.client_asks_usage:
            body = with_member(body, ("stream_options", "include_usage"), b"true")
        if max_output_tokens is not None:
            body = self._with_maximum(body, max_output_tokens)
        return body

    def _with_maximum(self, body: bytes, max_output_tokens: int) -> bytes:
        """Set the maximum under the name that the request uses; if it uses two, under both: services differ in which they obey."""
        request = _MEMBERS.decode(body)
        given = {"max_completion_tokens": request.max_completion_tokens, "max_tokens": request.max_tokens}
        named = {name: maximum or max_output_tokens for name, maximum in given.items() if maximum is not None}
        for name, maximum in (named or {self.default_maximum: max_output_tokens}).items():
            body = with_member(body, (name,), b"%d" % min(maximum, max_output_tokens))
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: ChoicesStreamMeter(self._answers, facts, hides=hide_usage_chunk),
            whole=lambda: ChoicesJsonMeter(self._answers, facts),
        )
