"""OpenAI's Realtime API: the events of one response. The session around it is in `realtime.py`."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event

SOUND = b64encode(bytes(2400)).decode()  # 50 ms at 24 kHz, a token of the assistant's audio


class OpenAIRealtime:
    """Responses in text, or spoken: then each token is 50 ms of audio."""

    headers: Mapping[str, str] = OPENAI_HEADERS

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        raise NotImplementedError  # there are only streams

    def events(self, answer: Answer) -> Iterator[Event]:
        speaks = answer.ask.extra["speaks"]
        of = {"response_id": f"resp_{answer.id}", "item_id": f"item_{answer.id}", "output_index": 0}
        yield _event("response.created", {"response": self._response(answer, "in_progress", None)})
        item = {"id": of["item_id"], "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        yield _event("response.output_item.added", {"response_id": of["response_id"], "output_index": 0, "item": item})
        for piece in answer.pieces():
            if piece.reasoning:
                yield Event(b"", piece.tokens, piece.tokens)
            elif speaks:
                delta = {**of, "content_index": 0, "delta": SOUND * piece.tokens}
                yield _event("response.output_audio.delta", delta, piece.tokens)
            else:
                yield _event("response.output_text.delta", {**of, "content_index": 0, "delta": piece.text}, piece.tokens)
        figures = answer.figures()
        status = "incomplete" if answer.capped else "completed"
        yield _event("response.done", {"response": self._response(answer, status, figures)}, figures=figures)

    def _response(self, answer: Answer, status: str, figures: Figures | None) -> dict[str, Any]:
        response: dict[str, Any] = {
            "id": f"resp_{answer.id}",
            "object": "realtime.response",
            "status": status,
            "conversation_id": "conv_1",
            "output": [],
            "usage": None,
        }
        if figures is not None:
            audio_in = answer.ask.extra["audio_tokens"]
            audio_out = figures.completion if answer.ask.extra["speaks"] else 0
            cached = figures.cached
            response["usage"] = {
                "total_tokens": figures.total,
                "input_tokens": figures.prompt,
                "output_tokens": figures.completion,
                "input_token_details": {
                    "text_tokens": figures.prompt - audio_in,
                    "audio_tokens": audio_in,
                    "image_tokens": 0,
                    "cached_tokens": cached,
                    "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
                },
                "output_token_details": {"text_tokens": figures.completion - audio_out, "audio_tokens": audio_out},
            }
        return response

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return named_event("error", {"type": "error", "error": {"type": "server_error", "message": message}})


def _event(name: str, members: dict[str, Any], tokens: int = 0, *, figures: Figures | None = None) -> Event:
    return Event(named_event(name, {"type": name, "event_id": "event_1", **members}), tokens, 0, figures)
