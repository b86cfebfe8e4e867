"""Anthropic's older text completions, which report no usage."""

from collections.abc import Iterator
from typing import Any

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.wires.anthropic_messages import AnthropicMessages
from tallygate.simulator.wires.sse import compact, named_event


class AnthropicComplete(AnthropicMessages):
    """A `completion` event for each piece; the last has the stop reason and no text."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        return compact(_completion(answer, answer.text(), _stop_reason(answer))), None

    def events(self, answer: Answer) -> Iterator[Event]:
        for piece in answer.pieces():
            if piece.reasoning:
                yield Event(b"", piece.tokens, piece.tokens)
            else:
                yield Event(named_event("completion", _completion(answer, piece.text, None)), piece.tokens)
        if answer.directive.done:
            yield Event(named_event("completion", _completion(answer, "", _stop_reason(answer))))


def _completion(answer: Answer, text: str, stop_reason: str | None) -> dict[str, Any]:
    return {"type": "completion", "id": f"compl_{answer.id}", "completion": text, "stop_reason": stop_reason, "model": answer.model}


def _stop_reason(answer: Answer) -> str:
    return answer.finish(stop="stop_sequence", length="max_tokens", tool="stop_sequence")
