"""OpenAI's Responses API, and Gloo's, which puts the final response itself into `response.completed`."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event
from tallygate.simulator.words import TOOL_NAME


def usage_object(figures: Figures) -> dict[str, Any]:
    return {
        "input_tokens": figures.prompt,
        "input_tokens_details": {"cached_tokens": figures.cached, "cache_write_tokens": figures.cache_write},
        "output_tokens": figures.completion,
        "output_tokens_details": {"reasoning_tokens": figures.reasoning},
        "total_tokens": figures.total,
    }


class OpenAIResponses:
    """Responses, streamed and whole. flattened: the final event's data is the response, without a `response` member around it."""

    headers: Mapping[str, str] = OPENAI_HEADERS

    def __init__(self, *, flattened: bool = False) -> None:
        self._flattened = flattened

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        figures = answer.figures()
        return compact(self._response(answer, _status(answer), [_item(answer)], figures)), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        number = 0
        for event in self._numbered(answer):
            name, members, tokens, reasoning, figures = event
            if not name:
                yield Event(b"", tokens, reasoning)
                continue
            data = {"type": name, "sequence_number": number, **members}
            number += 1
            yield Event(named_event(name, data), tokens, reasoning, figures)

    def _numbered(self, answer: Answer) -> Iterator[tuple[str, dict[str, Any], int, int, Figures | None]]:
        """Name, members, tokens, reasoning tokens and figures of each event; the name is "" for hidden work."""
        started = self._response(answer, "in_progress", [], None)
        yield "response.created", {"response": started}, 0, 0, None
        yield "response.in_progress", {"response": started}, 0, 0, None
        item, place = _item(answer), {"item_id": f"msg_{answer.id}", "output_index": 0}
        if item["type"] == "compaction":
            yield "response.output_item.added", {"output_index": 0, "item": item | {"encrypted_content": ""}}, 0, 0, None
            for piece in answer.pieces():
                yield "", {}, piece.tokens, piece.tokens if piece.reasoning else 0, None
        else:
            yield from self._deltas(answer, item, place)
        yield "response.output_item.done", {"output_index": 0, "item": item}, 0, 0, None
        figures, status = answer.figures(), _status(answer)
        final = self._response(answer, status, [item], figures)
        yield f"response.{status}", final if self._flattened else {"response": final}, 0, 0, figures

    def _deltas(
        self, answer: Answer, item: Mapping[str, Any], place: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any], int, int, Figures | None]]:
        """The text of a message, or the arguments of a call, in pieces."""
        is_tool = answer.is_tool_call
        nothing_yet: dict[str, Any] = {"arguments": ""} if is_tool else {"content": []}
        empty = {**item, **nothing_yet, "status": "in_progress"}
        yield "response.output_item.added", {"output_index": 0, "item": empty}, 0, 0, None
        part = {**place, "content_index": 0}
        if not is_tool:
            yield "response.content_part.added", {**part, "part": _text_part("")}, 0, 0, None
        for piece in answer.pieces():
            if piece.reasoning:
                yield "", {}, piece.tokens, piece.tokens, None
            elif is_tool:
                yield "response.function_call_arguments.delta", {**place, "delta": piece.text}, piece.tokens, 0, None
            else:
                yield "response.output_text.delta", {**part, "delta": piece.text, "logprobs": []}, piece.tokens, 0, None
        if is_tool:
            done = {**place, "name": TOOL_NAME, "arguments": answer.text()}
            yield "response.function_call_arguments.done", done, 0, 0, None
        else:
            yield "response.output_text.done", {**part, "text": answer.text(), "logprobs": []}, 0, 0, None
            yield "response.content_part.done", {**part, "part": _text_part(answer.text())}, 0, 0, None

    def _response(self, answer: Answer, status: str, output: list[Any], figures: Figures | None) -> dict[str, Any]:
        response: dict[str, Any] = {
            "id": f"resp_{answer.id}",
            "object": "response",
            "created_at": answer.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "model": answer.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
        }
        if figures is not None:
            response["usage"] = usage_object(figures)
        elif status == "in_progress" or answer.directive.usage is UsageStyle.NULL:
            response["usage"] = None
        return response

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        error = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 0}
        return named_event("error", error)


def _status(answer: Answer) -> str:
    return "incomplete" if answer.capped else "completed"


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def compaction_item(answer: Answer) -> dict[str, Any]:
    return {"id": f"cmp_{answer.id}", "type": "compaction", "encrypted_content": b64encode(answer.text().encode()).decode()}


def _item(answer: Answer) -> dict[str, Any]:
    """A compaction, a tool call, or a message."""
    if answer.ask.extra.get("compacts"):
        return compaction_item(answer)
    if answer.is_tool_call:
        call = {"id": f"msg_{answer.id}", "call_id": f"call_{answer.id}", "name": TOOL_NAME, "arguments": answer.text()}
        return {"type": "function_call", "status": "completed", **call}
    content = [_text_part(answer.text())]
    return {"type": "message", "id": f"msg_{answer.id}", "status": "completed", "role": "assistant", "content": content}
