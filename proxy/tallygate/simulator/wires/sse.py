"""Frames of an event stream, and JSON as providers write it."""

import json
from typing import Any

EVENT_STREAM = "text/event-stream"


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def data_event(value: Any) -> bytes:
    """An unnamed event, as OpenAI's chat streams have them."""
    return b"data: " + compact(value) + b"\n\n"


def named_event(name: str, value: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + compact(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
