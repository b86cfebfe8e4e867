from typing import Any

import pytest
from openai_wire import chunk, compact, named_sse, read, sse, usage
from splits import assert_split_invariant, metered

from tallygate.dialects.dialect import Dialect, RequestFacts
from tallygate.dialects.gloo import GlooChat, GlooChatV1, GlooGroundedChat, GlooGroundedResponses, GlooResponses
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import Usage, usage_of_totals

CHAT, RESPONSES = GlooChat(), GlooResponses()
FACTS = RequestFacts(model=None, prompt=PromptShape(), stream=True)
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("dialect", [CHAT, GlooChatV1(), GlooGroundedChat(), RESPONSES, GlooGroundedResponses()])
@pytest.mark.parametrize(
    ("chosen", "model", "family"),
    [
        ({"auto_routing": True}, None, None),
        ({"model": "gloo-openai-gpt-5.2"}, "gloo-openai-gpt-5.2", None),
        ({"model": "gloo-openai-gpt-5.2", "auto_routing": False, "model_family": None}, "gloo-openai-gpt-5.2", None),
        ({"model_family": "Open Source"}, None, "open source"),
    ],
)
def test_the_model_is_known_only_where_the_request_names_it(
    dialect: Dialect, chosen: dict[str, Any], model: str | None, family: str | None
) -> None:
    facts = read(dialect, MESSAGES | {"input": "Hi"} | chosen)
    assert (facts.model, facts.model_family) == (model, family)


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("chosen", "param"),
    [
        ({}, "model"),
        ({"auto_routing": False}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m", "auto_routing": True}, "model"),
        ({"model": "m", "model_family": "openai"}, "model_family"),
        ({"auto_routing": True, "model_family": "openai"}, "model_family"),
        ({"auto_routing": "yes"}, "auto_routing"),
        ({"model_family": ["openai"]}, "model_family"),
    ],
)
def test_exactly_one_way_to_choose_a_model(dialect: Dialect, chosen: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        read(dialect, MESSAGES | {"input": "Hi"} | chosen)
    assert caught.value.param == param


def test_the_older_chat_may_leave_the_model_out() -> None:
    assert read(GlooChatV1(), MESSAGES).model is None
    with pytest.raises(RequestRejectedError):
        read(GlooChatV1(), MESSAGES | {"model": "m", "auto_routing": True})


def test_sources_added_by_the_provider_are_input_nobody_sees() -> None:
    grounded = {"model": "m", "rag_publisher": "GlooGrounded", "sources_limit": 3}
    assert read(GlooGroundedChat(), MESSAGES | grounded).has_unknown_input
    assert read(GlooGroundedResponses(), {"input": "Hi"} | grounded).has_unknown_input
    assert not read(CHAT, MESSAGES | {"model": "m"}).has_unknown_input
    assert not read(RESPONSES, {"input": "Hi", "model": "m"}).has_unknown_input


def test_a_grounded_chat_may_be_asked_without_messages_and_no_other() -> None:
    facts = read(GlooGroundedChat(), {"auto_routing": True, "query": "Who was Ruth?"})
    assert facts.has_unknown_input
    assert "Who was Ruth?" in "".join(facts.prompt.texts)
    for dialect in (CHAT, GlooChatV1()):
        with pytest.raises(RequestRejectedError, match="messages"):
            read(dialect, {"model": "m"})


def test_a_maximum_goes_in_under_the_name_that_gloo_knows_and_the_rest_passes() -> None:
    body = b'{"auto_routing":true,"tradition":"evangelical","messages":[]}'
    rewritten = CHAT.rewrite_request(body, read(CHAT, body), ask_usage=False, max_output_tokens=9)
    assert rewritten == b'{"max_tokens":9,"auto_routing":true,"tradition":"evangelical","messages":[]}'


@pytest.mark.parametrize(
    ("sent", "counts", "flags"),
    [
        (usage(25, 150, cache_tokens=20, cache_hit_rate=0.8), usage_of_totals(prompt=25, completion=150, cached=20), set()),
        (
            usage(25, 150, cache_tokens=0, prompt_tokens_details={"cached_tokens": 9}),
            usage_of_totals(prompt=25, completion=150),
            set(),
        ),
        (usage(25, 150, prompt_tokens_details={"cached_tokens": 9}), usage_of_totals(prompt=25, completion=150, cached=9), set()),
        (usage(25, 150, cache_tokens=40), usage_of_totals(prompt=25, completion=150, cached=25), {"usage_clamped"}),
    ],
)
def test_an_answer_names_its_model_and_its_cached_tokens(sent: dict[str, Any], counts: Usage, flags: set[str]) -> None:
    answer = {
        "object": "chat.completion",
        "model": "gloo-openai-gpt-5.2",
        "routing_mechanism": "auto_routing",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Amen"}}],
        "usage": sent,
    }
    reading = assert_split_invariant(CHAT, FACTS, compact(answer), content_type="application/json")
    assert (reading.usage, reading.response_model, reading.flags) == (counts, "gloo-openai-gpt-5.2", flags)


def test_a_stream_without_done_is_whole_with_its_finish_reason() -> None:
    reading = assert_split_invariant(CHAT, FACTS, sse(chunk({"content": "Amen"}), chunk({}, "stop")))
    assert (reading.ended, reading.failed, reading.text, reading.usage) == (True, False, "Amen", None)


def test_a_filtered_stream_ends_without_failing_and_a_dropped_one_does_not_end() -> None:
    filtered = metered(CHAT, FACTS, sse(chunk({"content": "A"}), chunk({}, "content_filter")))
    assert (filtered.ended, filtered.failed) == (True, False)
    dropped = metered(CHAT, FACTS, sse(chunk({"content": "A"})))
    assert (dropped.ended, dropped.failed) == (False, False)


@pytest.mark.parametrize(
    "event",
    [
        chunk({}, "error", error={"type": "service_unavailable_error", "code": 2002, "fault": "provider"}),
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 2001}}]),
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "error"}]),
    ],
)
def test_an_error_inside_a_200_is_a_failure(event: dict[str, Any]) -> None:
    assert metered(CHAT, FACTS, sse(chunk({"content": "A"}), event)).failed


def test_the_flattened_end_of_a_responses_stream_is_read() -> None:
    final = {"object": "response", "status": "completed", "model": "gloo-google-gemini-2.5-flash"}
    tokens = {"input_tokens": 12, "output_tokens": 3}
    body = (
        named_sse({"type": "response.output_text.delta", "delta": "Amen"})
        + b"event: response.completed\n"
        + sse(final | {"usage": tokens})
    )
    reading = assert_split_invariant(RESPONSES, FACTS, body)
    assert reading.usage == usage_of_totals(prompt=12, completion=3)
    assert (reading.ended, reading.response_model, reading.text) == (True, "gloo-google-gemini-2.5-flash", "Amen")
