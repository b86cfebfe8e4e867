"""Whole answers that break off: what had come is read, at whatever byte."""

import json
from typing import Any

import pytest
from openai_wire import compact, usage
from splits import metered

from tallygate.dialects.cut_json import closed_json
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import usage_of_totals

FACTS = RequestFacts(model="m", prompt=PromptShape())
DIALECTS = dialects()
TEXT = 'Héllo "wörld" \\ \ud83d\ude00 {[,]} \n end'.encode("utf-16", "surrogatepass").decode("utf-16")
COUNTS = usage_of_totals(prompt=25, completion=150)
ANSWERS: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "id": "a",
        "model": "m",
        "choices": [{"index": 0, "message": {"content": TEXT}}],
        "usage": usage(25, 150),
        "z": 1,
    },
    "gloo_chat": {"usage": usage(25, 150), "model": "m", "choices": [{"index": 0, "message": {"content": TEXT}}]},
    "openai_responses": {
        "status": "completed",
        "model": "m",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": TEXT}]}],
        "usage": {"input_tokens": 25, "output_tokens": 150, "total_tokens": 175},
    },
    "anthropic_messages": {
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": TEXT}],
        "usage": {"input_tokens": 25, "output_tokens": 150, "cache_creation": {"ephemeral_5m_input_tokens": 0}},
    },
    "gemini_generate": {
        "candidates": [{"content": {"parts": [{"text": TEXT}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 25, "candidatesTokenCount": 150, "totalTokenCount": 175},
        "modelVersion": "m",
    },
}


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_what_was_delivered_is_text_and_usage_counts_only_whole(name: str, is_ascii: bool) -> None:
    body = json.dumps(ANSWERS[name], ensure_ascii=is_ascii).encode()
    usages = []
    so_far = ""
    for end in range(1, len(body)):
        cut = metered(DIALECTS[name], FACTS, body[:end], content_type="application/json")

        delivered = cut.text.removesuffix("\ufffd").removesuffix("?")  # half a character comes as a replacement
        assert TEXT.startswith(delivered)
        assert delivered.startswith(so_far)
        assert (cut.ended, cut.relayed) == (False, body[:end])
        so_far = delivered
        usages.append(cut.usage)
    assert so_far == TEXT
    assert all(usage in (None, COUNTS) for usage in usages)
    assert {usage is None for usage in usages} == {True, False}


@pytest.mark.parametrize(
    ("body", "text", "open_member"),
    [
        (b'{"a":"x', b'{"a":"x"}', b""),
        (b'{"a":"x"', b'{"a":"x"}', b""),
        (b'{"a":"x\\', b'{"a":"x"}', b""),
        (b'{"a":"x\\\\', b'{"a":"x\\\\"}', b""),
        (b'{"a":"x\\u00', b'{"a":"x"}', b""),
        (b'{"a":1,"b', b'{"a":1}', b""),
        (b'{"a":1,"b"', b'{"a":1}', b""),
        (b'{"a":1,"b":', b'{"a":1}', b""),
        (b'{"a":1,"b":12', b'{"a":1}', b""),
        (b'{"u":{"p":1,"c":[2,3', b'{"u":{"p":1,"c":[2]}}', b"u"),
        (b'{"u":{"p":1},"c":["x","y', b'{"u":{"p":1},"c":["x","y"]}', b"c"),
        (b'{"u":{"p":1}', b'{"u":{"p":1}}', b""),
        (b"{", b"{}", b""),
    ],
)
def test_what_is_open_is_closed(body: bytes, text: bytes, open_member: bytes) -> None:
    closed = closed_json(body)
    assert closed is not None
    assert (closed.text, closed.open_member) == (text, open_member)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":1}', b"{]", b"}", b'"x', b"12"])
def test_a_body_with_nothing_open_is_left(body: bytes) -> None:
    assert closed_json(body) is None


def test_arguments_that_look_like_usage_are_none() -> None:
    call = {"type": "tool_use", "name": "f", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
    body = compact({"type": "message", "content": [call, {"type": "text", "text": "more"}], "usage": {"input_tokens": 25}})
    cut = metered(DIALECTS["anthropic_messages"], FACTS, body[: body.index(b"more")], content_type="application/json")
    assert (cut.usage, "output_tokens" in cut.text) == (None, True)


def test_a_cut_answer_of_brackets_alone_is_survived() -> None:
    cut = metered(DIALECTS["openai_chat"], FACTS, b'{"choices":' + b"[" * 200_000, content_type="application/json")
    assert (cut.usage, cut.text, cut.flags) == (None, "", {"body_unreadable"})
