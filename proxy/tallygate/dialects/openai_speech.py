"""OpenAI's speech: a text in, sound out, charged by the characters of the text, or by tokens.

OpenAI's API reference, "Create speech": only event streams (`stream_format: sse`) state their usage, in `speech.audio.done`. What a
plain answer of a model by tokens has come to is measured by the length of its sound.
"""

import math
import string
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.dialect import MeterReading, RequestFacts, ResponseMeter, UsageReporting, units_of
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.lenient import lenient_decode
from tallygate.dialects.meters import EventStreamMeter
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required, required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_usage import responses_counts
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.sound_frames import seconds_of_frames
from tallygate.dialects.sound_length import read_seconds
from tallygate.dialects.sse import SseEvent
from tallygate.domain.unit import Unit

# OpenAI, "Managing costs" of the Realtime API: of what a model says, one token for each 50 ms.
TOKENS_PER_SECOND: Final = 20
# Bounds of our own, as no page states one: a letter takes 0.15 seconds, a figure or a sign that is read out as a word 0.6;
# twice as long where instructions may ask for pauses.
LETTER_TOKENS: Final = 3
SIGN_TOKENS: Final = 12
LEAST_TOKENS: Final = 200
SPEED_MIN: Final = 0.25
SOUND_BYTES_KEPT: Final = 1 << 20  # of an answer, to be measured; what is longer is as dense as that, in formats that are
_LETTERS: Final = (string.ascii_letters + " ").encode()
# OpenAI, "Text to speech", "Supported output formats": samples at 24 kHz in 16 bits, without a head.
_PCM: Final = "audio/pcm"
_MP3: Final = "audio/mpeg"
_WAV: Final = ("audio/wav", "audio/x-wav", "audio/wave")
_PCM_BYTES_PER_SECOND: Final = 48_000


class SpeechRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    model: str | None = None
    input: str | None = None
    instructions: str | None = None
    speed: float | None = None
    stream_format: Any = None
    response_format: Any = None
    voice: Any = None


_MEMBERS: Final = RequestMembers(SpeechRequest)


class OpenAiSpeech(OpenAiShape):
    """POST /v1/audio/speech."""

    name = "openai_speech"
    usage_reporting = UsageReporting.NOT_PROMISED
    answers_media = True

    def __init__(self) -> None:
        self._events = msgspec.json.Decoder(dict[str, Any])

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a request. Each of its answers is relayed as it comes."""
        del path, query
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        model, text = required_model(request.model), required(request.input, "input")
        draft = OpenAiPrompt()
        _MEMBERS.add_unknown(parsed, draft)
        draft.add_text(text)
        draft.add_text(request.instructions)
        output = _output_max(request)
        return RequestFacts(
            model=model,
            prompt=draft.shape(),
            stream=True,
            max_output_tokens=output,
            output_min_tokens=output,  # no member could lower it
            units=units_of(audio_output=True),
            calls_instead={Unit.CHARACTER: len(text)},
            references=body_references(parsed),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: SpeechEvents(facts, self._events),
            whole=lambda: SoundMeter(facts, content_type),
            unread=lambda: SoundMeter(facts, content_type),
        )


class SpeechEvents(EventStreamMeter):
    """Reads the usage of `speech.audio.done`."""

    __slots__ = ("_decoder", "_facts")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[dict[str, Any]]") -> None:
        super().__init__()
        self._facts = facts
        self._decoder = decoder

    def _read(self, event: SseEvent) -> bytes:
        chunk = lenient_decode(event.data, self._decoder)
        if chunk is None:
            return event.raw
        kind, reading = chunk.get("type"), self.reading
        if chunk.get("error") or kind == "error":
            reading.failed = True
        elif kind == "speech.audio.done":
            reading.ended = True
            usage = chunk.get("usage")
            if isinstance(usage, dict) and not self._facts.is_by_calls:
                counts = responses_counts(usage, reading.flags)
                reading.usage = counts.with_moved(Unit.OUTPUT, Unit.OUTPUT_AUDIO, counts.of(Unit.OUTPUT))
        return event.raw


class SoundMeter:
    """Measures plain sound, if tokens of it are charged: of what can be read, the tokens of its length."""

    __slots__ = ("_bytes", "_content_type", "_is_measuring", "_kept", "reading")

    def __init__(self, facts: RequestFacts, content_type: str) -> None:
        self.reading = MeterReading()
        self._content_type = content_type.partition(";")[0].strip().lower()
        self._is_measuring = not facts.is_by_calls
        self._bytes = 0
        self._kept = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._is_measuring and len(self._kept) < SOUND_BYTES_KEPT:
            self._kept += data[: SOUND_BYTES_KEPT - len(self._kept)]
        return data

    def end_body(self) -> bytes:
        self.reading.ended = True
        if self._kept:
            seconds = self._seconds(bytes(self._kept))
            self._kept.clear()
            if seconds:
                tokens = math.ceil(round(seconds * TOKENS_PER_SECOND, 3))
                self.reading.media_tokens[Unit.OUTPUT_AUDIO] = max(tokens, 1)
                self.reading.is_measured = True
        return b""

    def _seconds(self, sound: bytes) -> float | None:
        """The seconds of the whole answer; None if they cannot be measured. sound: as much of it as was kept."""
        kind = self._content_type
        if kind == _PCM:
            return self._bytes / _PCM_BYTES_PER_SECOND
        if len(sound) == self._bytes:
            return read_seconds(sound)
        part = seconds_of_frames(sound, _MP3, 0) if kind == _MP3 else read_seconds(sound) if kind in _WAV else None
        return None if part is None else part * self._bytes / len(sound)


def _output_max(request: SpeechRequest) -> int:
    """The most tokens of sound that a text can become."""
    text = request.input or ""
    encoded = text.encode()
    letters = len(encoded) - len(
        encoded.translate(None, _LETTERS)
    )  # of megabytes, a list of letters would be a hundred times as dear
    tokens = letters * LETTER_TOKENS + (len(text) - letters) * SIGN_TOKENS + LEAST_TOKENS
    if request.instructions:
        tokens *= 2
    speed = 1.0 if request.speed is None else request.speed
    return math.ceil(tokens / min(max(speed, SPEED_MIN), 1.0))
