"""Anthropic's older Text Completions, `/v1/complete`. Its answers never report usage, so all of it is counted here.

Sources: Anthropic's API reference, "Create a Text Completion", and "Versions": since 2023-06-01 each event of a stream is named and
has the next piece; before, events had no name, and each had the whole text so far.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.anthropic_request import required_model
from tallygate.dialects.body import with_member
from tallygate.dialects.dialect import RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.lenient import lenient_decode, name_or_none
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.prompt_parts import PromptParts
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.sse import SseEvent
from tallygate.domain.usage import TOKENS_MAX


class CompleteRequest(msgspec.Struct, gc=False):
    """The request fields acted on."""

    model: str | None = None
    prompt: str | None = None
    max_tokens_to_sample: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stream: bool | None = None


class CompleteBody(msgspec.Struct, gc=False):
    """An event, or a whole answer: the fields acted on, each open to any value."""

    type: Any = None
    completion: Any = None
    stop_reason: Any = None
    model: Any = None
    error: Any = None


_MEMBERS: Final = RequestMembers(CompleteRequest)


class AnthropicComplete(AnthropicMessages):
    """POST /v1/complete, streamed or whole."""

    name = "anthropic_complete"
    usage_reporting = UsageReporting.NOT_PROMISED

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        super().__init__()
        self._answers = msgspec.json.Decoder(CompleteBody)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a text completion."""
        del path, query
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        parts = PromptParts(messages=1)
        parts.add_text(request.prompt)
        _MEMBERS.add_unknown(parsed, parts)
        references = body_references(parsed)
        return RequestFacts(
            model=required_model(request.model),
            prompt=parts.shape(),
            stream=request.stream is True,
            max_output_tokens=min(request.max_tokens_to_sample, TOKENS_MAX) if request.max_tokens_to_sample else None,  # 0 is none
            has_unknown_input=parts.has_unknown_input(references),
            references=references,
        )

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """Set the maximum in `body` if one is given; usage cannot be asked for."""
        del facts, ask_usage
        return body if max_output_tokens is None else with_member(body, ("max_tokens_to_sample",), b"%d" % max_output_tokens)

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: CompleteEventMeter(self._answers),
            whole=lambda: CompleteJsonMeter(self._answers),
        )


class CompleteEventMeter(EventStreamMeter):
    """Reads `completion` events; the one with a stop reason is the last."""

    __slots__ = ("_chars", "_decoder")

    def __init__(self, decoder: "msgspec.json.Decoder[CompleteBody]") -> None:
        super().__init__()
        self._decoder = decoder
        self._chars = 0  # of the text so far, if each event has all of it

    def _read(self, event: SseEvent) -> bytes:
        reading = self.reading
        parsed = lenient_decode(event.data, self._decoder)
        if parsed is None:
            reading.failed |= event.name == b"error"
            if event.data.strip() != b"[DONE]":
                reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        reading.failed |= bool(parsed.error) or event.name == b"error"
        reading.response_model = name_or_none(parsed.model) or reading.response_model
        text = parsed.completion
        if isinstance(text, str):
            add_text(reading, text if event.name else text[self._chars :])
            self._chars = max(self._chars, len(text))
        reading.ended |= isinstance(parsed.stop_reason, str)
        return event.raw


class CompleteJsonMeter(JsonMeter):
    """Reads a completion that is not streamed."""

    __slots__ = ("_decoder",)

    def __init__(self, decoder: "msgspec.json.Decoder[CompleteBody]") -> None:
        super().__init__()
        self._decoder = decoder

    def _read(self, body: bytes) -> bool:
        parsed = lenient_decode(body, self._decoder)
        if parsed is None:
            return False
        reading = self.reading
        reading.ended = True
        reading.failed = parsed.type == "error" or bool(parsed.error)
        reading.response_model = name_or_none(parsed.model)
        add_text(reading, parsed.completion)
        return True
