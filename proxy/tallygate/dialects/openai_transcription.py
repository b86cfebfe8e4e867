"""OpenAI's transcriptions and translations: a form with a recording in, its text out, charged by the second or by tokens.

OpenAI's API reference, "Create transcription", "Create translation", and their stream events. JSON answers state `usage`, of type
`duration` or `tokens`, and verbose ones `duration` besides; what comes as plain text, SRT or VTT states nothing, so that the length
of the recording is charged.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.counts import lenient_count
from tallygate.dialects.dialect import FormDialect, MeterReading, RequestFacts, ResponseMeter, UsageReporting, units_of
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.form import Form, FormRules
from tallygate.dialects.image_size import base64_bytes
from tallygate.dialects.lenient import is_positive, lenient_decode
from tallygate.dialects.meters import EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.openai_required import required, required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_usage import responses_counts
from tallygate.dialects.sound_length import seconds_of
from tallygate.dialects.sse import SseEvent
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage

# OpenAI, "Managing costs" of the Realtime API: of what a user says, one token for each 100 ms.
TOKENS_PER_SECOND: Final = 10
# OpenAI, model page of gpt-4o-transcribe: at most 2,000 tokens of output at once. Nobody speaks more than 20 tokens a second.
OUTPUT_TOKENS_MIN: Final = 2_000
OUTPUT_TOKENS_PER_SECOND: Final = 20
CHARS_PER_SECOND: Final = 40  # nobody speaks faster, so that a text tells how much was heard at least
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
# A recording that is not in the request has no length that could be held. Groq's `url`, Mistral's `file_url`.
_ELSEWHERE: Final = ("url", "file_url")
# Fields that control the answer and are no part of the prompt (OpenAI's API reference, "Create transcription").
_CONTROLS: Final = frozenset(
    {"response_format", "language", "temperature", "include", "timestamp_granularities", "chunking_strategy", "user"}
)
_CUE: Final = re.compile(r"--> *(?:(\d{1,4}):)?(\d\d):(\d\d)[.,](\d{3})")  # SubRip, and WebVTT section 3.1


class TranscriptionForm:
    """Implements `FormDialect`. The recording decides the cost, so all of the form is kept until it is held."""

    rules = FormRules(fields=frozenset({"model", "prompt", "stream", *_ELSEWHERE}), files=frozenset({"file"}), keeps_files=True)

    def read(self, form: Form, *, path: Mapping[str, str]) -> RequestFacts:
        fields = form.fields
        model = model_of(form, path)
        for name in _ELSEWHERE:
            if name in fields:
                message = f"'{name}' names a recording whose length is not known here: send it as 'file'."
                raise RequestRejectedError(message, param=name)
        recording = next((file for file in form.files if file.name == "file"), None)
        seconds = seconds_of(form.content(required(recording, "file")))
        output = max(OUTPUT_TOKENS_MIN, seconds * OUTPUT_TOKENS_PER_SECOND)
        others = [value for name, value in form.others if name.partition("[")[0] not in _CONTROLS]
        voices = [value for value in others if value.startswith("data:")]  # samples of speakers
        texts = [text for text in (fields.get("prompt", ""), *others) if text and text not in voices]
        return RequestFacts(
            model=model,
            prompt=PromptShape(
                texts=tuple(texts),
                opaque_bytes=sum(map(base64_bytes, voices)),
                tokens=seconds * TOKENS_PER_SECOND,
            ),
            stream=fields.get("stream", "").strip().lower() in _TRUE,
            max_output_tokens=output,
            output_min_tokens=output,  # no field could lower it
            units=units_of(audio_input=True),
            calls_instead={Unit.AUDIO_SECOND: seconds},
        )


class OpenAiTranscription(OpenAiShape):
    """POST /v1/audio/transcriptions."""

    name = "openai_transcription"
    usage_reporting = UsageReporting.ALWAYS
    form: FormDialect | None = TranscriptionForm()

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(dict[str, Any])

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Refuse what is no form: no other body has a recording in it."""
        del body, path, query
        raise RequestRejectedError("Send a form with the recording: Content-Type must be multipart/form-data.", param="file")

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: TranscriptEvents(facts, self._answers),
            whole=lambda: TranscriptMeter(facts, self._answers),
            unread=lambda: TranscriptMeter(facts, self._answers),
        )


class OpenAiTranslation(OpenAiTranscription):
    """POST /v1/audio/translations."""

    name = "openai_translation"


class TranscriptMeter(JsonMeter):
    """Reads a whole answer: JSON, or a text."""

    __slots__ = ("_decoder", "_facts")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[dict[str, Any]]") -> None:
        super().__init__()
        self._facts = facts
        self._decoder = decoder

    def _read(self, body: bytes) -> bool:
        reading = self.reading
        reading.ended = True
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            text = body.decode(errors="replace")
            _read_text(reading, self._facts, text, seconds=_last_cue(text))
            return True
        reading.failed = bool(answer.get("error"))
        stated = answer.get("usage")
        usage = stated if isinstance(stated, dict) else {}
        stated_in = ("seconds", "prompt_audio_seconds")  # the latter in Mistral's "Audio Transcription"
        seconds = next((usage[name] for name in stated_in if is_positive(usage.get(name))), answer.get("duration"))
        _read_usage(reading, self._facts, usage, seconds)
        _read_text(reading, self._facts, answer.get("text"), seconds=0)
        return True


class TranscriptEvents(EventStreamMeter):
    """Reads `transcript.text.delta`, and `.done` with the usage."""

    __slots__ = ("_decoder", "_facts", "_has_deltas")

    delta_type = "transcript.text.delta"
    done_type = "transcript.text.done"
    text_member = "text"

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[dict[str, Any]]") -> None:
        super().__init__()
        self._facts = facts
        self._decoder = decoder
        self._has_deltas = False

    def _read(self, event: SseEvent) -> bytes:
        chunk = lenient_decode(event.data, self._decoder)
        reading = self.reading
        if chunk is None:
            return event.raw
        kind = chunk.get("type")
        if chunk.get("error") or kind == "error":
            reading.failed = True
        elif kind == self.delta_type:
            self._has_deltas = True
            _read_text(reading, self._facts, chunk.get("delta"), seconds=0)
        elif kind == self.done_type:
            if self._facts.is_by_calls or not self._has_deltas:
                _read_text(reading, self._facts, chunk.get(self.text_member), seconds=0)
            usage = chunk.get("usage")
            if isinstance(usage, dict):
                _read_usage(reading, self._facts, usage, usage.get("seconds"))
            reading.ended = True
            reading.has_text_after_usage = False
        return event.raw


def model_of(form: Form, path: Mapping[str, str]) -> str:
    """The model of a form, or the deployment in the path. Raises RequestRejectedError."""
    named, deployment = form.fields.get("model", ""), path.get("model", "")
    if deployment and named not in ("", deployment):
        raise RequestRejectedError(f"The path names the deployment '{deployment[:200]}': leave 'model' out.", param="model")
    return required_model(deployment or named)


def _read_usage(reading: MeterReading, facts: RequestFacts, usage: dict[str, Any], seconds: object) -> None:
    """Read a usage by tokens or by time, whichever the price charges; the other one is left out."""
    if facts.is_by_calls:
        whole = lenient_count(_rounded_up(seconds), reading.flags)
        if whole:
            reading.usage = Usage({Unit.AUDIO_SECOND: whole})
    elif any(is_positive(usage.get(name)) for name in ("input_tokens", "output_tokens", "total_tokens")):
        reading.usage = responses_counts(usage, reading.flags)
        reading.has_text_after_usage = False


def _rounded_up(seconds: object) -> object:
    """Whole seconds: OpenAI's example of a verbose answer bills 8.47 seconds as 9."""
    return -int(-seconds // 1) if isinstance(seconds, float) and 0 <= seconds < float("inf") else seconds


def _read_text(reading: MeterReading, facts: RequestFacts, text: object, *, seconds: int) -> None:
    """Keep a text to be counted; or, where time is charged that the answer does not state, what the text says of it.

    seconds   up to which it reaches
    """
    if not isinstance(text, str):
        return
    if not facts.is_by_calls:
        add_text(reading, text)
        return
    heard = max(seconds, len(text) // CHARS_PER_SECOND)
    if reading.usage is None and heard > facts.calls.get(Unit.AUDIO_SECOND, 0):
        reading.usage = Usage({Unit.AUDIO_SECOND: heard})


def _last_cue(text: str) -> int:
    """The end of the last cue of subtitles, in seconds rounded up; 0 if there is none."""
    last = 0
    for hours, minutes, seconds, millis in _CUE.findall(text):
        last = max(last, int(hours or 0) * 3_600 + int(minutes) * 60 + int(seconds) + (millis != "000"))
    return last
