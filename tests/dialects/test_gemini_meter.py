"""Gemini's usage in events, in an array sent in pieces and in one object; counts and prices computed by hand."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prices import price_of
from splits import assert_split_invariant, metered, pieces_at, run

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate, GeminiStreamGenerate
from tallygate.dialects.json_objects import OBJECT_BYTES_MAX
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import NO_USAGE, Usage, usage_of_totals

STREAMING = GeminiStreamGenerate()
DIALECT = GeminiGenerate()
STREAM = RequestFacts(model="gemini-2.5-flash", prompt=PromptShape(), stream=True)
WHOLE = RequestFacts(model="gemini-2.5-flash", prompt=PromptShape())
EVENTS = "text/event-stream"
JSON = "application/json; charset=UTF-8"
# USD per million tokens: 0.30 in, 2.50 out, 0.03 cached, 1.00 for audio in.
FLASH = price_of(
    model="gemini-2.5-flash",
    version="v1",
    effective_ms=0,
    input=300_000,
    output=2_500_000,
    cached_input=30_000,
    input_audio=1_000_000,
)


def answer(text: str = "", *, finish: str | None = None, index: int | None = 0, **members: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
    if index is not None:
        candidate["index"] = index
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r", **members}


def usage(prompt: int, candidates: int | None = None, **members: Any) -> dict[str, Any]:
    counts = {"promptTokenCount": prompt, "totalTokenCount": prompt + (candidates or 0) + members.get("thoughtsTokenCount", 0)}
    return counts | ({} if candidates is None else {"candidatesTokenCount": candidates}) | members


def events(*answers: object) -> bytes:
    return b"".join([b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in answers])


def array(*answers: object) -> bytes:
    """As Google sends it: the brackets and commas lie between pretty-printed objects."""
    return b"[" + b"\n,\r\n".join([json.dumps(each, indent=2).encode() for each in answers]) + b"\n]\n"


ANSWERS = (
    answer("Hel", usageMetadata=usage(8)),
    answer("lo", usageMetadata=usage(8, 2, thoughtsTokenCount=30)),
    answer("!", finish="STOP", usageMetadata=usage(8, 3, thoughtsTokenCount=30)),
)


@pytest.mark.parametrize(("body", "content_type"), [(events(*ANSWERS), EVENTS), (array(*ANSWERS), JSON)])
def test_a_stream_is_read_to_its_finish_reason_in_either_form(body: bytes, content_type: str) -> None:
    got = assert_split_invariant(STREAMING, STREAM, body, content_type=content_type)
    assert got.usage == usage_of_totals(prompt=8, completion=33, reasoning=30)  # thoughts stand beside the candidates
    assert got.response_model == "gemini-2.5-flash"
    assert got.text == "Hello!"
    assert got.ended
    assert not got.failed
    assert not got.flags


def test_a_whole_answer_is_read() -> None:
    body = json.dumps(answer("Hello", finish="STOP", usageMetadata=usage(8, 1)), indent=2).encode()
    got = assert_split_invariant(DIALECT, WHOLE, body, content_type=JSON)
    assert got.usage == usage_of_totals(prompt=8, completion=1)
    assert got.text == "Hello"
    assert got.ended


def test_a_stream_asked_for_without_a_content_type_is_events() -> None:
    assert metered(STREAMING, STREAM, events(*ANSWERS), content_type="").ended


def test_one_object_in_place_of_an_array_is_read() -> None:
    got = assert_split_invariant(STREAMING, STREAM, json.dumps({"error": {"code": 500}}).encode(), content_type=JSON)
    assert got.failed
    assert got.ended


def test_counts_that_go_down_are_taken_whole_from_the_last_object() -> None:
    # Recorded: an earlier object is larger than the last, which is consistent with its own total.
    first = {"promptTokenCount": 145, "candidatesTokenCount": 21, "totalTokenCount": 166}
    last = {"promptTokenCount": 85, "totalTokenCount": 85}
    got = metered(STREAMING, STREAM, events(answer("a", usageMetadata=first), answer(finish="STOP", usageMetadata=last)))
    assert got.usage == usage_of_totals(prompt=85)
    assert not got.flags


def test_an_oddity_of_an_earlier_object_is_forgotten_with_it() -> None:
    odd = {"promptTokenCount": -3, "totalTokenCount": 99}
    body = events(answer("a", usageMetadata=odd), answer(finish="STOP", usageMetadata=usage(8, 1)))
    assert not metered(STREAMING, STREAM, body).flags
    flags = metered(STREAMING, STREAM, events(answer("a", usageMetadata=odd))).flags
    assert flags == {"usage_clamped", "usage_inconsistent", "usage_total_only"}


def test_an_object_without_counts_replaces_nothing() -> None:
    body = events(answer("a", usageMetadata=usage(8, 1)), answer(finish="STOP", usageMetadata={"trafficType": "ON_DEMAND"}))
    assert metered(STREAMING, STREAM, body).usage == usage_of_totals(prompt=8, completion=1)


@pytest.mark.parametrize("value", [None, {}, [], "none", 7, {"trafficType": "ON_DEMAND"}])
def test_no_counts_are_no_usage(value: object) -> None:
    assert metered(STREAMING, STREAM, events(answer("a", finish="STOP", usageMetadata=value))).usage is None


@pytest.mark.parametrize(
    ("stated", "counts", "flags", "nano_usd"),
    [
        # 1_000 * 0.3 + (100 + 400) * 2.5 micro-USD
        (
            {"promptTokenCount": 1_000, "candidatesTokenCount": 100, "thoughtsTokenCount": 400, "totalTokenCount": 1_500},
            usage_of_totals(prompt=1_000, completion=500, reasoning=400),
            set(),
            1_550_000,
        ),
        # results of tools are input: (1_000 + 200) * 0.3 + 10 * 2.5 micro-USD
        (
            {"promptTokenCount": 1_000, "toolUsePromptTokenCount": 200, "candidatesTokenCount": 10, "totalTokenCount": 1_210},
            usage_of_totals(prompt=1_200, completion=10),
            set(),
            385_000,
        ),
        # cached lies inside the prompt: 200 * 0.3 + 800 * 0.03 + 10 * 2.5 micro-USD
        (
            {"promptTokenCount": 1_000, "cachedContentTokenCount": 800, "candidatesTokenCount": 10, "totalTokenCount": 1_010},
            usage_of_totals(prompt=1_000, completion=10, cached=800),
            set(),
            109_000,
        ),
        # what the total has beyond its parts was billed as output: 10 * 0.3 + (5 + 85) * 2.5 micro-USD
        (
            {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 100},
            usage_of_totals(prompt=10, completion=90),
            {"usage_inconsistent"},
            228_000,
        ),
        # 700 text * 0.3 + 300 audio * 1 micro-USD
        (
            {
                "promptTokenCount": 1_000,
                "totalTokenCount": 1_000,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 700}, {"modality": "AUDIO", "tokenCount": 300}],
            },
            usage_of_totals(prompt=1_000, audio_prompt=300),
            set(),
            510_000,
        ),
        # 250 of the 300 audio tokens came from the cache: 700 * 0.3 + 250 * 0.03 + 50 * 1 micro-USD
        (
            {
                "promptTokenCount": 1_000,
                "totalTokenCount": 1_000,
                "cachedContentTokenCount": 250,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 700}, {"modality": "AUDIO", "tokenCount": 300}],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 250}],
            },
            usage_of_totals(prompt=1_000, cached=250, audio_prompt=300, cached_audio=250),
            set(),
            267_500,
        ),
        # a tool's result can be audio: 100 * 0.3 + 50 * 1 micro-USD
        (
            {
                "promptTokenCount": 100,
                "toolUsePromptTokenCount": 50,
                "totalTokenCount": 150,
                "toolUsePromptTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
            },
            usage_of_totals(prompt=150, audio_prompt=50),
            set(),
            80_000,
        ),
        # images and audio in the answer: 10 * 0.3 + 1_300 * 2.5 micro-USD
        (
            {
                "promptTokenCount": 10,
                "candidatesTokenCount": 1_300,
                "totalTokenCount": 1_310,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}, {"modality": "AUDIO", "tokenCount": 10}],
            },
            Usage({Unit.INPUT: 10, Unit.OUTPUT_AUDIO: 10, Unit.OUTPUT_IMAGE: 1_290}),
            set(),
            3_253_000,
        ),
        ({"promptTokenCount": 0, "totalTokenCount": 0}, NO_USAGE, set(), 0),  # an explicit zero is a value
        # a cached part above its whole is cut to it: 10 * 0.03 micro-USD
        (
            {"promptTokenCount": 10, "cachedContentTokenCount": 161, "totalTokenCount": 10},
            usage_of_totals(prompt=10, cached=10),
            {"usage_clamped"},
            300,
        ),
        (
            {"promptTokenCount": "12", "candidatesTokenCount": -4, "thoughtsTokenCount": 1.5},
            usage_of_totals(prompt=12, completion=2, reasoning=2),
            {"usage_clamped"},
            8_600,
        ),
    ],
)
def test_usage_is_counted_and_priced_as_billed(stated: dict[str, Any], counts: Usage, flags: set[str], nano_usd: int) -> None:
    told = answer("x", finish="STOP", usageMetadata=stated)
    for dialect, facts, body, content_type in (
        (STREAMING, STREAM, events(told), EVENTS),
        (STREAMING, STREAM, array(told), JSON),
        (DIALECT, WHOLE, json.dumps(told).encode(), JSON),
    ):
        got = metered(dialect, facts, body, content_type=content_type)
        assert got.usage == counts
        assert got.flags == flags
    assert FLASH.cost_nano_usd(counts) == nano_usd


@pytest.mark.parametrize("finish", ["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "SOMETHING_NEW"])
def test_any_finish_reason_is_an_end(finish: str) -> None:
    assert metered(STREAMING, STREAM, events(answer("a", finish=finish))).ended


@pytest.mark.parametrize("finish", [None, "", "FINISH_REASON_UNSPECIFIED"])
def test_an_empty_finish_reason_is_none(finish: str | None) -> None:
    assert not metered(STREAMING, STREAM, events({"candidates": [{"finishReason": finish}]})).ended


def test_two_candidates_end_when_both_have() -> None:
    facts = RequestFacts(model="m", prompt=PromptShape(), stream=True, choices=2)
    first = events(answer("a", finish="STOP", index=0), answer("b", index=1))
    assert not metered(STREAMING, facts, first).ended
    assert not metered(STREAMING, facts, first + events(answer("", finish="STOP", index=0))).ended
    assert metered(STREAMING, facts, first + events(answer("", finish="STOP", index=1))).ended
    assert not metered(STREAMING, facts, events(answer(finish="STOP", index=0), answer(finish="STOP", index=None))).ended


def test_a_blocked_prompt_ends_without_a_candidate() -> None:
    body = events({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage(8)})
    got = metered(STREAMING, STREAM, body)
    assert got.ended
    assert got.usage == usage_of_totals(prompt=8)


def test_usage_after_the_finish_reason_is_read() -> None:
    body = events(answer("a", finish="STOP"), {"usageMetadata": usage(8, 1)})
    assert metered(STREAMING, STREAM, body).usage == usage_of_totals(prompt=8, completion=1)


def test_calls_and_code_are_text() -> None:
    parts = [
        {"text": "Thinking.", "thought": True},
        {"functionCall": {"name": "look", "args": {"at": 1}}},
        {"functionCall": {"name": "stop"}},
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
    ]
    assert (
        metered(STREAMING, STREAM, events({"candidates": [{"content": {"parts": parts}}]})).text
        == 'Thinking.look{"at":1}stopprint(1)'
    )


@pytest.mark.parametrize("framed", [events, array])
def test_an_error_inside_a_stream_is_noted(framed: Any) -> None:
    content_type = EVENTS if framed is events else JSON
    body = framed(ANSWERS[0], {"error": {"code": 503, "status": "UNAVAILABLE", "message": "Overloaded"}})
    got = assert_split_invariant(STREAMING, STREAM, body, content_type=content_type)
    assert got.failed
    assert got.usage == usage_of_totals(prompt=8)


def test_a_cut_stream_has_not_ended() -> None:
    for body, content_type in ((events(*ANSWERS[:2]), EVENTS), (array(*ANSWERS[:2])[:-3], JSON), (array(*ANSWERS)[:-40], JSON)):
        got = assert_split_invariant(STREAMING, STREAM, body, content_type=content_type)
        assert not got.ended
        assert got.usage == usage_of_totals(prompt=8, completion=32, reasoning=30)


def test_an_element_that_is_too_large_is_given_up_and_the_rest_is_read() -> None:
    body = array(answer("x" * OBJECT_BYTES_MAX), answer("!", finish="STOP", usageMetadata=usage(8, 3)))
    got = run(
        STREAMING.meter(STREAM, content_type=JSON, hide_usage_chunk=False), pieces_at(body, list(range(0, len(body), 65_536)))
    )
    assert got.relayed == body
    assert got.usage == usage_of_totals(prompt=8, completion=3)
    assert got.flags == {"event_too_large"}


def test_usage_at_the_end_of_a_large_whole_answer_is_found() -> None:
    image = {"candidates": [{"content": {"parts": [{"inlineData": {"data": "A" * (17 * 1024 * 1024)}}]}, "finishReason": "STOP"}]}
    stated = usage(10, 1_290, candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 1_290}])
    body = json.dumps({**image, "usageMetadata": stated, "modelVersion": "m"}).encode()
    got = run(
        DIALECT.meter(WHOLE, content_type=JSON, hide_usage_chunk=False), pieces_at(body, list(range(0, len(body), 1_000_000)))
    )
    assert got.usage == Usage({Unit.INPUT: 10, Unit.OUTPUT_IMAGE: 1_290})
    assert got.flags == {"body_too_large"}


def test_embeddings_with_usage_are_counted_and_without_it_are_not() -> None:
    facts = RequestFacts(model="gemini-embedding-001", prompt=PromptShape(), has_output=False)
    body = json.dumps({"embedding": {"values": [0.1]}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}).encode()
    got = assert_split_invariant(GeminiEmbed(), facts, body, content_type=JSON)
    assert got.usage == usage_of_totals(prompt=5)
    assert got.ended
    got = metered(GeminiEmbed(), facts, b'{"usageMetadata":{"promptTokenCount":4,"totalTokenCount":7}}', content_type=JSON)
    assert got.usage == usage_of_totals(prompt=7)
    got = metered(GeminiEmbed(), facts, b'{"embeddings":[{"values":[0.1]}]}', content_type=JSON)
    assert got.usage is None
    assert got.ended


def test_counting_tokens_is_free_whatever_it_counts() -> None:
    facts = RequestFacts(model="m", prompt=PromptShape(), has_output=False)
    got = assert_split_invariant(GeminiCountTokens(), facts, b'{\n "totalTokens": 31\n}\n', content_type=JSON)
    assert got.usage == NO_USAGE
    assert got.ended


def test_a_body_of_another_type_is_relayed_unread() -> None:
    for dialect, facts in ((DIALECT, WHOLE), (STREAMING, STREAM), (GeminiEmbed(), WHOLE)):
        for body, content_type in ((b"word " + events(*ANSWERS), "text/plain"), (events(*ANSWERS), "image/png")):
            got = metered(dialect, facts, body, content_type=content_type)
            assert got.relayed == body
            assert got.usage is None


json_scraps = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["content", "parts", "text", "functionCall", "args", "name", "finishReason", "index", "modality", "tokenCount"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
answers = st.dictionaries(
    st.sampled_from(["candidates", "usageMetadata", "modelVersion", "promptFeedback", "error"]),
    json_scraps
    | st.dictionaries(
        st.sampled_from(
            [
                "promptTokenCount",
                "candidatesTokenCount",
                "thoughtsTokenCount",
                "toolUsePromptTokenCount",
                "cachedContentTokenCount",
                "totalTokenCount",
                "promptTokensDetails",
                "candidatesTokensDetails",
                "cacheTokensDetails",
            ]
        ),
        st.integers(-5, 10**12) | json_scraps,
    ),
)


@given(st.lists(answers, max_size=4), st.binary(max_size=20), st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 3000))
def test_whatever_comes_is_relayed_and_read_alike_at_any_split(
    told: list[object], noise: bytes, cuts: list[int], noise_at: int
) -> None:
    for dialect, facts, clean, content_type in (
        (STREAMING, STREAM, events(*told), EVENTS),
        (STREAMING, STREAM, array(*told), JSON),
        (DIALECT, WHOLE, json.dumps(told[0] if told else {}).encode(), JSON),
    ):
        for body in (clean, clean[:noise_at] + noise + clean[noise_at:]):
            whole = metered(dialect, facts, body, content_type=content_type)
            assert whole.relayed == body
            assert run(dialect.meter(facts, content_type=content_type, hide_usage_chunk=True), pieces_at(body, cuts)) == whole
