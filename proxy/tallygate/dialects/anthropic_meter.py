"""Meters of Anthropic's Messages API."""

from typing import Any, Final, Literal

import msgspec

from tallygate.dialects.anthropic_usage import AnthropicUsage
from tallygate.dialects.counts import IMPOSSIBLE
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.lenient import items_of, lenient_decode, lenient_json_text, member, name_or_none
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.ordinary_choices import fitting
from tallygate.dialects.repeated_chunk import RepeatedChunk
from tallygate.dialects.sse import SseEvent

_PATTERNS_MAX: Final = 4  # of a stream: each content block has another, of which most answers have one
_OPENING: Final = b'"text":"'  # of the text of a piece
_FRAMES: Final = (b"event: content_block_delta\ndata: ", b"data: ")


class AnthropicEvent(msgspec.Struct, gc=False):
    """One event of a stream, or a whole message: their members do not collide."""

    type: Any = None
    message: Any = None
    delta: Any = None
    usage: Any = None
    content_block: Any = None
    error: Any = None
    model: Any = None
    content: Any = None
    stop_reason: Any = None


class _TextDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: Literal["text_delta"]
    text: str


class _TextPiece(msgspec.Struct, gc=False):
    type: Literal["content_block_delta"]
    delta: _TextDelta


_TEXT_PIECES: Final = msgspec.json.Decoder(_TextPiece)


class AnthropicEventMeter(EventStreamMeter):
    """Reads message_start, content blocks and message_delta; message_stop is the end."""

    __slots__ = ("_decoder", "_patterns_left", "_repeated", "_usage")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[AnthropicEvent]") -> None:
        super().__init__()
        self._decoder = decoder
        self._usage = AnthropicUsage(facts)
        self._repeated: RepeatedChunk | None = None  # a piece of text, whose repetition is expected
        self._patterns_left = _PATTERNS_MAX

    def feed(self, data: bytes) -> bytes:
        """Read bytes: a piece that repeats one before it in all but its text at once, and all else event by event."""
        repeated = self._repeated
        if repeated is not None and (again := repeated.read(data)) is not None and self._parser.is_between_events:
            add_text(self.reading, again[0])
            return data
        is_expected = repeated is not None and repeated.begins(data)  # with a text that has escapes
        if self._patterns_left and not is_expected and self._parser.is_between_events and _text_of_piece(data) is not None:
            self._patterns_left -= 1
            self._repeated = RepeatedChunk.of(data, opening=_OPENING, text_of=_text_of_piece) or repeated
        return super().feed(data)

    def _read(self, event: SseEvent) -> bytes:
        reading = self.reading
        parsed = lenient_decode(event.data, self._decoder)
        if parsed is None:
            reading.failed |= event.name == b"error"
            reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        match parsed.type:
            case "content_block_delta":
                _add_block_text(reading, parsed.delta)
            case "content_block_start":
                _add_block_text(reading, parsed.content_block)
                self._usage.note_block(parsed.content_block, reading)
            case "message_start":
                reading.response_model = name_or_none(member(parsed.message, "model")) or reading.response_model
                self._usage.update(member(parsed.message, "usage"), reading)
                reading.awaits_final_usage = True
            case "message_delta":
                self._usage.note_stop(member(parsed.delta, "stop_reason"), reading)
                self._update(parsed.usage)
            case "message_stop":
                self._update(parsed.usage)  # none at Anthropic; some that speak its dialect put it here
                reading.ended = True
            case _:
                reading.failed |= parsed.type == "error" or bool(parsed.error) or event.name == b"error"
        return event.raw

    def _update(self, usage: object) -> None:
        """Take a usage, which is the last word if it has output, or has none of an answer without text."""
        reading = self.reading
        has_output, is_stated = self._usage.update(usage, reading), member(usage, "output_tokens") is not None
        if has_output or (is_stated and not (reading.has_text_after_usage or reading.calls)):
            reading.awaits_final_usage = reading.has_text_after_usage = False
        elif is_stated and reading.awaits_final_usage:
            reading.flags.add(IMPOSSIBLE)


class AnthropicJsonMeter(JsonMeter):
    """Reads a message that is not streamed."""

    __slots__ = ("_decoder", "_usage")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[AnthropicEvent]") -> None:
        super().__init__()
        self._decoder = decoder
        self._usage = AnthropicUsage(facts)

    def _read(self, body: bytes) -> bool:
        reading = self.reading
        parsed = lenient_decode(body, self._decoder)
        if parsed is None:
            return False
        reading.ended = True
        reading.failed = parsed.type == "error" or bool(parsed.error)
        reading.response_model = name_or_none(parsed.model)
        for block in items_of(parsed.content):
            _add_block_text(reading, block)
            self._usage.note_block(block, reading)
        self._usage.note_stop(parsed.stop_reason, reading)
        self._usage.update(parsed.usage, reading)
        return True


def _text_of_piece(event: bytes) -> str | None:
    """The text of one event that is a piece of text and nothing else; None for any other bytes."""
    if event.find(_OPENING) < 0:
        return None
    frame = next((frame for frame in _FRAMES if event.startswith(frame)), b"")
    payload = event[len(frame) : -2]
    if not frame or event[-2:] != b"\n\n" or payload.find(b"\n") >= 0 or payload.find(b"\r") >= 0:
        return None
    piece = fitting(payload, _TEXT_PIECES)
    return None if piece is None else piece.delta.text


def _add_block_text(reading: MeterReading, block: object) -> None:
    """Add the text of a content block, or of a piece of one."""
    if not isinstance(block, dict):
        return
    add_text(reading, block.get("text"))
    add_text(reading, block.get("thinking"))
    add_text(reading, block.get("partial_json"))
    tool = block.get("name")
    if isinstance(tool, str):
        reading.calls += 1
        add_text(reading, tool)
    arguments = block.get("input")
    if arguments:  # a tool's, in a message that is not streamed; a stream begins with {} and sends partial_json
        add_text(reading, lenient_json_text(arguments))
    add_text(reading, block.get("content"))  # a compaction's summary; results of tools, which are input, come as lists and objects
