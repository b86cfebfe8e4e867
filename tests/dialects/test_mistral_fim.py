"""Mistral's fill-in-the-middle: asked like a completion, answered like a chat, with the usage told unasked."""

import json
from typing import Any

import pytest
from openai_wire import DONE, chunk, compact, read, sse, usage
from splits import assert_split_invariant

from tallygate.dialects.dialect import RequestFacts, UsageReporting
from tallygate.dialects.mistral_fim import ADDED_TOKENS, MistralFim
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import usage_of_totals

FIM = MistralFim()
FACTS = RequestFacts(model="codestral-latest", prompt=PromptShape(), stream=True)


def request(**more: Any) -> dict[str, Any]:
    return {"model": "codestral-latest", "prompt": "def", "suffix": "return a+b"} | more


def piece(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return chunk({"content": text}, finish, model="codestral-2508", **more)


def test_a_request_has_a_prompt_a_suffix_and_a_maximum() -> None:
    how = {"temperature": 0.2, "top_p": 1, "random_seed": 1337, "stop": ["\n\n"], "metadata": {"a": "b"}, "prompt_cache_key": "k"}
    facts = read(FIM, request(max_tokens=64, stream=True, **how))
    assert (facts.model, facts.prompt, facts.stream) == ("codestral-latest", PromptShape(texts=("def", "return a+b")), True)
    assert (facts.max_output_tokens, facts.output_min_tokens, facts.choices) == (64, 1, 1)
    assert (facts.added_tokens, facts.has_output, facts.has_unknown_input) == (ADDED_TOKENS, True, False)

    bare = read(FIM, {"model": "codestral-latest", "prompt": "def", "suffix": None, "max_tokens": None, "min_tokens": None})
    assert (bare.prompt.texts, bare.max_output_tokens, bare.output_min_tokens, bare.stream) == (("def",), None, 1, False)
    assert read(FIM, request(max_tokens=0)).max_output_tokens is None


@pytest.mark.parametrize(
    ("members", "maximum", "least"),
    [
        ({"min_tokens": 30}, None, 30),
        ({"min_tokens": 30, "max_tokens": 64}, 64, 30),
        ({"min_tokens": 30, "max_tokens": 8}, 30, 30),
        ({"min_tokens": 0, "max_tokens": 8}, 8, 1),
    ],
)
def test_a_minimum_is_held_and_no_maximum_is_lowered_below_it(members: dict[str, Any], maximum: int | None, least: int) -> None:
    facts = read(FIM, request(**members))
    assert (facts.max_output_tokens, facts.output_min_tokens) == (maximum, least)


def test_what_a_service_of_openais_shape_would_obey_is_held_too() -> None:
    facts = read(FIM, request(prompt=["a", "b"], n=2, documents="more text"))
    assert (facts.choices, facts.prompt.texts) == (4, ("a", "b", "return a+b", "more text"))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"prompt": 5}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"Max_Tokens": 5}, "Max_Tokens"),
        ({"minTokens": 5}, "minTokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": "5"}, "min_tokens"),
        ({"min_tokens": True}, "min_tokens"),
        ({"min_tokens": 5.0}, "min_tokens"),
        ({"min_tokens": 10**15}, "min_tokens"),
    ],
)
def test_what_would_lift_its_bound_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        read(FIM, request(**members))
    assert refused.value.param == param


def test_its_maximum_is_lowered_and_its_usage_never_asked_for() -> None:
    body = compact(request(stream=True, max_tokens=64))
    facts = read(FIM, body)
    assert FIM.usage_reporting is UsageReporting.ALWAYS, "so that no stream is asked"
    lowered = FIM.rewrite_request(body, facts, ask_usage=False, max_output_tokens=7)
    assert json.loads(lowered) == request(stream=True, max_tokens=7)
    bounded = FIM.rewrite_request(compact(request()), FACTS, ask_usage=False, max_output_tokens=7)
    assert json.loads(bounded) == request(max_tokens=7)


def test_a_stream_tells_its_usage_beside_the_last_text() -> None:
    stream = sse(piece(" add(a"), piece(", b):"), piece("", "stop", usage=usage(8, 9)), DONE)
    reading = assert_split_invariant(FIM, FACTS, stream)
    assert (reading.usage, reading.text) == (usage_of_totals(prompt=8, completion=9), " add(a, b):")
    assert (reading.response_model, reading.ended, reading.failed) == ("codestral-2508", True, False)
    meter = FIM.meter(FACTS, content_type="text/event-stream", hide_usage_chunk=False)
    meter.feed(stream)
    assert not meter.reading.is_usage_midstream


def test_a_stream_without_usage_shows_its_text() -> None:
    reading = assert_split_invariant(FIM, FACTS, sse(piece(" add(a"), piece(", b):", "length"), DONE))
    assert (reading.usage, reading.text, reading.ended) == (None, " add(a, b):", True)


def test_a_stream_that_breaks_off_has_not_ended_and_an_error_is_one() -> None:
    cut = assert_split_invariant(FIM, FACTS, sse(piece(" add(a")))
    assert (cut.text, cut.ended, cut.usage) == (" add(a", False, None)
    assert assert_split_invariant(FIM, FACTS, sse(piece(" add(a"), piece("", "error"), DONE)).failed


def test_a_whole_answer_tells_its_usage_and_what_of_it_was_cached() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": " add(a, b):", "tool_calls": None}, "finish_reason": "stop"}
    told = usage(8, 9, prompt_tokens_details={"cached_tokens": 6})
    answer = compact({"object": "chat.completion", "model": "codestral-2508", "choices": [choice], "usage": told})
    reading = assert_split_invariant(FIM, FACTS, answer, content_type="application/json")
    assert (reading.usage, reading.text) == (usage_of_totals(prompt=8, completion=9, cached=6), " add(a, b):")
    assert (reading.ended, reading.failed) == (True, False)
