"""OpenAI's chat completions; Gloo's are the same with routing fields added."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.sse import DONE, EVENT_STREAM, compact, data_event
from tallygate.simulator.words import TOOL_NAME

OPENAI_HEADERS: Final[Mapping[str, str]] = {
    "openai-version": "2020-10-01",
    "openai-organization": "sim",
    "openai-processing-ms": "7",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-limit-tokens": "30000000",
    "x-ratelimit-remaining-tokens": "29999980",
    "x-ratelimit-reset-tokens": "0s",
}
ERROR_TYPES: Final = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def usage_object(figures: Figures) -> dict[str, Any]:
    return {
        "prompt_tokens": figures.prompt,
        "completion_tokens": figures.completion,
        "total_tokens": figures.total,
        "prompt_tokens_details": {"cached_tokens": figures.cached, "cache_write_tokens": figures.cache_write, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": figures.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def billed_usage(answer: Answer, figures: Figures) -> dict[str, Any]:
    """The usage object with what is billed beside plain tokens: audio, and OpenRouter's number of searches and cost."""
    usage, directive = usage_object(figures), answer.directive
    if directive.audio:
        audio = min(directive.audio, figures.prompt)
        cached = min(directive.cached_audio, figures.cached, audio)
        usage["prompt_tokens_details"] |= {"audio_tokens": audio, "cached_tokens_details": {"audio_tokens": cached}}
    if directive.searches:
        usage["server_tool_use_details"] = {"web_search_requests": directive.searches}
    if directive.cost:
        usage |= {"cost": float(directive.cost), "is_byok": False}
    return usage


def stated_tier(answer: Answer) -> dict[str, str]:
    """The tier that an answer was served at, in each of its objects."""
    return {"service_tier": answer.directive.tier} if answer.directive.tier else {}


def error_object(status: int, message: str) -> dict[str, Any]:
    kind, code = ERROR_TYPES.get(status, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class OpenAIChat:
    """Chat completions, streamed and whole. done_mark: whether a stream ends with `data: [DONE]`; Gloo's do not."""

    headers: Mapping[str, str] = OPENAI_HEADERS

    def __init__(self, *, done_mark: bool = True) -> None:
        self._done_mark = done_mark

    def stream_type(self, answer: Answer) -> str:
        del answer
        return EVENT_STREAM

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text(), "refusal": None}
        if answer.is_tool_call:
            function = {"name": TOOL_NAME, "arguments": answer.text()}
            message |= {"content": None, "tool_calls": [{"id": f"call_{answer.id}", "type": "function", "function": function}]}
        if answer.directive.show_reasoning:
            message["reasoning_content"] = answer.reasoning_text()
        finish = answer.finish(stop="stop", length="length", tool="tool_calls")
        whole: dict[str, Any] = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [
                {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
                for index in range(answer.ask.choices)
            ],
            **answer.ask.extra,
            **stated_tier(answer),
        }
        figures = answer.figures()
        if figures is not None:
            whole["usage"] = billed_usage(answer, figures)
        elif answer.directive.usage is UsageStyle.NULL:
            whole["usage"] = None
        return compact(whole), figures

    def events(self, answer: Answer) -> Iterator[Event]:
        style, choices = answer.directive.usage, range(answer.ask.choices)
        asked = answer.ask.include_usage or style in {UsageStyle.ALWAYS, UsageStyle.EVERY_EVENT}
        generated = 0
        if answer.directive.empty_choices:
            yield Event(self._chunk(answer, [], prompt_filter_results=[]))
        for index in choices:
            yield Event(self._chunk(answer, [_choice(index, {"role": "assistant", "content": "", "refusal": None})]))
        opened: set[int] = set()
        around = [self._around_content(answer, index, null_usage=asked) for index in choices]
        for piece in answer.pieces():
            generated += piece.tokens
            reasoning = piece.tokens if piece.reasoning else 0
            if piece.reasoning and not answer.directive.show_reasoning:
                yield Event(b"", piece.tokens, reasoning)
                continue
            if not (piece.reasoning or answer.is_tool_call or style is UsageStyle.EVERY_EVENT):
                before, after = around[piece.choice]
                yield Event(before + compact(piece.text) + after, piece.tokens)
                continue
            if piece.reasoning:
                delta: dict[str, Any] = {"reasoning_content": piece.text}
            elif answer.is_tool_call:
                call: dict[str, Any] = {"index": 0, "function": {"arguments": piece.text}}
                if piece.choice not in opened:
                    opened.add(piece.choice)
                    function = {"name": TOOL_NAME, "arguments": piece.text}
                    call = {"index": 0, "id": f"call_{answer.id}", "type": "function", "function": function}
                delta = {"tool_calls": [call]}
            else:
                delta = {"content": piece.text}
            running = answer.figures(generated) if style is UsageStyle.EVERY_EVENT else None
            yield Event(
                self._chunk(answer, [_choice(piece.choice, delta)], running, null_usage=asked), piece.tokens, reasoning, running
            )
        finish = answer.finish(stop="stop", length="length", tool="tool_calls")
        beside = answer.figures() if style is UsageStyle.IN_CHOICE_CHUNK else None
        for index in choices:
            last = beside if index == choices[-1] else None
            yield Event(self._chunk(answer, [_choice(index, {}, finish)], last, null_usage=asked), figures=last)
        yield from self._closing(answer, asked=asked)

    def _around_content(self, answer: Answer, index: int, *, null_usage: bool) -> tuple[bytes, bytes]:
        """The bytes before and after the text of a content chunk, made once, since most of a stream is such chunks."""
        before, _, after = self._chunk(answer, [_choice(index, {"content": "\0"})], null_usage=null_usage).partition(b'"\\u0000"')
        return before, after

    def _closing(self, answer: Answer, *, asked: bool) -> Iterator[Event]:
        """The chunks after the finish reason: usage if it was asked for, and the end mark."""
        style, figures, early = answer.directive.usage, answer.figures(), answer.early_figures()
        if style is UsageStyle.GROQ and figures is not None:
            yield Event(self._chunk(answer, [], x_groq={"usage": billed_usage(answer, figures)}), figures=figures)
        elif asked and style is UsageStyle.NULL:
            yield Event(self._chunk(answer, [], null_usage=True))
        elif asked and figures is not None and style is not UsageStyle.IN_CHOICE_CHUNK:
            if early is not None:
                yield Event(self._chunk(answer, [], early), figures=early)
            yield Event(self._chunk(answer, [], figures), figures=figures)
        if answer.directive.done and self._done_mark:
            yield Event(DONE)

    def _chunk(
        self, answer: Answer, choices: list[Any], figures: Figures | None = None, *, null_usage: bool = False, **more: Any
    ) -> bytes:
        chunk: dict[str, Any] = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model,
            **answer.ask.extra,
            **stated_tier(answer),
            "choices": choices,
            **more,
        }
        if figures is not None:
            chunk["usage"] = billed_usage(answer, figures)
        elif null_usage:
            chunk["usage"] = None
        return data_event(chunk)

    def error(self, status: int, message: str) -> bytes:
        return compact(error_object(status, message))

    def stream_error(self, answer: Answer, message: str) -> bytes:
        del answer
        return data_event(error_object(500, message))


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
