"""Meters of the Gemini API: for events, an array sent in pieces, or one object."""

from typing import Any, Final

import msgspec

from tallygate.dialects.counts import CLAMPED, INCONSISTENT, lenient_count, token_counts
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.image_size import base64_bytes
from tallygate.dialects.json_objects import JsonObjects
from tallygate.dialects.lenient import items_of, lenient_decode, lenient_json_text, member, name_or_none
from tallygate.dialects.meters import EVENT_GIVEN_UP, EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.sse import SseEvent
from tallygate.domain.token_counts import TokenCounts

IMAGE_OUTPUT: Final = "image_output"  # images were generated; some models have a price of their own for their tokens

# Google, "Gemini Developer API pricing": an image of up to 1024 x 1024 px is 1,290 output tokens (Gemini 2.5), one of 1K or 2K
# 1,120 (Gemini 3). Sound comes as 16-bit samples, 24,000 a second ("Speech generation"), at 25 tokens a second.
IMAGE_TOKENS: Final = 1_290
SOUND_BYTES_PER_TOKEN: Final = 2 * 24_000 // 25

_PIECE_VALUES: Final = ("stringValue", "numberValue", "boolValue")
_COUNTS: Final = frozenset({"promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"})


class GeminiAnswer(msgspec.Struct, gc=False):
    """A GenerateContentResponse, whole or a piece of a stream."""

    candidates: Any = None
    usageMetadata: Any = None  # noqa: N815 - the wire's name
    modelVersion: Any = None  # noqa: N815
    promptFeedback: Any = None  # noqa: N815
    error: Any = None


class GeminiAnswers:
    """Reads answer after answer into one reading. The answer has ended when every candidate has a finish reason."""

    __slots__ = ("_candidates", "_decoder", "_finished", "_has_output", "_reading")

    def __init__(self, reading: MeterReading, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        self._reading = reading
        self._decoder = decoder
        self._candidates = facts.choices
        self._has_output = facts.has_output
        self._finished: set[int] = set()

    def read_answer(self, data: bytes) -> bool:
        """Read one answer; False if it cannot be read."""
        answer = lenient_decode(data, self._decoder)
        if answer is None:
            return False
        reading = self._reading
        for candidate in items_of(answer.candidates):
            self._read_candidate(candidate)
        if member(answer.promptFeedback, "blockReason"):
            reading.ended = True  # the prompt was blocked: there will be no candidate
        if isinstance(answer.usageMetadata, dict):
            self._read_usage(answer.usageMetadata)
        if reading.response_model is None:
            reading.response_model = name_or_none(answer.modelVersion)
        if answer.error:
            reading.failed = True
        return True

    def _read_candidate(self, candidate: object) -> None:
        if not isinstance(candidate, dict):
            return
        for part in items_of(member(candidate.get("content"), "parts")):
            if isinstance(part, dict):
                self._add_part(part)
        finish = candidate.get("finishReason")
        if finish is not None and finish not in ("", "FINISH_REASON_UNSPECIFIED") and not self._reading.ended:
            index = candidate.get("index")
            self._finished.add(index if isinstance(index, int) else 0)  # proto JSON may leave out a zero
            self._reading.ended = len(self._finished) >= self._candidates

    def _add_part(self, part: dict[str, Any]) -> None:
        reading = self._reading
        add_text(reading, part.get("text"))
        if "functionCall" in part:
            _read_call(reading, part["functionCall"])
        if "executableCode" in part:
            add_text(reading, member(part["executableCode"], "code"))
        if "inlineData" in part:
            reading.media_tokens += _media_tokens(part["inlineData"])
            reading.has_text_after_usage = True

    def _read_usage(self, usage: dict[str, Any]) -> None:
        """Apply a usage object. Only the last one counts, with its flags: some streams end with smaller counts than they begin."""
        if usage.keys().isdisjoint(_COUNTS):
            return
        flags = self._reading.flags
        if flags:
            flags.discard(CLAMPED)
            flags.discard(INCONSISTENT)
        counts = _usage_counts(usage, flags)
        if counts.completion and not self._has_output:  # embeddings have only input, even if only the total shows it
            counts = TokenCounts(prompt=counts.total, cached=counts.cached, audio_prompt=counts.audio_prompt)
        self._reading.usage = counts
        self._reading.is_usage_midstream, self._reading.has_text_after_usage = not self._reading.ended, False


def _usage_counts(usage: dict[str, Any], flags: set[str]) -> TokenCounts:
    """Counts in the normal form. Thoughts are beside the candidates, tool results beside the prompt, cached tokens inside it."""
    get = usage.get
    thoughts = lenient_count(get("thoughtsTokenCount"), flags) or 0
    tool_use = lenient_count(get("toolUsePromptTokenCount"), flags) or 0
    audio_prompt = audio_completion = 0
    if get("promptTokensDetails") or get("toolUsePromptTokensDetails"):
        audio_prompt = _of_modality(get("promptTokensDetails"), "AUDIO", flags)
        audio_prompt += _of_modality(get("toolUsePromptTokensDetails"), "AUDIO", flags)
        audio_prompt -= min(_of_modality(get("cacheTokensDetails"), "AUDIO", flags), audio_prompt)  # charged as cached
    if get("candidatesTokensDetails"):
        audio_completion = _of_modality(get("candidatesTokensDetails"), "AUDIO", flags)
        if _of_modality(get("candidatesTokensDetails"), "IMAGE", flags):
            flags.add(IMAGE_OUTPUT)
    return token_counts(
        flags,
        prompt=(lenient_count(get("promptTokenCount"), flags) or 0) + tool_use,
        completion=(lenient_count(get("candidatesTokenCount"), flags) or 0) + thoughts,
        total=get("totalTokenCount"),
        cached=get("cachedContentTokenCount"),
        audio_prompt=audio_prompt,
        reasoning=thoughts,
        audio_completion=audio_completion,
    )


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


def _media_tokens(blob: object) -> int:
    """Tokens of one generated image or piece of sound."""
    kind, data = member(blob, "mimeType"), member(blob, "data")
    if not isinstance(kind, str) or not isinstance(data, str):
        return 0
    if kind.startswith("image/"):
        return IMAGE_TOKENS
    return base64_bytes(data) // SOUND_BYTES_PER_TOKEN if kind.startswith("audio/") else 0


def _of_modality(details: object, modality: str, flags: set[str]) -> int:
    """Tokens of one modality in a list of [{modality, tokenCount}]."""
    tokens = 0
    for each in items_of(details):
        if isinstance(each, dict) and each.get("modality") == modality:
            tokens += lenient_count(each.get("tokenCount"), flags) or 0
    return tokens


class GeminiEventMeter(EventStreamMeter):
    """Reads an event stream (`alt=sse`), which ends only with the finish reason."""

    __slots__ = ("_answers",)

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[GeminiAnswer]") -> None:
        super().__init__()
        self._answers = GeminiAnswers(self.reading, facts, decoder)

    def _read(self, event: SseEvent) -> bytes:
        if not self._answers.read_answer(event.data):
            self.reading.flags.add(EVENT_UNREADABLE)
        return event.raw


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
        if self._objects.is_closed:
            self.reading.ended = True
        if self._objects.gave_up:
            self.reading.flags.add(EVENT_GIVEN_UP)
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

    def _read(self, body: bytes) -> bool:
        is_read = self._answers.read_answer(body)
        self.reading.ended |= is_read
        return is_read
