"""Ordinary requests and chunks are read in one step of their own: as the general reader would read them, or not at all."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from search import cases
from splits import run

from tallygate.dialects import openai_chat, openai_choices
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.gloo import GlooChat, GlooGroundedChat
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_choices import ChoicesJsonMeter, ChoicesStreamMeter
from tallygate.dialects.ordinary_chat import ordinary_chat_facts
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import usage_of_totals

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
    monkeypatch.setattr(openai_chat, "_MEMBERS", None)
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
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 20,
    "total_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "rejected_prediction_tokens": 1},
}
ANSWER = {
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "refusal": None}, "finish_reason": "stop"}],
    "usage": USAGE,
    "service_tier": "default",
}
INNER = ["index", "delta", "message", "finish_reason", "error", "text", "usage", "logprobs"]
OUTER = ["model", "choices", "usage", "error", "service_tier", "x_groq", "provider_metadata", "obfuscation"]
IN_TEXT = ["content", "role", "refusal", "reasoning_content", "reasoning", "audio", "function_call", "tool_calls", "annotations"]
IN_USAGE = [*USAGE, "cost", "cached_tokens", "reasoning_tokens", "output_tokens", "cache_read_input_tokens", "num_search_queries"]
IN_DETAILS = ["cached_tokens", "audio_tokens", "image_tokens", "text_tokens", "cache_write_tokens", "reasoning_tokens", "x"]
ANY = st.sampled_from(
    [None, 0, 1, 12, 60, -1, False, True, 0.0, 2.5, "", "x", "7", "stop", "error", "default", "flex", [], {}, USAGE]
)
ANY |= st.sampled_from([{"content": "a", "role": "assistant"}, {"content": None}, {"usage": USAGE}, [{"function": {"name": "f"}}]])


def with_odd(draw: st.DrawFn, holder: dict[str, Any], names: list[str], one_in: int) -> dict[str, Any]:
    """The members of an object, one of them perhaps with another value, or gone."""
    found = dict(holder)
    if not draw(st.integers(0, one_in - 1)):
        found[draw(st.sampled_from(names))] = draw(ANY)
    if found and not draw(st.integers(0, 2 * one_in)):
        del found[draw(st.sampled_from(list(found)))]
    return found


def odd_body(draw: st.DrawFn, whole: dict[str, Any], text: str) -> bytes:
    choice = with_odd(draw, whole["choices"][0], INNER, 4)
    if isinstance(choice.get(text), dict):
        choice[text] = with_odd(draw, choice[text], IN_TEXT, 4)
    outer = with_odd(draw, {**whole, "choices": [choice]}, OUTER, 4)
    if not draw(st.integers(0, 5)):
        outer["choices"] = [choice] * draw(st.integers(0, 2))
    if isinstance(outer.get("usage"), dict):
        usage = outer["usage"] = with_odd(draw, outer["usage"], IN_USAGE, 3)
        for side in ("prompt_tokens_details", "completion_tokens_details"):
            if isinstance(usage.get(side), dict):
                usage[side] = with_odd(draw, usage[side], IN_DETAILS, 3)
    return json.dumps(outer, separators=(",", ":")).encode()


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """An event with an ordinary chunk, or one of which some members have other values; framed as most are, or otherwise."""
    data = odd_body(draw, CHUNK, "delta")
    if not draw(st.integers(0, 9)):
        data = draw(st.sampled_from([b"[DONE]", data[:-1], b"null", b'"usage":null', data + b"\ndata: x", data + b"\rdata: x"]))
    lead = draw(st.sampled_from([b"data: "] * 8 + [b"data:", b"event: error\ndata: ", b": x\n\ndata: "]))
    return lead + data + draw(st.sampled_from([b"\n\n"] * 8 + [b"\r\n\r\n", b"\n", b"\n\n\n"]))


@given(
    events=st.lists(chunks(), max_size=14),
    hides=st.booleans(),
    cuts=st.lists(st.integers(0, 2_000), max_size=3),
    is_cut=st.booleans(),
)
def test_the_ordinary_way_reads_a_stream_as_the_general_one_does(
    events: list[bytes], hides: bool, cuts: list[int], is_cut: bool
) -> None:
    ordinary, general = (ChoicesStreamMeter(CHAT._answers, FACTS, hides=hides) for _ in range(2))
    general._odd_left = 0
    body = b"".join(events)
    places = sorted({0, len(body), *[cut for cut in cuts if cut < len(body)]})
    for piece in [body[start:end] for start, end in pairwise(places)] if is_cut else events:
        assert ordinary.feed(piece) == general.feed(piece)
        assert ordinary.reading == general.reading
    assert run(ordinary, []) == run(general, [])
    assert ordinary.reading == general.reading


# An ordinary event around its text and its padding, as they are spelled; what is between may come in several ways.
OPENED = (
    '{"id":"c","model":"m-1","choices":[{"index":0,"delta":{"content":"',
    '{"id":"c","model":"m-1","usage":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"',
    '{"model":"m-1","service_tier":"default","x":{"content":"a"},"choices":[{"index":0,"delta":{"content":"',
    '{"model":"m-1","choices":[{"delta":{"content":"x","content":"',
    '{"model":"m-1","choices":[{"delta":{"cont\\u0065nt":"',
    '{"model":"m-2","service_tier":"flex","choices":[{"index":0,"delta":{"content":"',
    '{"model":"m-1","choices":[{"index":1,"delta":{"content":"',
    '{"model":"m-1","choices":[],"x":[{"delta":{"content":"',
)
CLOSED = (
    '"},"finish_reason":null}],"usage":null}',
    '"},"logprobs":null,"finish_reason":null}]}',
    '"},"finish_reason":"stop"}]}',
    '"},"finish_reason":null}],"usage":null,"obfuscation":"%s"}',
    '"},"finish_reason":null}],"obfuscation":"%s","usage":null}',
    '"},"finish_reason":null}],"usage":null  %s  }',
    '"},"finish_reason":null}]     }',
    '","tool_calls":null},"finish_reason":null,"error":null}]}',
    '"},"finish_reason":null}],"error":{"message":"x"}}',
    '"},"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
)
SAID = st.sampled_from(
    [
        "",
        "word ",
        " two words",
        "ü",
        "漢字 ",
        '\\"',
        "\\n",
        "\\\\",
        "\\u00fc",
        "\n",
        "\t",
        "\x7f",
        "\u2028",
        '"',
        '","content":"b',
        "a\udcff",
    ]
)
PADDED = st.sampled_from(["", " ", "   ", "a", "Xy7", "a b", 'a"b', "a\\nb", "-", "ü"])


@st.composite
def repetitions(draw: st.DrawFn) -> list[bytes]:
    """Events that repeat one another in all but their texts, most of the time."""
    opened, closed = draw(st.sampled_from(OPENED)), draw(st.sampled_from(CLOSED))
    events = []
    for _ in range(draw(st.integers(1, 12))):
        if not draw(st.integers(0, 5)):
            opened, closed = draw(st.sampled_from(OPENED)), draw(st.sampled_from(CLOSED))
        end = closed % draw(PADDED) if "%s" in closed else closed
        event = f"data: {opened}{draw(SAID)}{end}".encode(errors="surrogateescape")
        events.append(event + draw(st.sampled_from([b"\n\n"] * 12 + [b"\r\n\r\n", b"\n", b"\n\ndata: [DONE]\n\n"])))
    return events


@given(
    events=repetitions(), hides=st.booleans(), joined=st.sets(st.integers(0, 11)), cuts=st.lists(st.integers(0, 2_000), max_size=2)
)
@settings(max_examples=cases(short=300, steady=1_500, deep=15_000), deadline=None)
def test_repetitions_are_read_as_by_the_general_reader(events: list[bytes], hides: bool, joined: set[int], cuts: list[int]) -> None:
    repeated, general = (ChoicesStreamMeter(CHAT._answers, FACTS, hides=hides) for _ in range(2))
    general._odd_left = 0
    body, ends, at = b"".join(events), {0}, 0
    for number, event in enumerate(events):
        at += len(event)
        if number not in joined:
            ends.add(at)
    places = sorted({*ends, len(body), *[cut for cut in cuts if cut < len(body)]})
    for piece in [body[start:end] for start, end in pairwise(places)]:
        assert repeated.feed(piece) == general.feed(piece)
        assert repeated.reading == general.reading
    assert run(repeated, []) == run(general, [])
    assert repeated.reading == general.reading


@pytest.mark.parametrize("padding", [None, "", "aX3"])
def test_a_repetition_is_not_decoded(padding: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def event(text: str, pad: str | None) -> bytes:
        chunk = {**CHUNK, "choices": [{**CHUNK["choices"][0], "delta": {"content": text}}]}
        chunk |= {} if pad is None else {"obfuscation": pad}
        return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"

    meter = ChoicesStreamMeter(CHAT._answers, FACTS, hides=True)
    for _ in range(2):
        meter.feed(event("one ", padding))
    monkeypatch.setattr(openai_choices, "fitting", None)
    for text in ("two ", "drüi", " "):
        again = event(text, None if padding is None else padding + "b9")
        assert meter.feed(again) == again.replace(b',"usage":null', b"")
    assert (meter.reading.drain_text(), meter.reading.response_model) == ("one one two drüi ", "m-1")


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A whole answer, ordinary or not; perhaps another one behind it, or cut."""
    bodies = [odd_body(draw, ANSWER, "message") for _ in range(1 + (not draw(st.integers(0, 4))))]
    body = b"\n".join(bodies)
    return body[: draw(st.integers(0, len(body)))] if not draw(st.integers(0, 9)) else body


@given(body=answers())
@example(body=json.dumps(ANSWER).encode())
def test_the_ordinary_way_reads_an_answer_as_the_general_one_does(body: bytes) -> None:
    ordinary, general = (ChoicesJsonMeter(CHAT._answers, FACTS) for _ in range(2))
    read = run(ordinary, [body])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_choices, "fitting", lambda _body, _decoder: None)
        assert read == run(general, [body])
    assert ordinary.reading == general.reading
    usages = [None if each.reading.usage is None else list(each.reading.usage.quantities) for each in (ordinary, general)]
    assert usages[0] == usages[1]  # in the same order too, in which a cost is rounded by kind


def test_an_ordinary_chunk_needs_no_general_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = ChoicesStreamMeter(CHAT._answers, FACTS, hides=True)
    first, event = (
        b"data: " + json.dumps(CHUNK | more, separators=(",", ":")).encode() + b"\n\n" for more in ({}, {"model": "m-2"})
    )
    meter.feed(first)
    monkeypatch.setattr(ChoicesStreamMeter, "_read", None)
    assert meter.feed(event) == event.replace(b',"usage":null', b"")
    assert (meter.reading.drain_text(), meter.reading.response_model) == ("word word ", "m-2")


def test_an_ordinary_answer_needs_no_general_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = ChoicesJsonMeter(CHAT._answers, FACTS)
    monkeypatch.setattr(ChoicesJsonMeter, "_read_any", None)
    read = run(meter, [json.dumps(ANSWER).encode()])
    assert read.usage == usage_of_totals(prompt=30, completion=20, cached=10, reasoning=5)
    assert (read.text, read.response_model, read.ended) == ("hi", "m-1", True)
