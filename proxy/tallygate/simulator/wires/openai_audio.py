"""OpenAI's audio API: a text as sound, and a recording as text, whole and in events."""

import struct
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event

SAMPLES_PER_SECOND: Final = 24_000
BYTES_PER_TOKEN: Final = 2_400  # 50 ms in 16 bits
_HEARD: Final = "Peace be with you."  # by models that are billed by the second, whatever tokens a directive asks for


class OpenAIAudio:
    """What both directions share."""

    headers: Final[Mapping[str, str]] = OPENAI_HEADERS

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return named_event("error", {"type": "error", **error_object(500, message)})


class OpenAISpeech(OpenAIAudio):
    """Sound in WAV, as it is generated; or events, of which the last one states the usage."""

    def stream_type(self, answer: Answer) -> str:
        return EVENT_STREAM if answer.ask.extra["is_events"] else "audio/wav"

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        return b"".join([event.data for event in self.events(answer)]), None

    def events(self, answer: Answer) -> Iterator[Event]:
        is_events, figures = answer.ask.extra["is_events"], answer.figures()
        if not is_events:
            yield Event(_wav_head(answer.completion_tokens * BYTES_PER_TOKEN))
        for piece in answer.pieces():
            sound = bytes(piece.tokens * BYTES_PER_TOKEN)
            delta = {"type": "speech.audio.delta", "audio": b64encode(sound).decode()}
            yield Event(named_event("speech.audio.delta", delta) if is_events else sound, piece.tokens)
        if is_events:
            usage = {} if figures is None else {"usage": _usage(figures)}
            yield Event(named_event("speech.audio.done", {"type": "speech.audio.done", **usage}), figures=figures)


class OpenAITranscription(OpenAIAudio):
    """A text with its usage: tokens, or seconds of models that are billed so. What is asked for as a text has none."""

    def stream_type(self, answer: Answer) -> str:
        return "text/plain; charset=utf-8" if answer.ask.extra["is_text"] else EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        seconds = answer.ask.extra["seconds"]
        whole: dict[str, Any] = {"text": answer.text() or _HEARD}
        if answer.ask.extra["is_verbose"]:
            whole |= {"task": "transcribe", "language": "english", "duration": float(seconds), "segments": []}
        if answer.ask.extra["is_by_seconds"]:
            return compact(whole | {"usage": {"type": "duration", "seconds": seconds}}), None
        figures = answer.figures()
        usage = {} if figures is None else {"usage": _usage(figures) | _details(answer)}
        return compact(whole | usage), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        if answer.ask.extra["is_text"]:
            yield Event((answer.text() or _HEARD).encode() + b"\n", answer.completion_tokens)
            return
        for piece in answer.pieces():
            delta = {"type": "transcript.text.delta", "delta": piece.text}
            yield Event(named_event("transcript.text.delta", delta), piece.tokens)
        figures = answer.figures()
        usage = {} if figures is None else {"usage": _usage(figures) | _details(answer)}
        done = {"type": "transcript.text.done", "text": answer.text(), **usage}
        yield Event(named_event("transcript.text.done", done), figures=figures)


def _usage(figures: Figures) -> dict[str, Any]:
    return {"input_tokens": figures.prompt, "output_tokens": figures.completion, "total_tokens": figures.total}


def _details(answer: Answer) -> dict[str, Any]:
    audio = answer.ask.extra["audio_tokens"]
    details = {"audio_tokens": audio, "text_tokens": answer.ask.prompt_tokens - audio}
    return {"type": "tokens", "input_token_details": details}


def _wav_head(size: int) -> bytes:
    form = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLES_PER_SECOND, 2 * SAMPLES_PER_SECOND, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
