"""Ordinary requests and chunks are read in one step of their own: as the general reader would read them, or not at all."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from splits import run

from tallygate.dialects import openai_chat
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.gloo import GlooChat, GlooGroundedChat
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_choices import ChoicesStreamMeter
from tallygate.dialects.ordinary_chat import ordinary_chat_facts
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

CHAT = OpenAiChat()
ORDINARY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "system", "content": 'Say "\\" and\nmore'}, {"role": "user", "content": "ü"}],
    "max_tokens": 5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "seed": 7,
    "user": "u",
}
# Names and values, those of ordinary bodies among them, so that a few changes lead out of what is ordinary.
VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 0.5, 10**30, "", "x", "ü\\", '"', "\ud800", [], {}, ["x"], {"a": 1}]
) | st.sampled_from(
    [
        {"include_usage": True},
        [{"role": "user", "content": "x"}],
        [{"role": "r" * 65, "content": "x"}],
        [{"role": "user", "content": None}],
    ]
)
NAMES = st.sampled_from(
    [*ORDINARY, "max_completion_tokens", "Model", "maxTokens", "n", "tools", "max_output_tokens", "audio", "metadata", "x", "ü"]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An ordinary body with some members left out, others instead, some of them twice, and in some spelling."""
    members = list(ORDINARY.items())
    members = [member for member in members if draw(st.integers(0, 5))]
    for _ in range(draw(st.integers(0, 2))):
        members.insert(draw(st.integers(0, len(members))), (draw(NAMES), draw(VALUES)))
    if draw(st.booleans()) and members:
        members.append(draw(st.sampled_from(members)))
    is_ascii = draw(st.booleans())
    text = ",".join(f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=is_ascii)}" for name, value in members)
    body = ("{" + text + "}").encode(errors="surrogatepass")
    return body.replace(b'"model"', rb'"m\u006fdel"') if not draw(st.integers(0, 9)) else body


def general(dialect: OpenAiChat, body: bytes, monkeypatch: pytest.MonkeyPatch) -> RequestFacts | str:
    with monkeypatch.context() as patch:
        patch.setattr(openai_chat, "ordinary_chat_facts", lambda _body: None)
        return read(dialect, body)


def read(dialect: OpenAiChat, body: bytes) -> RequestFacts | str:
    try:
        return dialect.read_request(body, path={}, query={})
    except RequestRejectedError as error:
        return str(error)


@given(body=bodies())
@example(body=json.dumps(ORDINARY).encode())
@example(body=b'{"model":"gpt-4o-search-preview","messages":[{"role":"user","content":"x"}]}')
@example(body=b'{"model":"openai/gpt-5","messages":[{"role":"user","content":"x"}],"max_tokens":1}')
@example(body=b'{"messages":[{"role":"user","content":"x"}],"messages":[],"model":"m"}')
@example(body=b'{"messages":[{"role":"user","content":"x","content":"y"}],"model":"m"}')
@example(body=b'{"messages":[{"role":"user","content":"x\\\\"}],"model":"m","model":"k"}')
@example(body=b'\xef\xbb\xbf{"messages":[],"model":"m"}')
def test_the_ordinary_way_reads_a_request_as_the_general_one_does(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for dialect in (CHAT, GlooChat(), GlooGroundedChat()):
            assert read(dialect, body) == general(dialect, body, patch)


def test_an_ordinary_request_needs_no_general_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_chat, "parse_body", None)
    facts = CHAT.read_request(json.dumps(ORDINARY).encode(), path={}, query={})
    assert (facts.model, facts.max_output_tokens, facts.client_asks_usage) == ("gpt-4o-mini", 5, True)
    assert facts.prompt == PromptShape(texts=('Say "\\" and\nmore', "ü"), messages=2)


@pytest.mark.parametrize(
    "changed", [{"n": 2}, {"tools": []}, {"messages": None}, {"max_tokens": -1}, {"response_format": {}}, {"model": ""}]
)
def test_what_is_odd_is_left_to_the_general_reader(changed: dict[str, Any]) -> None:
    assert ordinary_chat_facts(json.dumps(ORDINARY | changed).encode()) is None


FACTS = RequestFacts(model="m", prompt=PromptShape(), stream=True)
CHUNK = {"id": "c", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}], "usage": None}
INNER = st.sampled_from(["index", "delta", "finish_reason", "error", "text", "message", "usage", "logprobs"])
OUTER = st.sampled_from(["model", "choices", "usage", "error", "service_tier", "x_groq", "provider_metadata", "obfuscation"])
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ANY = st.sampled_from([None, 0, 1, False, True, 0.0, "", "x", "stop", "error", "default", "flex", [], {}]) | st.sampled_from(
    [
        {"content": "a"},
        {"content": None},
        {"content": "a", "role": "assistant"},
        {"content": "a", "reasoning_content": "b"},
        {"role": "assistant"},
        USAGE,
        {"usage": USAGE},
    ]
)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """An event with an ordinary chunk, or one of which some members have other values; framed as most are, or otherwise."""
    choice: dict[str, Any] = {**CHUNK["choices"][0]}
    outer: dict[str, Any] = {**CHUNK, "choices": [choice]}
    if draw(st.booleans()):
        choice[draw(INNER)] = draw(ANY)
    if not draw(st.integers(0, 2)):
        outer[draw(OUTER)] = draw(ANY)
    if not draw(st.integers(0, 3)):
        outer["choices"] = [choice] * draw(st.integers(0, 2))
    if draw(st.booleans()):
        del outer["usage"]
    data = json.dumps(outer, separators=(",", ":")).encode()
    if not draw(st.integers(0, 7)):
        data = draw(st.sampled_from([b"[DONE]", data[:-1], b"null", b'"usage":null', data + b"\ndata: x", data + b"\rdata: x"]))
    lead = draw(st.sampled_from([b"data: "] * 6 + [b"data:", b"event: error\ndata: ", b": x\n\ndata: "]))
    return lead + data + draw(st.sampled_from([b"\n\n"] * 6 + [b"\r\n\r\n", b"\n", b"\n\n\n"]))


@given(
    events=st.lists(chunks(), max_size=14),
    hides=st.booleans(),
    cuts=st.lists(st.integers(0, 2_000), max_size=3),
    whole=st.booleans(),
)
def test_the_ordinary_way_reads_a_stream_as_the_general_one_does(
    events: list[bytes], hides: bool, cuts: list[int], whole: bool
) -> None:
    decoder = CHAT._answers
    ordinary, plain = ChoicesStreamMeter(decoder, FACTS, hides=hides), ChoicesStreamMeter(decoder, FACTS, hides=hides)
    plain._odd_left = 0
    body = b"".join(events)
    places = sorted({0, len(body), *[cut for cut in cuts if cut < len(body)]})
    pieces = [body[start:end] for start, end in pairwise(places)] if whole else events
    readings = ordinary.reading, plain.reading
    for piece in pieces:
        assert ordinary.feed(piece) == plain.feed(piece)
        assert readings[0] == readings[1]
    assert run(ordinary, []) == run(plain, [])
    assert readings[0] == readings[1]


def test_an_ordinary_chunk_needs_no_general_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = ChoicesStreamMeter(CHAT._answers, FACTS, hides=True)
    first, event = (
        b"data: " + json.dumps(CHUNK | more, separators=(",", ":")).encode() + b"\n\n" for more in ({}, {"model": "m-2"})
    )
    meter.feed(first)
    monkeypatch.setattr(ChoicesStreamMeter, "_read", None)
    assert meter.feed(event) == event.replace(b',"usage":null', b"")
    assert (meter.reading.drain_text(), meter.reading.response_model) == ("word word ", "m-2")
