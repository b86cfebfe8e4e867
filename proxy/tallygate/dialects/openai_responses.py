"""OpenAI's Responses API. The usage is in the response object, streamed or not; no option asks for it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.billed_members import MEMBERS, read_billed
from tallygate.dialects.body import with_member
from tallygate.dialects.dialect import JobKind, MeterReading, OtherModel, RequestFacts, ResponseMeter, UsageReporting, units_of
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.hosted_tools import BILLED_ITEMS, CALLS_MAX, CallItems, billed_calls_max, hosted_tools, image_models
from tallygate.dialects.lenient import items_of, lenient_decode, lenient_json_text, member, name_or_none
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.openai_caching import is_kept_long
from tallygate.dialects.openai_chat import OutputTokens, ToolCalls
from tallygate.dialects.openai_choices import DONE_BYTES_MAX
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import body_references, item_reference
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.service_tiers import implied_tier, note_tier, tier_conditions
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.stated_usage import RESPONSES, StatedUsage
from tallygate.domain.errors import Refusal, RequestRejectedError
from tallygate.domain.prompt import ImageInput
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.unit import Unit

_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_RUNS_ON: Final = frozenset({"queued", "in_progress"})  # statuses of a complete answer after which more is generated
_TEXT_FIELDS: Final = ("arguments", "input", "code", "revised_prompt")
_OBJECT_FIELDS: Final = ("arguments", "action", "operation", "queries")  # of tools that run at the provider
_FOUND: Final = "sources"  # in a search's action: its results, which are input
_NO_PLACE: Final = -1  # for an event that does not name its item
ITEMS_STREAMED_MAX: Final = 1024  # items tracked as coming in pieces; the ends of further items are not read


class TextFormat(msgspec.Struct, gc=False):
    format: msgspec.Raw = msgspec.Raw()


class ResponsesRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    model: str | None = None
    input: str | list[Any] | None = None
    instructions: str | list[Any] | None = None
    stream: bool | None = None
    max_output_tokens: OutputTokens | None = None
    tools: list[msgspec.Raw] | None = None
    max_tool_calls: ToolCalls | None = None
    service_tier: Any = None
    text: TextFormat | None = None
    modalities: list[Any] | None = None
    background: bool | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    truncation: Any = None
    context_management: Any = None
    auto_routing: bool | None = None
    model_family: str | None = None


ADDED_TOKENS: Final = 24  # a prompt without tools was seen to have 18 tokens beyond its texts

_INSIDE: Final = (
    *(
        "role",
        "content",
        "type",
        "text",
        "refusal",
        "image_url",
        "detail",
        "input_audio",
        "data",
        "filename",
        "file_data",
        "file_url",
    ),
    *("output", "summary", "encrypted_content", "arguments", "call_id", "format"),
)
_MEMBERS: Final = RequestMembers(ResponsesRequest, inside=_INSIDE)


class OpenAiResponses(OpenAiShape):
    """POST /v1/responses."""

    name = "openai_responses"
    usage_reporting = UsageReporting.ALWAYS
    query_values: Mapping[str, re.Pattern[str]] = {
        **OpenAiShape.query_values,
        "beta": re.compile(r"true|false"),  # of the SDKs' `client.beta.responses`
    }
    adds_unknown_input = False  # the provider itself adds text to every prompt
    has_background = True  # OpenAI, "Background mode"; Azure OpenAI, "Responses API"

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(ResponsesBody)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a Responses request. Stored context (an earlier response, a conversation, a prompt template) is unseen input."""
        del path, query
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        model, model_family = self._model(request)
        if request.background and not self.has_background:
            raise RequestRejectedError("This API has no background responses: leave out 'background'.", param="background")
        draft = OpenAiPrompt()
        for given in (request.instructions, request.input):
            if isinstance(given, str):
                draft.messages += 1
                draft.add_text(given)
            for item in items_of(given):
                add_item(draft, item)
        draft.add_tools(request.tools)
        if request.text is not None:
            draft.add_raw_schema(request.text.format)
        draft.add_text(request.context_management)
        compacts = bool(request.context_management) or any(member(item, "type") == _TRIGGER for item in items_of(request.input))
        if request.previous_response_id is not None or request.conversation is not None:
            if compacts:
                draft.add_unseen()  # read twice, which a recorded size does not show
            else:
                draft.add_referred()
        if request.prompt is not None:  # a template, made elsewhere
            draft.add_unseen()
        _MEMBERS.add_unknown(parsed, draft)
        tools = hosted_tools(request.tools) if request.tools else []
        is_unseen = self.adds_unknown_input or draft.has_unseen_input or bool(tools)
        references = tuple(dict.fromkeys((*body_references(parsed), *_stored_items(request.input))))
        return RequestFacts(
            model=model,
            model_family=model_family,
            is_any_model=model is None and request.prompt is not None,
            prompt=draft.shape(),
            stream=request.stream is True,
            choices=2 if compacts else 1,  # OpenAI, "Compaction": the context is summarized first, within the same request
            prompt_reads=2 if compacts else 1,
            window_reads=2 if compacts else 1,
            max_output_tokens=request.max_output_tokens or None,  # 0 is none
            units=units_of(
                cache_write_5m=True,  # prompts are cached unasked
                cache_write_1h=is_kept_long(parsed, request.prompt_cache_retention),
                audio_input=draft.audio_input,
                audio_output="audio" in (request.modalities or ()),
                image_input=bool(draft.images),
            ),
            conditions=tier_conditions(request.service_tier),
            calls=_calls_max(request, tools),
            other_models=_image_models(request, tools, images_in=len(draft.images)),
            added_tokens=ADDED_TOKENS,
            has_unknown_input=is_unseen or draft.has_unknown_input(references),
            has_unseen_input=is_unseen,
            references=references,
            is_cut_upstream=compacts or request.truncation not in (None, "disabled"),
            job_kind=JobKind.RESPONSE if request.background else None,
        )

    def _model(self, request: ResponsesRequest) -> tuple[str | None, str | None]:
        """The requested model and Gloo's family. A stored prompt may name the model, which is then unknown here."""
        return (required_model(request.model) if request.prompt is None else request.model or None), None

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """Set the maximum in `body` if requested; usage comes unasked."""
        del facts, ask_usage
        return body if max_output_tokens is None else with_member(body, ("max_output_tokens",), b"%d" % max_output_tokens)

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk  # nothing was asked for, so nothing is hidden
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: ResponsesStreamMeter(self._answers, facts),
            whole=lambda: ResponsesJsonMeter(self._answers, facts),
        )

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """An `error` event, with its members both where the Responses reference has them and where SDKs look for an error."""
        error = self.error_object(refusal) | {"request_id": request_id}
        event = {
            "type": "error",
            "code": error["code"],
            "message": error["message"],
            "param": error["param"],
            "sequence_number": 0,
            "error": error,
        }
        return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


def _calls_max(request: ResponsesRequest, tools: list[dict[str, Any]]) -> dict[str, int]:
    """The most that a request can cause of what is billed by the call. A stored prompt may have tools that it does not show."""
    calls = billed_calls_max(tools, model=request.model, max_tool_calls=request.max_tool_calls) if tools else {}
    if request.prompt is not None and request.model:
        most = request.max_tool_calls or CALLS_MAX
        calls = {Unit.WEB_SEARCH: most, Unit.FILE_SEARCH: most, Unit.CODE_CONTAINER: 1, **calls}
    return calls


def _image_models(request: ResponsesRequest, tools: list[dict[str, Any]], *, images_in: int) -> tuple[OtherModel, ...]:
    if not tools:
        return ()
    return image_models(tools, model=request.model, max_tool_calls=request.max_tool_calls, images_in=images_in)


_MESSAGE: Final = frozenset({"content"})
_OUTPUT: Final = frozenset({"output"})
_REASONING: Final = frozenset({"summary", "content", "encrypted_content"})
_TRIGGER: Final = "compaction_trigger"  # the last item of an input: "compacts the current context"
_TRIGGERING: Final = frozenset({"type", "id"})


def _stored_items(given: object) -> list[StoredReference]:
    """The items of an input that the provider looks up by their ids."""
    found = [item_reference(item) for item in items_of(given) if isinstance(item, dict)]
    return [reference for reference in found if reference is not None]


def add_item(draft: OpenAiPrompt, item: object) -> None:
    """Add one item of a Responses input: a message, a call and its output, or reasoning that is sent back."""
    if not isinstance(item, dict):
        draft.add_text(item)
        return
    kind = item.get("type")
    if kind == "message" or (kind is None and item.get("role") is not None):
        draft.messages += 1
        draft.add_content(item.get("content"))
        draft.add_unknown_members(item, _MESSAGE)
    elif kind in ("function_call", "custom_tool_call"):
        draft.messages += 1
        draft.add_json(item)  # as in chat completions, where calls are counted with everything around them
    elif kind in ("function_call_output", "custom_tool_call_output"):
        draft.messages += 1
        draft.add_content(item.get("output"))
        draft.add_unknown_members(item, _OUTPUT)
    elif kind == "reasoning":
        draft.messages += 1
        draft.add_content(item.get("summary"))
        draft.add_content(item.get("content"))
        encrypted = item.get("encrypted_content")
        draft.opaque_bytes += len(encrypted) if isinstance(encrypted, str) else 0
        draft.add_unknown_members(item, _REASONING)
        if item_reference(item) is not None:
            draft.add_referred()
    elif kind == "compaction" and isinstance(encrypted := item.get("encrypted_content"), str) and encrypted:
        draft.messages += 1
        draft.opaque_bytes += len(encrypted)  # a summarized context: nothing but its bytes is known
        draft.add_unknown_members(item, _REASONING)
    elif kind == _TRIGGER:
        draft.add_unknown_members(item, _TRIGGERING)
    elif kind == "computer_call_output":
        draft.add_image(item.get("output"))
        draft.add_unknown_members(item, _OUTPUT)
    else:  # a reference to a stored item, or the call of a tool that runs at the provider
        if kind == "image_generation_call":  # an image in base64, which is no text
            draft.images.append(ImageInput())
        else:
            draft.add_json(item)
        if item_reference(item) is not None:
            draft.add_referred()
        else:
            draft.add_unseen()


class ResponsesBody(msgspec.Struct, gc=False):
    """An event, or a response object: the fields acted on, each open to any value."""

    type: Any = None
    id: Any = None
    delta: Any = None
    item: Any = None
    output_index: Any = None
    response: Any = None
    object: Any = None
    status: Any = None
    model: Any = None
    usage: Any = None
    output: Any = None
    error: Any = None
    service_tier: Any = None
    tools: Any = None
    tool_usage: Any = None


class ResponsesStreamMeter(EventStreamMeter):
    """Reads typed events up to `response.completed`, `response.incomplete` or `response.failed`.

    The response object is nested under `response` or, at Gloo, is the event itself.
    """

    __slots__ = ("_calls", "_decoder", "_facts", "_streamed", "_usage")

    def __init__(self, decoder: "msgspec.json.Decoder[ResponsesBody]", facts: RequestFacts) -> None:
        super().__init__()
        self._decoder = decoder
        self._facts = facts
        self._calls: CallItems | None = None
        self._streamed: set[int] = set()  # places of items whose text came in pieces
        self._usage = StatedUsage(RESPONSES)

    def _read(self, event: SseEvent) -> bytes:
        data = event.data
        reading = self.reading
        if len(data) <= DONE_BYTES_MAX and data.strip() == b"[DONE]":
            reading.ended = True
            return event.raw
        body = lenient_decode(data, self._decoder)
        if body is None:
            reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        kind = body.type if isinstance(body.type, str) else event.name.decode(errors="replace")
        if body.delta is not None:
            if "audio.delta" not in kind and "_call_output" not in kind:  # base64, and results of a provider's tool
                add_text(reading, body.delta)
                if len(self._streamed) < ITEMS_STREAMED_MAX:
                    self._streamed.add(_place(body))
        elif kind == "response.output_item.added":
            if _is_call(body.item):
                reading.calls += 1
                add_text(reading, member(body.item, "name"))
                self._add_billed(body)
        elif kind == "response.output_item.done":
            self._add_billed(body)
            if self._streamed.isdisjoint((_place(body), _NO_PLACE)) and len(self._streamed) < ITEMS_STREAMED_MAX:
                _read_item_text(reading, body.item)
        elif kind == "error" or (body.error and body.response is None):
            reading.failed = True
        self._read_response(body, kind)
        return event.raw

    def _add_billed(self, body: ResponsesBody) -> None:
        """Count an item that tells of a billed call, at its beginning and at its end."""
        kind = member(body.item, "type")
        if isinstance(kind, str) and kind in BILLED_ITEMS:
            self._items().add(self.reading, body.item, _place(body))

    def _items(self) -> CallItems:
        if self._calls is None:
            self._calls = CallItems(self._facts)
        return self._calls

    def _read_response(self, body: ResponsesBody, kind: str) -> None:
        """Read a response object inside the event; the text of the answer was in the deltas."""
        reading = self.reading
        nested = body.response
        if isinstance(nested, dict):
            model, usage, status, error = nested.get("model"), nested.get("usage"), nested.get("status"), nested.get("error")
        else:
            model, usage, status, error = body.model, body.usage, body.status, body.error
        if model is not None:
            reading.response_model = name_or_none(model) or reading.response_model
        counts = None if usage is None else self._usage.add(usage, reading.flags)
        if counts is not None:
            reading.usage = counts
            reading.is_output_zero = self._usage.is_output_zero and reading.has_text_after_usage
            if self._usage.has_output:
                reading.has_text_after_usage = False
            if not MEMBERS.isdisjoint(self._usage.members):
                read_billed(reading, self._usage.members)
        is_whole_response = isinstance(nested, dict) or body.object == "response"
        if is_whole_response and self._facts.job_kind is not None:
            reading.job_id = name_or_none(nested.get("id") if isinstance(nested, dict) else body.id) or reading.job_id
        end = kind.removeprefix("response.")
        if end not in _ENDS and is_whole_response and isinstance(status, str):
            end = status
        if end in _ENDS:
            reading.ended = True
            reading.failed = reading.failed or end == "failed" or bool(error)
            reading.is_failure_counted = reading.failed and counts is not None
            if isinstance(nested, dict):
                self._read_last_words(nested.get("service_tier"), nested.get("tool_usage"), nested.get("tools"))
            else:
                self._read_last_words(body.service_tier, body.tool_usage, body.tools)

    def _read_last_words(self, tier: object, tool_usage: object, tools: object) -> None:
        """Read what the final response states; earlier ones repeat what was asked for."""
        if tier is not None and tier != implied_tier(self._facts):
            note_tier(self.reading, tier)
        if tool_usage is not None:
            self._items().state(self.reading, tool_usage, tools)


class ResponsesJsonMeter(JsonMeter):
    """Reads a whole response object."""

    __slots__ = ("_decoder", "_facts")

    def __init__(self, decoder: "msgspec.json.Decoder[ResponsesBody]", facts: RequestFacts) -> None:
        super().__init__()
        self._decoder = decoder
        self._facts = facts

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            return False
        reading = self.reading
        reading.ended = True
        reading.failed = bool(answer.error) or answer.status == "failed"
        reading.response_model = name_or_none(answer.model)
        billed = []
        for place, item in enumerate(items_of(answer.output)):
            if _is_call(item):
                reading.calls += 1
                add_text(reading, member(item, "name"))
                if member(item, "type") in BILLED_ITEMS:
                    billed.append((place, item))
            _read_item_text(reading, item)
        stated = StatedUsage(RESPONSES)
        reading.usage = stated.add(answer.usage, reading.flags)
        reading.is_failure_counted = reading.failed and reading.usage is not None
        if self._facts.job_kind is not None:
            reading.job_id = name_or_none(answer.id)
        reading.awaits_final_usage = self._runs_on(answer.status)
        reading.is_output_zero = stated.is_output_zero and reading.has_text_after_usage
        if billed or answer.tool_usage is not None:
            calls = CallItems(self._facts)
            for place, item in billed:
                calls.add(reading, item, place)
            calls.state(reading, answer.tool_usage, answer.tools)
        if answer.service_tier is not None and answer.service_tier != implied_tier(self._facts):
            note_tier(reading, answer.service_tier)
        if reading.usage is not None and not MEMBERS.isdisjoint(stated.members):
            read_billed(reading, stated.members)
        return True

    def _runs_on(self, status: object) -> bool:
        """Whether more is generated after this answer. One in the background does until it is said to have ended."""
        if self._facts.job_kind is None or self.reading.job_id is None:
            return isinstance(status, str) and status in _RUNS_ON
        return status not in _ENDS if isinstance(status, str) else self.reading.usage is None


def _place(body: ResponsesBody) -> int:
    return body.output_index if isinstance(body.output_index, int) else _NO_PLACE


def _is_call(item: object) -> bool:
    kind = member(item, "type")
    return isinstance(kind, str) and (kind.endswith("_call") or kind == "mcp_approval_request")


def _read_item_text(reading: MeterReading, item: object) -> None:
    """Read the generated text of an item, except a tool's name and a tool's results, which are input."""
    kind = member(item, "type")
    if not isinstance(item, dict) or (isinstance(kind, str) and kind.endswith("_output")):
        return
    for field in _TEXT_FIELDS:
        add_text(reading, item.get(field))
    for field in _OBJECT_FIELDS:
        given = item.get(field)
        if isinstance(given, dict) and _FOUND in given:
            given = {name: value for name, value in given.items() if name != _FOUND}
        if isinstance(given, dict | list) and given:
            add_text(reading, lenient_json_text(given))
    for parts in (item.get("content"), item.get("summary")):
        for part in items_of(parts):
            add_text(reading, member(part, "text"))
            add_text(reading, member(part, "refusal"))
