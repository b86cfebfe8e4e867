"""OpenAI's Responses API, and Gloo's, which puts the final response itself into `response.completed`."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.openai_chat import OPENAI_HEADERS, error_object, stated_tier
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event
from tallygate.simulator.words import TOOL_NAME

_IMAGES: Final = "image_generation"  # as a tool, and as a pass


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
        body = compact(self._response(answer, _status(answer), [*_tool_items(answer), _item(answer)], figures))
        return body, None if figures is None else answer.with_passes(figures)

    def unfinished(self, answer: Answer, status: str) -> bytes:
        """A background response that has no output: not yet, or because it was cancelled."""
        return compact(self._response(answer, status, [], None) | {"background": True})

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
        tools = _tool_items(answer)
        for index, call in enumerate(tools):
            begun = {"id": call["id"], "type": call["type"], "status": "in_progress"}
            yield "response.output_item.added", {"output_index": index, "item": begun}, 0, 0, None
            yield "response.output_item.done", {"output_index": index, "item": call}, 0, 0, None
        item, at = _item(answer), len(tools)
        place = {"item_id": f"msg_{answer.id}", "output_index": at}
        if item["type"] == "compaction":
            yield "response.output_item.added", {"output_index": at, "item": item | {"encrypted_content": ""}}, 0, 0, None
            for piece in answer.pieces():
                yield "", {}, piece.tokens, piece.tokens if piece.reasoning else 0, None
        else:
            yield from self._deltas(answer, item, place)
        yield "response.output_item.done", {"output_index": at, "item": item}, 0, 0, None
        figures, status = answer.figures(), _status(answer)
        final = self._response(answer, status, [*tools, item], figures)
        reported = None if figures is None else answer.with_passes(figures)
        yield f"response.{status}", final if self._flattened else {"response": final}, 0, 0, reported

    def _deltas(
        self, answer: Answer, item: Mapping[str, Any], place: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any], int, int, Figures | None]]:
        """The text of a message, or the arguments of a call, in pieces."""
        is_tool = answer.is_tool_call
        nothing_yet: dict[str, Any] = {"arguments": ""} if is_tool else {"content": []}
        empty = {**item, **nothing_yet, "status": "in_progress"}
        yield "response.output_item.added", {"output_index": place["output_index"], "item": empty}, 0, 0, None
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
            "error": {"code": "server_error", "message": "The model failed."} if status == "failed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "model": answer.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
            **stated_tier(answer),
        }
        if figures is not None:
            response["usage"] = usage_object(figures)
            response |= _tool_usage(answer)
        elif status in {"queued", "in_progress", "cancelled"} or answer.directive.usage is UsageStyle.NULL:
            response["usage"] = None
        return response

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        error = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 0}
        return named_event("error", error)


def _status(answer: Answer) -> str:
    if answer.directive.finish == "failed":
        return "failed"
    return "incomplete" if answer.capped else "completed"


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def compaction_item(answer: Answer) -> dict[str, Any]:
    return {"id": f"cmp_{answer.id}", "type": "compaction", "encrypted_content": b64encode(answer.text().encode()).decode()}


def _tool_items(answer: Answer) -> list[dict[str, Any]]:
    """The calls of tools that ran at the provider, before the answer."""
    directive = answer.directive
    action = {"type": "search", "query": "peace"}
    done = {"status": "completed"}
    return [
        *[{"id": f"ws_{number}", "type": "web_search_call", "action": action} | done for number in range(directive.searches)],
        *[{"id": f"fs_{number}", "type": "file_search_call", "queries": ["peace"]} | done for number in range(directive.files)],
        *[
            {"id": f"ig_{number}", "type": "image_generation_call", "result": "iVBORw0KGgo="} | done
            for number, each in enumerate(directive.passes)
            if each.kind == _IMAGES
        ],
    ]


def _tool_usage(answer: Answer) -> dict[str, Any]:
    """What a final response states of its tools; nothing where there were none. The images are of one model."""
    images = [each for each in answer.directive.passes if each.kind == _IMAGES]
    if not images and not answer.directive.searches:
        return {}
    tokens_in, tokens_out = sum([each.prompt for each in images]), sum([each.completion for each in images])
    image_gen = {
        "input_tokens": tokens_in,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": tokens_in},
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    named = {"tools": [{"type": _IMAGES, "model": images[0].model}]} if images and images[0].model else {}
    return {"tool_usage": {"image_gen": image_gen, "web_search": {"num_requests": answer.directive.searches}}, **named}


def _item(answer: Answer) -> dict[str, Any]:
    """A compaction, a tool call, or a message."""
    if answer.ask.extra.get("compacts"):
        return compaction_item(answer)
    if answer.is_tool_call:
        call = {"id": f"msg_{answer.id}", "call_id": f"call_{answer.id}", "name": TOOL_NAME, "arguments": answer.text()}
        return {"type": "function_call", "status": "completed", **call}
    content = [_text_part(answer.text())]
    return {"type": "message", "id": f"msg_{answer.id}", "status": "completed", "role": "assistant", "content": content}
