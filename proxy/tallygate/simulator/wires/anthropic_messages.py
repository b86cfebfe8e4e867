"""Anthropic's messages, and its count of a prompt."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.sse import EVENT_STREAM, compact, named_event
from tallygate.simulator.words import TOOL_NAME

ANTHROPIC_HEADERS: Final[Mapping[str, str]] = {
    "request-id": "req_sim",
    "anthropic-organization-id": "sim",
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
}
ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def input_usage(figures: Figures) -> dict[str, Any]:
    """The input side of a usage object: input_tokens excludes tokens read from or written to the cache."""
    plain = figures.prompt
    if isinstance(plain, int) and figures.cached + figures.cache_write <= plain:
        plain -= figures.cached + figures.cache_write
    return {
        "input_tokens": plain,
        "cache_creation_input_tokens": figures.cache_write,
        "cache_read_input_tokens": figures.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": figures.cache_write, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def billed_usage(answer: Answer) -> dict[str, Any]:
    """What the usage states beside the tokens of the answer: conditions, searches, and passes, of which the answer is the last."""
    directive = answer.directive
    stated = {"service_tier": directive.tier, "speed": directive.speed, "inference_geo": directive.geo}
    usage: dict[str, Any] = {name: value for name, value in stated.items() if value}
    if directive.searches:
        usage["server_tool_use"] = {"web_search_requests": directive.searches, "web_fetch_requests": 0}
    if directive.passes:
        is_fallback = any(each.kind == "message" for each in directive.passes)
        figures = answer.figures()
        own = {} if figures is None else input_usage(figures) | {"output_tokens": figures.completion}
        usage["iterations"] = [
            *[
                {"type": each.kind, "input_tokens": each.prompt, "output_tokens": each.completion}
                | ({"model": each.model} if each.model else {})
                for each in directive.passes
            ],
            own | {"type": "fallback_message" if is_fallback else "message", "model": answer.model},
        ]
    return usage


def output_usage(figures: Figures) -> dict[str, Any]:
    usage: dict[str, Any] = {"output_tokens": figures.completion}
    if figures.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": figures.reasoning}
    return usage


class AnthropicMessages:
    """Usage is split: the input in `message_start`, the cumulative output in `message_delta`."""

    headers: Final[Mapping[str, str]] = ANTHROPIC_HEADERS

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM + "; charset=utf-8"

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        content: list[dict[str, Any]] = []
        if answer.directive.show_reasoning:
            content.append({"type": "thinking", "thinking": answer.reasoning_text(), "signature": "sim"})
        if answer.directive.refuse:
            pass
        elif answer.is_tool_call:
            tool_input = {"query": answer.text()[10:-2]}
            content.append({"type": "tool_use", "id": f"toolu_{answer.id}", "name": TOOL_NAME, "input": tool_input})
        else:
            content.append({"type": "text", "text": answer.text()})
        figures = answer.figures()
        message = _message(answer) | {"content": content, "stop_reason": _stop_reason(answer)}
        if figures is not None:
            message["usage"] = input_usage(figures) | output_usage(figures) | billed_usage(answer)
            figures = answer.with_passes(figures)
        elif answer.directive.usage is UsageStyle.NULL:
            message["usage"] = None
        return compact(message), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        figures, early = answer.figures(), answer.early_figures()
        start = _message(answer)
        if figures is not None:
            start["usage"] = input_usage(early or figures) | {"output_tokens": 1}
        yield _event("message_start", {"message": start})
        yield _event("ping", {})
        index, is_open, is_thinking, generated = -1, False, False, 0
        for piece in answer.pieces():
            generated += piece.tokens
            if piece.reasoning and not answer.directive.show_reasoning:
                yield Event(b"", piece.tokens, piece.tokens)
                continue
            if not is_open or piece.reasoning != is_thinking:
                if is_open:
                    yield _event("content_block_stop", {"index": index})
                index, is_open, is_thinking = index + 1, True, piece.reasoning
                yield _event("content_block_start", {"index": index, "content_block": _block(answer, thinking=piece.reasoning)})
            if piece.reasoning:
                delta = {"type": "thinking_delta", "thinking": piece.text}
            elif answer.is_tool_call:
                delta = {"type": "input_json_delta", "partial_json": piece.text}
            else:
                delta = {"type": "text_delta", "text": piece.text}
            members = {"index": index, "delta": delta}
            reasoning = piece.tokens if piece.reasoning else 0
            yield _event("content_block_delta", members)._replace(tokens=piece.tokens, reasoning=reasoning)
        if is_open:
            yield _event("content_block_stop", {"index": index})
        yield from self._closing(answer, figures, early)

    def _closing(self, answer: Answer, figures: Figures | None, early: Figures | None) -> Iterator[Event]:
        stopped = {"delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None}}
        if early is not None:
            yield _event("message_delta", stopped | {"usage": input_usage(early) | output_usage(early)})._replace(figures=early)
        if figures is not None:
            usage = input_usage(figures) | output_usage(figures) if early is not None else output_usage(figures)
            usage |= billed_usage(answer)
            yield _event("message_delta", stopped | {"usage": usage})._replace(figures=answer.with_passes(figures))
        else:
            null = {"usage": None} if answer.directive.usage is UsageStyle.NULL else {}
            yield _event("message_delta", stopped | null)
        if answer.directive.done:
            yield _event("message_stop", {})

    def error(self, status: int, message: str) -> bytes:
        return compact(_error(ERROR_TYPES.get(status, "api_error"), message) | {"request_id": "req_sim"})

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return named_event("error", _error("overloaded_error", message))


class AnthropicCount(AnthropicMessages):
    """`count_tokens`: the answer is the count, and costs nothing."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        return compact({"input_tokens": answer.ask.extra["count"]}), None


def _event(name: str, members: dict[str, Any]) -> Event:
    return Event(named_event(name, {"type": name, **members}))


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(answer: Answer) -> str:
    return answer.finish(stop="end_turn", length="max_tokens", tool="tool_use")


def _block(answer: Answer, *, thinking: bool) -> dict[str, Any]:
    if thinking:
        return {"type": "thinking", "thinking": "", "signature": ""}
    if answer.is_tool_call:
        return {"type": "tool_use", "id": f"toolu_{answer.id}", "name": TOOL_NAME, "input": {}}
    return {"type": "text", "text": ""}
