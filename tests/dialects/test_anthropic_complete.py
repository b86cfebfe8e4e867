"""Anthropic's text completions: no answer tells its usage, so all of its text has to be seen."""

import json
from typing import Any

import pytest
from openai_wire import compact, named_sse, read, sse
from splits import assert_split_invariant

from tallygate.dialects.anthropic_complete import AnthropicComplete
from tallygate.dialects.dialect import RequestFacts, UsageReporting
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

COMPLETE = AnthropicComplete()
FACTS = RequestFacts(model="claude-haiku-4-5", prompt=PromptShape(), stream=True)
PROMPT = "\n\nHuman: Hello\n\nAssistant:"


def request(**more: Any) -> dict[str, Any]:
    return {"model": "claude-haiku-4-5", "prompt": PROMPT, "max_tokens_to_sample": 20} | more


def event(text: str, stop: str | None = None) -> dict[str, Any]:
    return {"type": "completion", "completion": text, "stop_reason": stop, "model": "claude-haiku-4-5-1"}


def test_a_request_has_a_prompt_and_its_own_maximum() -> None:
    facts = read(COMPLETE, request(stream=True, stop_sequences=["\n"], temperature=1, metadata={"user_id": "u"}))
    assert (facts.model, facts.prompt.texts, facts.max_output_tokens, facts.stream) == ("claude-haiku-4-5", (PROMPT,), 20, True)
    assert facts.has_output
    assert read(COMPLETE, request(max_tokens_to_sample=0)).max_output_tokens is None
    assert read(COMPLETE, request(documents="more text")).prompt.texts == (PROMPT, "more text")
    assert COMPLETE.usage_reporting is UsageReporting.NOT_PROMISED


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"max_tokens_to_sample": -1}, "max_tokens_to_sample"),
        ({"Max_Tokens_To_Sample": 5}, "Max_Tokens_To_Sample"),
        ({"prompt": ["a", "b"]}, "prompt"),
    ],
)
def test_what_would_lift_its_bound_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        read(COMPLETE, request(**members))
    assert refused.value.param == param


def test_its_maximum_is_lowered_in_its_own_member() -> None:
    body = compact(request())
    lowered = COMPLETE.rewrite_request(body, FACTS, ask_usage=True, max_output_tokens=7)
    assert json.loads(lowered) == request(max_tokens_to_sample=7)
    assert COMPLETE.rewrite_request(body, FACTS, ask_usage=True, max_output_tokens=None) is body


def test_a_stream_ends_with_a_stop_reason_and_a_ping_is_nothing() -> None:
    stream = named_sse(event(" Hel"), {"type": "ping"}, event("lo"), event("", "stop_sequence"))
    reading = assert_split_invariant(COMPLETE, FACTS, stream, content_type="text/event-stream")
    assert (reading.text, reading.ended, reading.failed, reading.usage) == (" Hello", True, False, None)
    assert (reading.response_model, reading.flags) == ("claude-haiku-4-5-1", frozenset())


def test_a_stream_that_breaks_off_has_not_ended_and_an_error_is_one() -> None:
    cut = assert_split_invariant(COMPLETE, FACTS, named_sse(event(" Hel")), content_type="text/event-stream")
    assert (cut.text, cut.ended) == (" Hel", False)
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    failed = assert_split_invariant(COMPLETE, FACTS, named_sse(event(" Hel"), error), content_type="text/event-stream")
    assert (failed.ended, failed.failed) == (False, True)


def test_each_event_of_the_first_version_repeats_the_text_so_far() -> None:
    stream = sse(event(" Hel"), event(" Hello"), event(" Hello.", "stop_sequence"), b"data: [DONE]\n\n")
    reading = assert_split_invariant(COMPLETE, FACTS, stream, content_type="text/event-stream")
    assert (reading.text, reading.ended, reading.flags) == (" Hello.", True, frozenset())


def test_a_whole_answer_shows_its_text() -> None:
    answer = compact(event(" Hello", "max_tokens") | {"id": "compl_1"})
    reading = assert_split_invariant(COMPLETE, FACTS, answer, content_type="application/json")
    assert (reading.text, reading.ended, reading.failed) == (" Hello", True, False)
