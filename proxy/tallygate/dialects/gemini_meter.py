"""Meters of the Gemini API: for events, an array sent in pieces, or one object."""

from typing import Any, Final

import msgspec

from tallygate.dialects.counts import TOTAL_ONLY
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.gemini_grounding import Grounding
from tallygate.dialects.gemini_tiers import TIER, stated_tier
from tallygate.dialects.gemini_usage import has_tool_results, states_modalities, without_tool_results
from tallygate.dialects.image_size import base64_bytes, base64_image_size
from tallygate.dialects.image_tokens import google_tokens
from tallygate.dialects.json_objects import JsonObjects
from tallygate.dialects.lenient import items_of, lenient_decode, lenient_json_text, member, name_or_none
from tallygate.dialects.meters import (
    BODY_TOO_LARGE,
    BODY_UNREADABLE,
    EVENT_GIVEN_UP,
    EVENT_UNREADABLE,
    EventStreamMeter,
    JsonMeter,
    add_text,
)
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.stated_usage import GEMINI, StatedUsage
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

# Sound comes as 16-bit samples, 24,000 a second ("Speech generation"), at 25 tokens a second.
SOUND_BYTES_PER_TOKEN: Final = 2 * 24_000 // 25

# The flag of an event whose results of tools are charged as input although those of a search are free: nothing tells them apart.
SEARCH_RESULTS_CHARGED: Final = "search_results_charged"

_PIECE_VALUES: Final = ("stringValue", "numberValue", "boolValue")


class GeminiAnswer(msgspec.Struct, gc=False):
    """A GenerateContentResponse, whole or a piece of a stream; also with names in the spelling of Google's libraries."""

    candidates: Any = None
    usageMetadata: Any = None  # noqa: N815 - the wire's name
    modelVersion: Any = None  # noqa: N815
    promptFeedback: Any = None  # noqa: N815
    error: Any = None
    usage_metadata: Any = None
    usage: Any = None
    model_version: Any = None
    prompt_feedback: Any = None


class GeminiAnswers:
    """Reads answer after answer into one reading. The answer has ended when every candidate has a finish reason."""

    __slots__ = ("_candidates", "_decoder", "_facts", "_finished", "_grounding", "_has_images", "_reading", "_usage")

    def __init__(self, reading: MeterReading, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        self._reading = reading
        self._decoder = decoder
        self._candidates = facts.choices
        self._facts = facts
        self._finished: set[int] = set()
        self._usage = StatedUsage(GEMINI)
        self._has_images = False
        self._grounding: Grounding | None = None
        if facts.calls:
            self._grounding = Grounding(facts.calls)
            reading.billed_calls = self._grounding.calls()

    def read_answer(self, data: bytes) -> bool:
        """Read one answer; False if it cannot be read."""
        answer = lenient_decode(data, self._decoder)
        if answer is None:
            return False
        reading = self._reading
        for candidate in items_of(answer.candidates):
            self._read_candidate(candidate)
        feedback = answer.promptFeedback or answer.prompt_feedback
        if feedback and (member(feedback, "blockReason") or member(feedback, "block_reason")):
            reading.ended = True  # the prompt was blocked: there will be no candidate
        usage = answer.usageMetadata or answer.usage_metadata or answer.usage
        if isinstance(usage, dict):
            self._read_usage(usage)
        if reading.response_model is None:
            reading.response_model = name_or_none(answer.modelVersion or answer.model_version)
        if answer.error:
            reading.failed = True
        return True

    def _read_candidate(self, candidate: object) -> None:
        if not isinstance(candidate, dict):
            return
        for part in items_of(member(candidate.get("content"), "parts")):
            if isinstance(part, dict):
                self._add_part(part)
        grounding = candidate.get("groundingMetadata") or candidate.get("grounding_metadata")
        if grounding:
            self._read_grounding(grounding)
        finish = candidate.get("finishReason")
        if finish is None:
            finish = candidate.get("finish_reason")
        if finish is not None and finish not in ("", "FINISH_REASON_UNSPECIFIED") and not self._reading.ended:
            index = candidate.get("index")
            self._finished.add(index if isinstance(index, int) else 0)  # proto JSON may leave out a zero
            self._reading.ended = len(self._finished) >= self._candidates

    def _add_part(self, part: dict[str, Any]) -> None:
        reading = self._reading
        add_text(reading, part.get("text"))
        for name, value in part.items():
            match name:
                case "functionCall" | "function_call":
                    _read_call(reading, value)
                case "executableCode" | "executable_code":
                    add_text(reading, member(value, "code"))
                case "inlineData" | "inline_data":
                    self._add_media(value)
                    reading.has_text_after_usage = True

    def _add_media(self, blob: object) -> None:
        """Add one generated image or piece of sound."""
        kind, data = member(blob, "mimeType") or member(blob, "mime_type"), member(blob, "data")
        if not isinstance(kind, str) or not isinstance(data, str):
            return
        if kind.startswith("image/"):
            self._has_images = True
            unit, tokens = Unit.OUTPUT_IMAGE, google_tokens(max(base64_image_size(data)))
        elif kind.startswith("audio/"):
            unit, tokens = Unit.OUTPUT_AUDIO, base64_bytes(data) // SOUND_BYTES_PER_TOKEN
        else:
            return
        media = self._reading.media_tokens
        media[unit] = media.get(unit, 0) + tokens

    def _read_grounding(self, metadata: object) -> None:
        if self._grounding is None:  # its tools stand in cached content, if anywhere
            self._grounding = Grounding(self._facts.calls)
        self._reading.billed_calls = self._grounding.add(metadata)

    def miss(self) -> None:
        """Note that a part of the answer cannot be read, which may have had anything in it that the request can cause."""
        if self._grounding is not None:
            self._reading.billed_calls = self._grounding.miss()

    def _read_usage(self, usage: dict[str, Any]) -> None:
        reading, flags = self._reading, self._reading.flags
        tier = stated_tier(usage)
        if tier is not None:
            reading.conditions[TIER] = tier
        if self._facts.are_results_free:
            usage = without_tool_results(usage)
        elif Unit.GROUNDING_QUERY in reading.billed_calls and has_tool_results(usage):
            flags.add(SEARCH_RESULTS_CHARGED)
        counts = self._usage.add(usage, flags)
        if counts is None:
            return
        if (
            counts.completion and not self._facts.has_output
        ):  # of an embedding everything is input, also where only the total says so
            flags.discard(TOTAL_ONLY)
            counts = counts.with_output_as_input(counts.completion)
        reading.usage = counts if not self._has_images or states_modalities(usage) else _output_as_images(counts)
        reading.is_output_zero = self._usage.is_output_zero and reading.has_text_after_usage
        reading.is_usage_midstream, reading.has_text_after_usage = not reading.ended, False


def _output_as_images(counts: Usage) -> Usage:
    """`counts` of an answer with images whose usage does not tell them from text."""
    return counts.with_moved(Unit.OUTPUT, Unit.OUTPUT_IMAGE, counts.of(Unit.OUTPUT))


def _read_call(reading: MeterReading, call: object) -> None:
    """Read a call or a piece of one: the first has the name, others have arguments by their paths ("streaming arguments")."""
    name = member(call, "name")
    if name:
        reading.calls += 1
        add_text(reading, name)
    arguments = member(call, "args")
    if arguments:
        add_text(reading, lenient_json_text(arguments))
    for piece in items_of(member(call, "partialArgs")):
        if not isinstance(piece, dict):
            continue
        path = piece.get("jsonPath")
        if isinstance(path, str) and not piece.get("willContinue"):  # the key, once for each value
            add_text(reading, path.rpartition(".")[2])
        for value_name in _PIECE_VALUES:
            value = piece.get(value_name)
            add_text(reading, value if isinstance(value, str) else None if value is None else lenient_json_text(value))


class GeminiEventMeter(EventStreamMeter):
    """Reads an event stream (`alt=sse`), which ends only with the finish reason."""

    __slots__ = ("_answers",)

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        super().__init__()
        self._answers = GeminiAnswers(self.reading, facts, decoder)

    def _read(self, event: SseEvent) -> bytes:
        if not self._answers.read_answer(event.data):
            self.reading.flags.add(EVENT_UNREADABLE)
            self._answers.miss()
        return event.raw

    def _settle(self) -> None:
        if EVENT_GIVEN_UP in self.reading.flags:
            self._answers.miss()


class GeminiArrayMeter:
    """Reads a JSON array that comes in pieces; its closing bracket also ends it."""

    __slots__ = ("_answers", "_objects", "reading")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        self.reading = MeterReading()
        self._objects = JsonObjects()
        self._answers = GeminiAnswers(self.reading, facts, decoder)

    def feed(self, data: bytes) -> bytes:
        for answer in self._objects.feed(data):
            if not self._answers.read_answer(answer):
                self.reading.flags.add(EVENT_UNREADABLE)
                self._answers.miss()
        if self._objects.is_closed:
            self.reading.ended = True
        if self._objects.gave_up and EVENT_GIVEN_UP not in self.reading.flags:
            self.reading.flags.add(EVENT_GIVEN_UP)
            self._answers.miss()
        return data

    def end_body(self) -> bytes:
        return b""


class GeminiJsonMeter(JsonMeter):
    """Reads an answer that is not streamed."""

    __slots__ = ("_answers",)

    usage_member = b"usageMetadata"

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        super().__init__()
        self._answers = GeminiAnswers(self.reading, facts, decoder)

    def end_body(self) -> bytes:
        shown = super().end_body()
        if not self.reading.flags.isdisjoint((BODY_TOO_LARGE, BODY_UNREADABLE)):
            self._answers.miss()
        return shown

    def _read(self, body: bytes) -> bool:
        is_read = self._answers.read_answer(body)
        self.reading.ended |= is_read
        return is_read
