"""OpenAI's legacy completions."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object, usage_object
from tallygate.simulator.wires.sse import DONE, EVENT_STREAM, compact, data_event


class OpenAICompletions:
    """`text_completion` objects. If usage was asked for, each chunk has `"usage":null`, and a last one the usage."""

    headers: Final[Mapping[str, str]] = OPENAI_HEADERS

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        finish = answer.finish(stop="stop", length="length", tool="stop")
        choices = [_choice(index, answer.text(), finish) for index in range(answer.ask.choices)]
        whole, figures = self._head(answer, choices), answer.figures()
        if figures is not None:
            whole["usage"] = usage_object(figures)
        return compact(whole), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        asked = answer.ask.include_usage or answer.directive.usage is UsageStyle.ALWAYS
        null_usage: dict[str, Any] = {"usage": None} if asked else {}
        for piece in answer.pieces():
            if piece.reasoning:
                yield Event(b"", piece.tokens, piece.tokens)
            else:
                chunk = self._head(answer, [_choice(piece.choice, piece.text, None)])
                yield Event(data_event(chunk | null_usage), piece.tokens)
        finish = answer.finish(stop="stop", length="length", tool="stop")
        for index in range(answer.ask.choices):
            yield Event(data_event(self._head(answer, [_choice(index, "", finish)]) | null_usage))
        figures = answer.figures()
        if figures is not None and asked:
            yield Event(data_event(self._head(answer, []) | {"usage": usage_object(figures)}), figures=figures)
        if answer.directive.done:
            yield Event(DONE)

    def _head(self, answer: Answer, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": f"cmpl-{answer.id}",
            "object": "text_completion",
            "created": answer.created,
            "model": answer.model,
            "choices": choices,
        }

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return data_event(error_object(500, message))


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
