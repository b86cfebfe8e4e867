"""OpenAI's Images API: whole answers, and streams of partial images."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event

PARTIAL_TOKENS: Final = 100
_PIXELS: Final = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8).decode()


class OpenAIImages:
    """Images of the models that are billed by tokens, with their usage, and of those that are billed by the image, without.

    kind   the beginning of the names of its events
    """

    headers: Final[Mapping[str, str]] = OPENAI_HEADERS

    def __init__(self, kind: str = "image_generation") -> None:
        self._kind = kind

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        images = [{"b64_json": _PIXELS} for _ in range(answer.ask.choices)]
        whole: dict[str, Any] = {"created": answer.created, "data": images}
        if answer.ask.extra["is_billed_by_image"]:
            return compact(whole), None
        figures = answer.figures()
        usage = {} if figures is None else {"usage": _usage(answer, figures, answer.ask.choices)}
        return compact(whole | _shown(answer) | usage), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        partials, choices = answer.ask.extra["partial_images"], answer.ask.choices
        figures = answer.figures()
        final = answer.image_tokens - partials * PARTIAL_TOKENS
        for image in range(choices):
            for index in range(partials):
                event = self._event(answer, "partial_image", {"partial_image_index": index})
                yield Event(event, PARTIAL_TOKENS, image=PARTIAL_TOKENS)
            is_last = image + 1 == choices
            usage = {} if figures is None else {"usage": _usage(answer, _of_one(figures, choices), 1)}
            yield Event(self._event(answer, "completed", usage), final, figures=figures if is_last else None, image=final)

    def _event(self, answer: Answer, name: str, more: Mapping[str, Any]) -> bytes:
        kind = f"{self._kind}.{name}"
        return named_event(kind, {"type": kind, "b64_json": _PIXELS, "created_at": answer.created, **_shown(answer), **more})

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return named_event("error", {"type": "error", **error_object(500, message)})


def _shown(answer: Answer) -> dict[str, Any]:
    extra = answer.ask.extra
    return {"background": "opaque", "output_format": "png", "quality": extra["quality"], "size": extra["size"]}


def _of_one(figures: Figures, choices: int) -> Figures:
    if not isinstance(figures.prompt, int) or not isinstance(figures.completion, int):
        return figures
    prompt, completion = figures.prompt // choices, figures.completion // choices
    return figures._replace(prompt=prompt, completion=completion, total=prompt + completion)


def _usage(answer: Answer, figures: Figures, images: int) -> dict[str, Any]:
    source = answer.ask.extra["source_tokens"] * images
    text = figures.prompt - source if isinstance(figures.prompt, int) else figures.prompt
    return {
        "input_tokens": figures.prompt,
        "input_tokens_details": {"image_tokens": source, "text_tokens": text},
        "output_tokens": figures.completion,
        "total_tokens": figures.total,
    }
