"""Anthropic's usage, streamed and whole, against counts and prices computed by hand; any split, any bytes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prices import price_of
from search import cases
from splits import assert_split_invariant, metered, pieces_at, run

from tallygate.dialects import anthropic_meter
from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import NO_USAGE, TOKENS_MAX, Usage, usage_of_totals

DIALECT = AnthropicMessages()
STREAM = RequestFacts(model="claude-sonnet-4-5", prompt=PromptShape(), stream=True)
WHOLE = RequestFacts(model="claude-sonnet-4-5", prompt=PromptShape())
# USD per million tokens: 3 in, 15 out, 0.30 read from the cache, 3.75 and 6 written to it.
SONNET = price_of(
    model="claude-sonnet-4-5",
    version="v1",
    effective_ms=0,
    input=3_000_000,
    output=15_000_000,
    cached_input=300_000,
    cache_write_5m=3_750_000,
    cache_write_1h=6_000_000,
)


def event(name: str, **members: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **members})}\n\n".encode()


def start(usage: object, model: str = "claude-sonnet-4-5-20250929") -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": usage}
    return event("message_start", message=message)


def text(piece: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})


def delta(usage: object, stop_reason: str = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, usage=usage)


PING = event("ping")
STOP = event("message_stop")
STARTED = {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
PLAIN = (
    start(STARTED)
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + PING
    + text("Hello")
    + text("!")
    + event("content_block_stop", index=0)
    + delta({"output_tokens": 15})
    + STOP
)


def test_a_stream_is_read_to_its_stop_and_relayed_as_it_is() -> None:
    got = assert_split_invariant(DIALECT, STREAM, PLAIN)
    assert got.usage == usage_of_totals(prompt=25, completion=15)
    assert got.response_model == "claude-sonnet-4-5-20250929"
    assert got.text == "Hello!"
    assert got.ended
    assert not got.failed
    assert not got.flags


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_other_line_ends_read_the_same(line_end: bytes) -> None:
    got = assert_split_invariant(DIALECT, STREAM, PLAIN.replace(b"\n", line_end))
    assert (got.usage, got.text, got.ended) == (usage_of_totals(prompt=25, completion=15), "Hello!", True)


def test_thinking_and_tool_arguments_are_text_too() -> None:
    body = (
        start(STARTED)
        + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm. "})
        + event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "EqQBCg=="})
        + event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "get_weather", "input": {}})
        + event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"city":'})
        + event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '"Rome"}'})
        + delta({"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}}, "tool_use")
        + STOP
    )
    got = assert_split_invariant(DIALECT, STREAM, body)
    assert got.text == 'Hm. get_weather{"city":"Rome"}'
    assert got.usage == usage_of_totals(prompt=25, completion=40, reasoning=30)


def test_a_later_statement_replaces_an_earlier_one_and_is_never_added() -> None:
    # A web search: the input counts of message_start are replaced by those of message_delta.
    searched = {
        "input_tokens": 404_500,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1_200,
        "server_tool_use": {"web_search_requests": 3},
    }
    body = start({**STARTED, "input_tokens": 2_479}) + delta({"output_tokens": 700}) + delta(searched) + STOP
    got = assert_split_invariant(DIALECT, STREAM, body)
    assert got.usage == usage_of_totals(prompt=404_500, completion=1_200)
    assert got.billed_calls == {Unit.WEB_SEARCH: 3}
    assert not got.flags


def test_a_null_in_a_later_statement_replaces_nothing() -> None:
    body = start(STARTED) + delta({"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 9})
    assert metered(DIALECT, STREAM, body).usage == usage_of_totals(prompt=25, completion=9)


@pytest.mark.parametrize(
    ("usage", "counts", "nano_usd"),
    [
        # Input excludes what was cached: 100 + 1_500 + 20_000 in all. 100 * 3 + 1_000 * 3.75 + 500 * 6 + 20_000 * 0.3 + 200 * 15
        # = 300 + 3_750 + 3_000 + 6_000 + 3_000 micro-USD.
        (
            {
                "input_tokens": 100,
                "cache_creation_input_tokens": 1_500,
                "cache_read_input_tokens": 20_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 500},
                "output_tokens": 200,
            },
            usage_of_totals(prompt=21_600, completion=200, cached=20_000, cache_write_5m=1_000, cache_write_1h=500),
            16_050_000,
        ),
        # No split: all of it for 5 minutes. 10 * 3 + 1_500 * 3.75 + 1 * 15 micro-USD.
        (
            {"input_tokens": 10, "cache_creation_input_tokens": 1_500, "output_tokens": 1},
            usage_of_totals(prompt=1_510, completion=1, cache_write_5m=1_500),
            5_670_000,
        ),
        # A split without its total is the total. 10 * 3 + 500 * 6 micro-USD.
        (
            {"input_tokens": 10, "cache_creation": {"ephemeral_1h_input_tokens": 500}, "output_tokens": 0},
            usage_of_totals(prompt=510, cache_write_1h=500),
            3_030_000,
        ),
        # Everything from the cache: 1_000 * 0.3 + 2 * 15 micro-USD.
        (
            {"input_tokens": 0, "cache_read_input_tokens": 1_000, "output_tokens": 2},
            usage_of_totals(prompt=1_000, completion=2, cached=1_000),
            330_000,
        ),
        ({"input_tokens": 0, "output_tokens": 0}, NO_USAGE, 0),  # an explicit zero is a value
    ],
)
def test_cached_input_is_counted_and_priced_as_billed(usage: dict[str, Any], counts: Usage, nano_usd: int) -> None:
    for facts, body, content_type in (
        (STREAM, start(usage) + STOP, "text/event-stream; charset=utf-8"),
        (WHOLE, json.dumps({"type": "message", "usage": usage}).encode(), "application/json"),
    ):
        got = metered(DIALECT, facts, body, content_type=content_type)
        assert got.usage == counts
        assert SONNET.cost_nano_usd(counts) == nano_usd
        assert not got.flags


def test_a_total_raised_after_the_split_keeps_to_the_kind_that_was_written() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 500}
    body = start({**STARTED, "cache_creation_input_tokens": 500, "cache_creation": split})
    body += delta({"cache_creation_input_tokens": 800, "output_tokens": 5})
    assert metered(DIALECT, STREAM, body).usage == usage_of_totals(prompt=825, completion=5, cache_write_1h=800)

    split = {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200}
    body = start({**STARTED, "cache_creation_input_tokens": 500, "cache_creation": split})
    body += delta({"cache_creation_input_tokens": 800, "output_tokens": 5})
    got = metered(DIALECT, STREAM, body).usage
    assert got == usage_of_totals(prompt=825, completion=5, cache_write_5m=600, cache_write_1h=200)


def test_a_write_without_a_split_is_for_an_hour_where_only_that_was_asked_for() -> None:
    facts = RequestFacts(model="m", prompt=PromptShape(), stream=True, units=units_of(cache_write_1h=True))
    got = metered(DIALECT, facts, start({**STARTED, "cache_creation_input_tokens": 500}) + STOP)
    assert got.usage == usage_of_totals(prompt=525, completion=1, cache_write_1h=500)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"input_tokens": -5, "output_tokens": 3}, usage_of_totals(completion=3)),
        ({"input_tokens": "12", "output_tokens": 2.5}, usage_of_totals(prompt=12, completion=3)),
        ({"input_tokens": 10**15, "output_tokens": 1}, usage_of_totals(prompt=TOKENS_MAX, completion=1)),
        ({"input_tokens": True, "output_tokens": [1]}, NO_USAGE),
        (
            {"input_tokens": 5, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 9}},
            usage_of_totals(prompt=5, completion=4, reasoning=4),
        ),
    ],
)
def test_odd_counts_are_clamped_and_flagged(usage: dict[str, Any], counts: Usage) -> None:
    got = metered(DIALECT, STREAM, start(usage) + STOP)
    assert got.usage == counts
    assert "usage_clamped" in got.flags
    assert got.ended


@pytest.mark.parametrize("usage", [None, {}, [], "none", 5, {"service_tier": "standard"}])
def test_no_counts_are_no_usage(usage: object) -> None:
    assert metered(DIALECT, STREAM, start(usage) + STOP).usage is None


def test_passes_beside_the_answer_are_charged_with_it() -> None:
    message = {"type": "message", "input_tokens": 25, "output_tokens": 15}
    usage = {"input_tokens": 25, "output_tokens": 15, "iterations": [message]}
    assert not metered(DIALECT, STREAM, start(usage)).flags

    compaction = {"type": "compaction", "input_tokens": 900, "output_tokens": 100}
    got = metered(DIALECT, STREAM, start({**usage, "iterations": [compaction, message]}))
    assert got.usage is not None
    assert got.usage.quantities == {Unit.INPUT: 925, Unit.OUTPUT: 115}
    assert [each.quantities for each in got.usage.passes] == [
        {Unit.INPUT: 25, Unit.OUTPUT: 15},
        {Unit.INPUT: 900, Unit.OUTPUT: 100},
    ]
    assert not got.flags

    absurd = {**compaction, "input_tokens": 10**9, "cache_read_input_tokens": 10**9}
    got = metered(DIALECT, STREAM, start({**usage, "iterations": [absurd] * 3}))
    assert got.usage is not None
    assert got.usage.prompt == TOKENS_MAX

    advisor = {"type": "advisor_message", "model": "dear", "input_tokens": 900, "output_tokens": 100}
    got = metered(DIALECT, STREAM, start({**usage, "iterations": [advisor, message]}))
    assert got.usage is not None
    assert [(each.model, each.quantities) for each in got.usage.passes] == [
        (None, {Unit.INPUT: 25, Unit.OUTPUT: 15}),
        ("dear", {Unit.INPUT: 900, Unit.OUTPUT: 100}),
    ]
    assert not got.flags


def test_an_error_event_ends_nothing_but_is_noted() -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    got = assert_split_invariant(DIALECT, STREAM, start(STARTED) + text("Hel") + event("error", error=error))
    assert got.failed
    assert not got.ended
    assert got.usage == usage_of_totals(prompt=25, completion=1)


def test_an_error_event_is_known_by_its_name_alone() -> None:
    got = metered(DIALECT, STREAM, b"event: error\ndata: upstream went away\n\n")
    assert got.failed
    assert got.flags == {"event_unreadable"}


def test_a_stream_cut_before_its_stop_has_not_ended() -> None:
    got = assert_split_invariant(DIALECT, STREAM, PLAIN[: -len(STOP)])
    assert not got.ended
    assert got.usage == usage_of_totals(prompt=25, completion=15)
    assert not metered(DIALECT, STREAM, PLAIN[: -len(STOP) - 60]).ended


def test_unknown_events_and_comments_pass() -> None:
    body = b": keep-alive\n\n" + event("content_block_novelty", index=0, delta={"text": "x"}) + PLAIN
    got = assert_split_invariant(DIALECT, STREAM, body)
    assert got.usage == usage_of_totals(prompt=25, completion=15)
    assert got.text == "Hello!"


def test_a_whole_message_is_read() -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 8, "output_tokens": 12, "output_tokens_details": {"thinking_tokens": 2}},
    }
    got = assert_split_invariant(DIALECT, WHOLE, json.dumps(message, indent=1).encode(), content_type="application/json")
    assert got.usage == usage_of_totals(prompt=8, completion=12, reasoning=2)
    assert got.response_model == "claude-opus-4"
    assert got.text == 'Hm.Hellolook{"at":1}'
    assert got.ended
    assert not got.failed


@pytest.mark.parametrize(
    "body", [b'{"type":"error","error":{"type":"api_error"}}', b'{"type":"error"}', b'{"error":{"message":"x"}}']
)
def test_an_error_in_a_200_body_is_noted(body: bytes) -> None:
    got = metered(DIALECT, WHOLE, body, content_type="application/json")
    assert got.failed
    assert got.usage is None


def test_a_cut_body_is_not_an_end() -> None:
    got = metered(DIALECT, WHOLE, b'{"type":"message","usage":{"input_tokens":5', content_type="application/json")
    assert not got.ended
    assert got.flags == {"body_unreadable"}


def test_a_body_of_another_type_is_relayed_unread() -> None:
    for body, content_type in ((b"<html>" + PLAIN, "text/html"), (PLAIN, "audio/mpeg")):
        got = assert_split_invariant(DIALECT, STREAM, body, content_type=content_type)
        assert got.usage is None


def test_counting_tokens_is_free_whatever_it_counts() -> None:
    facts = RequestFacts(model="m", prompt=PromptShape(), has_output=False)
    body = b'{"input_tokens": 2095}'
    got = assert_split_invariant(AnthropicCountTokens(), facts, body, content_type="application/json")
    assert got.usage == NO_USAGE
    assert got.ended
    assert not metered(AnthropicCountTokens(), facts, body[:-1], content_type="application/json").ended


json_scraps = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
usages = st.dictionaries(
    st.sampled_from(
        [
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "cache_creation",
            "output_tokens_details",
            "iterations",
            "server_tool_use",
        ]
    ),
    st.integers(-5, 10**12)
    | json_scraps
    | st.dictionaries(
        st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "thinking_tokens"]),
        st.integers(-5, 100) | json_scraps,
    ),
)
events = st.one_of(
    usages.map(start),
    usages.map(delta),
    st.text(max_size=8).map(text),
    st.sampled_from([PING, STOP, b": comment\n\n", b"data: {\n\n", b"\r\n"]),
    st.tuples(
        st.sampled_from(["message_start", "message_delta", "content_block_delta", "content_block_start", "error", "x"]),
        st.dictionaries(st.sampled_from(["message", "delta", "usage", "content_block", "error", "model"]), json_scraps),
    ).map(lambda pair: event(pair[0], **pair[1])),
    st.binary(max_size=20),
)


@given(st.lists(events, max_size=8).map(b"".join), st.lists(st.integers(0, 3000), max_size=6))
def test_whatever_comes_is_relayed_and_read_alike_at_any_split(body: bytes, cuts: list[int]) -> None:
    for facts, content_type in ((STREAM, "text/event-stream"), (WHOLE, "application/json")):
        whole = metered(DIALECT, facts, body, content_type=content_type)
        assert whole.relayed == body
        meter = DIALECT.meter(facts, content_type=content_type, hide_usage_chunk=True)
        assert run(meter, pieces_at(body, cuts)) == whole


@given(json_scraps, usages)
def test_no_body_of_json_is_too_odd(content: object, usage: object) -> None:
    body = json.dumps({"content": content, "usage": usage, "model": content, "error": usage}).encode()
    assert metered(DIALECT, WHOLE, body, content_type="application/json").ended


def test_deep_nesting_is_survived() -> None:
    for depth in range(300, 1100, 7):
        deep = '{"a":' * depth + "1" + "}" * depth
        body = f'{{"content":[{{"type":"tool_use","input":{deep}}}],"usage":{{"input_tokens":1,"output_tokens":1}}}}'.encode()
        assert metered(DIALECT, WHOLE, body, content_type="application/json").relayed == body


DELTAS = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}%s}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"%s"}%s}\n\n',
    'data: {"type":"content_block_delta","delta":{"text":"%s","type":"text_delta"}%s}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"%s"}%s}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%s","name":"f"}%s}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a","text":"%s"}%s}\n\n',
    'event: error\ndata: {"type":"error","error":{"text":"%s"}%s}\n\n',
    'event: message_delta\ndata: {"type":"message_delta","delta":{"text":"%s"},"usage":{"output_tokens":7}%s}\n\n',
)
SAID = st.sampled_from(["", "word ", "ü", '\\"', "\\n", "\\u00fc", "\n", "\t", "\u2028", '"', '"},"text":"b', "a\udcff"])
PADDED = st.sampled_from(["", "", " ", "      ", "\t", "x", ',"delta":{"type":"text_delta","text":"b"}'])


@st.composite
def repetitions(draw: st.DrawFn) -> list[bytes]:
    """Events that repeat one another in all but text and padding, most of the time."""
    form, events = draw(st.sampled_from(DELTAS)), []
    for _ in range(draw(st.integers(1, 10))):
        if not draw(st.integers(0, 4)):
            form = draw(st.sampled_from(DELTAS))
        events.append((form % (draw(SAID), draw(PADDED))).encode(errors="surrogateescape"))
    return events


@given(events=repetitions(), joined=st.sets(st.integers(0, 9)), cuts=st.lists(st.integers(0, 1_500), max_size=2))
@settings(max_examples=cases(short=300, steady=1_500, deep=15_000), deadline=None)
def test_repetitions_are_read_as_by_the_general_reader(events: list[bytes], joined: set[int], cuts: list[int]) -> None:
    repeated, general = (DIALECT.meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False) for _ in range(2))
    for meter in (repeated, general):
        meter.feed(PING)
    general.feed.__self__._patterns_left = 0
    body, ends, at = b"".join(events), {0}, 0
    for number, each in enumerate(events):
        at += len(each)
        if number not in joined:
            ends.add(at)
    for piece in pieces_at(body, [*ends, *cuts]):
        assert repeated.feed(piece) == general.feed(piece)
        assert repeated.reading == general.reading
    assert run(repeated, []) == run(general, [])


def test_a_repetition_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = DIALECT.meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False)
    for said in (PING, (DELTAS[0] % ("one ", "   ")).encode()):
        meter.feed(said)
    monkeypatch.setattr(anthropic_meter, "lenient_decode", None)
    for text, padding in (("two ", ""), ("drüi", "      "), (" ", " ")):
        again = (DELTAS[0] % (text, padding)).encode()
        assert meter.feed(again) == again
    assert meter.reading.drain_text() == "one two drüi "


def test_a_repetition_with_an_escaped_text_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = DIALECT.meter(STREAM, content_type="text/event-stream", hide_usage_chunk=False)
    for said in (PING, (DELTAS[0] % ("one ", "")).encode()):
        meter.feed(said)
    monkeypatch.setattr(anthropic_meter, "fitting", None)
    escaped = (DELTAS[0] % ("two\\n", "")).encode()
    assert meter.feed(escaped) == escaped
    assert meter.reading.drain_text() == "one two\n"
