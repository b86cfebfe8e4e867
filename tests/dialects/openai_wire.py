"""OpenAI-shaped requests and answers, as the wire has them."""

import json
from typing import Any

from tallygate.dialects.dialect import Dialect, RequestFacts

DONE = b"data: [DONE]\n\n"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(*events: dict[str, Any] | bytes) -> bytes:
    """Events of data alone; bytes stand as they are."""
    return b"".join(event if isinstance(event, bytes) else b"data: " + compact(event) + b"\n\n" for event in events)


def named_sse(*events: dict[str, Any]) -> bytes:
    """Events with their type as the name, as Responses streams have them."""
    return b"".join(b"event: " + event["type"].encode() + b"\ndata: " + compact(event) + b"\n\n" for event in events)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, *, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chat chunk with one choice; `more` joins or replaces its members."""
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1768500882, "model": "gpt-4o-mini-2024-07-18"}
    return head | {"choices": [choice]} | more


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion} | more


def read(dialect: Dialect, request: dict[str, Any] | bytes) -> RequestFacts:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return dialect.read_request(body, path={}, query={})
