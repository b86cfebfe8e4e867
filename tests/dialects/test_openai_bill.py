"""What OpenAI-shaped requests can be billed for beside plain tokens, and what their answers say of it, whole and streamed."""

from typing import Any

import pytest
from openai_wire import DONE, chunk, compact, named_sse, read, sse, usage
from splits import Metered, assert_split_invariant

from tallygate.dialects.dialect import OtherModel, RequestFacts
from tallygate.dialects.hosted_tools import OPENROUTER_CALL
from tallygate.dialects.openai_chat import AUDIO_SECONDS_MAX, OpenAiChat
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Pass, usage_of_totals

CHAT, RESPONSES = OpenAiChat(), OpenAiResponses()
PRIORITY, FLEX, ULTRAFAST = (Conditions(service_tier=name) for name in ("priority", "flex", "ultrafast"))
SEARCH, FILES = Unit.WEB_SEARCH, Unit.FILE_SEARCH


def chat_facts(**more: Any) -> RequestFacts:
    return read(CHAT, {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Hi"}]} | more)


def responses_facts(**more: Any) -> RequestFacts:
    return read(RESPONSES, {"model": "gpt-5.5", "input": "Hi"} | more)


def chat_answers(facts: RequestFacts, stated: dict[str, Any], **more: Any) -> list[Metered]:
    """A chat answer with this usage, streamed and whole. more: further members."""
    message = {"role": "assistant", "content": "Peace."}
    whole = {"model": "gpt-5.5", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": stated} | more
    stream = sse(
        chunk({"role": "assistant", "content": "Peace."}, model="gpt-5.5", **more),
        chunk({}, "stop", model="gpt-5.5", **more),
        chunk(choices=[], model="gpt-5.5", usage=stated, **more),
        DONE,
    )
    return [
        assert_split_invariant(CHAT, facts, stream),
        assert_split_invariant(CHAT, facts, compact(whole), content_type="application/json"),
    ]


def responses_answers(facts: RequestFacts, *items: dict[str, Any], **more: Any) -> list[Metered]:
    """A response with these items, streamed and whole."""
    message = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Peace."}]}
    output = [*items, message]
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}
    whole = {"object": "response", "status": "completed", "model": "gpt-5.5", "output": output, "usage": usage} | more
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"status": "in_progress", "service_tier": "auto"}}]
    for index, item in enumerate(output):
        begun = {name: item[name] for name in ("id", "type") if name in item}
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun | {"status": "in_progress"}})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [
        assert_split_invariant(RESPONSES, facts, named_sse(*events)),
        assert_split_invariant(RESPONSES, facts, compact(whole), content_type="application/json"),
    ]


def search(key: str, action: str = "search") -> dict[str, Any]:
    return {"id": key, "type": "web_search_call", "status": "completed", "action": {"type": action, "query": "peace"}}


@pytest.mark.parametrize(
    ("asked", "possible"),
    [
        (None, (STANDARD,)),
        ("default", (STANDARD,)),
        ("on_demand", (STANDARD,)),
        ("flex", (STANDARD, FLEX)),
        ("priority", (STANDARD, PRIORITY)),
        ("fast", (STANDARD, PRIORITY)),
        ("ultrafast", (STANDARD, PRIORITY, ULTRAFAST)),
        ("auto", (STANDARD, PRIORITY, ULTRAFAST)),
        ("scale", (STANDARD, Conditions(service_tier="scale"))),
        (["priority"], (STANDARD,)),
        ("no tier, but a long text " * 9, (STANDARD,)),
    ],
)
def test_a_request_is_held_for_every_tier_that_it_may_be_served_at(asked: Any, possible: tuple[Conditions, ...]) -> None:
    assert chat_facts(service_tier=asked).conditions == possible
    assert responses_facts(service_tier=asked).conditions == possible
    assert read(OpenAiCompletions(), {"model": "m", "prompt": "Hi", "service_tier": asked}).conditions == possible
    assert read(OpenAiEmbeddings(), {"model": "m", "input": "Hi", "service_tier": asked}).conditions == possible


@pytest.mark.parametrize(
    ("stated", "conditions"),
    [
        ("priority", {"service_tier": "priority"}),
        ("fast", {"service_tier": "priority"}),
        ("flex", {"service_tier": "flex"}),
        ("ultrafast", {"service_tier": "ultrafast"}),
        ("auto", {}),
        (None, {}),
        (7, {}),
    ],
)
def test_an_answer_states_its_tier(stated: Any, conditions: dict[str, str]) -> None:
    for asked in ({}, {"service_tier": "priority"}):
        for got in chat_answers(chat_facts(**asked), usage(100, 7), service_tier=stated):
            assert got.conditions == conditions
        for got in responses_answers(responses_facts(**asked), service_tier=stated):
            assert got.conditions == conditions


def test_a_tier_that_was_not_granted_is_the_standard_one() -> None:
    priority = {"service_tier": "priority"}
    for got in chat_answers(chat_facts(**priority), usage(100, 7), service_tier="default"):
        assert got.conditions == {"service_tier": ""}
    for got in responses_answers(responses_facts(**priority), service_tier="default"):
        assert got.conditions == {"service_tier": ""}
    for got in chat_answers(chat_facts(), usage(100, 7), service_tier="default"):
        assert got.conditions == {}  # as was known


@pytest.mark.parametrize(
    ("tools", "more", "calls"),
    [
        ([{"type": "web_search"}], {}, {SEARCH: 30}),
        ([{"type": "web_search_2025_08_26"}, {"type": "web_search"}], {"max_tool_calls": 4}, {SEARCH: 4}),
        ([{"type": "web_search_preview"}], {"max_tool_calls": 0}, {"web_search:preview": 30}),
        ([{"type": "web_search"}, {"type": "file_search"}], {"max_tool_calls": 3}, {SEARCH: 3, FILES: 3}),
        ([{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}], {}, {"code_container:4g": 1}),
        ([{"type": "code_interpreter", "container": "cntr_1"}], {}, {"code_container": 1}),
        ([{"type": "shell", "environment": {"type": "container_auto"}}], {}, {"code_container": 1}),
        ([{"type": "shell", "environment": {"type": "local"}}], {}, {}),
        ([{"type": "function", "name": "web_search"}, {"type": "mcp"}, {"type": "computer"}, {"type": 7}, {}], {}, {}),
        ([{"type": "x_search"}], {"model": "grok-4.7"}, {"search_source:x_post": 300, "search_source:x_user": 300}),
        (
            [
                {"type": "code_execution"},
                {"type": "collections_search"},
                {"type": "attachment_search"},
                {"type": "image_generation"},
            ],
            {"model": "grok-4.7", "max_tool_calls": 2},
            {"server_tool:code_interpreter": 30, FILES: 30, "server_tool:document_search": 30, Unit.IMAGE: 30},
        ),
    ],
)
def test_tools_at_the_provider_are_bounded(tools: list[Any], more: dict[str, Any], calls: dict[str, int]) -> None:
    assert responses_facts(tools=tools, **more).calls == calls
    assert not responses_facts(tools=tools, **more).other_models


def test_a_bound_of_calls_that_is_none_is_refused() -> None:
    for wrong in ("3", -1, 1.5, 10**12):
        with pytest.raises(RequestRejectedError) as refused:
            responses_facts(tools=[{"type": "web_search"}], max_tool_calls=wrong)
        assert refused.value.param == "max_tool_calls"
    with pytest.raises(RequestRejectedError):
        responses_facts(tools=[{"type": "web_search"}], maxToolCalls=3)


def test_a_stored_prompt_may_have_tools() -> None:
    assert responses_facts(prompt={"id": "pmpt_1"}).calls == {SEARCH: 30, FILES: 30, Unit.CODE_CONTAINER: 1}


def test_a_chat_that_searches_does_so_once() -> None:
    assert chat_facts(web_search_options={}).calls == {SEARCH: 1}
    assert chat_facts(model="gpt-4o-mini-search-preview").calls == {SEARCH: 1}
    assert chat_facts(model="gpt-5-search-api-2025-10-14").calls == {SEARCH: 1}
    assert chat_facts().calls == {}
    for name in ("plugins", "enable_search", "search_parameters"):
        assert chat_facts(**{name: [{"id": "web"}]}).calls == {SEARCH: 1}
    moonshot = [{"type": "builtin_function", "function": {"name": "$web_search"}}]
    assert chat_facts(tools=moonshot).calls == {SEARCH: 30}
    for got in chat_answers(chat_facts(web_search_options={}), usage(100, 7)):
        assert got.billed_calls == {SEARCH: 1}
    for got in chat_answers(chat_facts(), usage(100, 7)):
        assert got.billed_calls == {}


def test_a_usage_states_its_searches() -> None:
    facts = chat_facts(tools=[{"type": "openrouter:web_search"}])
    for number in (0, 3):
        for got in chat_answers(facts, usage(100, 7, server_tool_use_details={"web_search_requests": number})):
            assert got.billed_calls == {SEARCH: number}
    for got in chat_answers(chat_facts(), usage(100, 7, num_search_queries=2)):
        assert got.billed_calls == {SEARCH: 2}
    zeros = usage(0, 0, server_tool_use_details={"web_search_requests": 0})
    first = chunk({"content": "Peace."}, "stop", usage=usage(100, 7, server_tool_use_details={"web_search_requests": 3}))
    got = assert_split_invariant(CHAT, facts, sse(first, chunk(choices=[], usage=zeros), DONE))
    assert got.billed_calls == {SEARCH: 3}


def test_seconds_of_audio_are_held_for_and_charged_as_stated() -> None:
    audio = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]}]
    stated = usage(9, 248, prompt_audio_seconds=3, prompt_tokens_details={"audio_tokens": 375}) | {"total_tokens": 632}
    for model in ("voxtral-small-latest", "mistralai/voxtral-small-24b-2507"):
        facts = chat_facts(model=model, messages=audio)
        assert facts.calls == {Unit.AUDIO_SECOND: AUDIO_SECONDS_MAX}
        for got in chat_answers(facts, stated):
            assert got.billed_calls == {Unit.AUDIO_SECOND: 3}
            assert got.usage == usage_of_totals(prompt=384, completion=248, audio_prompt=375)
        for unsaid in (None, 0, "3"):
            for got in chat_answers(facts, usage(384, 248, prompt_audio_seconds=unsaid)):
                assert got.billed_calls == {Unit.AUDIO_SECOND: AUDIO_SECONDS_MAX}
    assert chat_facts(model="voxtral-small-latest").calls == {}
    assert chat_facts(model="gpt-4o-audio-preview", messages=audio).calls == {}
    assert chat_facts(model="mistral.voxtral-small-24b-2507", messages=audio).calls == {}  # Bedrock's, by the token


def test_a_maximum_that_openrouter_raises_is_held_for_what_it_becomes() -> None:
    for asked, held in ((1, 16), (15, 16), (16, 16), (17, 17)):
        assert chat_facts(model="openai/gpt-4.1-mini", max_tokens=asked).max_output_tokens == held
        assert chat_facts(model="gpt-4.1-mini", max_tokens=asked).max_output_tokens == asked
    assert chat_facts(model="openai/gpt-4.1-mini").max_output_tokens is None


@pytest.mark.parametrize("facts", [chat_facts, responses_facts])
@pytest.mark.parametrize("kind", ["advisor", "image_generator", None, 5])
def test_a_tool_of_an_unknown_kind_runs_no_other_model(facts: Any, kind: Any) -> None:
    with pytest.raises(RequestRejectedError, match="another model"):
        facts(tools=[{"type": kind, "model": "gpt-5"}])
    facts(tools=[{"type": "function", "name": "f", "function": {"name": "f"}, "model": "the client's own"}])


def test_tools_that_run_at_openrouter_are_bounded_and_counted() -> None:
    tools = [{"type": "openrouter:advisor", "parameters": {"model": "anthropic/claude-opus-5"}}, {"type": "openrouter:web_search"}]
    facts = chat_facts(model="openai/gpt-5.5", tools=[*tools, {"type": "openrouter:datetime"}], max_tool_calls=5)
    assert facts.calls == {OPENROUTER_CALL: 5, SEARCH: 5}
    assert facts.has_unseen_input
    assert chat_facts(tools=[{"type": "openrouter:datetime"}]).calls == {}
    for details, calls in (
        ({"tool_calls_requested": 3, "tool_calls_executed": 3, "web_search_requests": 1}, {SEARCH: 1, OPENROUTER_CALL: 2}),
        ({"tool_calls_requested": 1, "tool_calls_executed": 1}, {SEARCH: 1, OPENROUTER_CALL: 1}),
        ({"tool_calls_executed": 2, "web_search_requests": 2}, {SEARCH: 2}),
        ({"tool_calls_executed": -1, "web_search_requests": 0}, {SEARCH: 0}),
    ):
        for got in chat_answers(facts, usage(100, 7, server_tool_use_details=details)):
            assert got.billed_calls == calls


def test_searches_are_counted_but_pages_are_not() -> None:
    facts = responses_facts(tools=[{"type": "web_search"}, {"type": "file_search"}])
    files = {"id": "fs_1", "type": "file_search_call", "queries": ["peace"], "results": None}
    items = (search("ws_1"), search("ws_2", "open_page"), search("ws_3", "find_in_page"), search("ws_4"), files)
    for got in responses_answers(facts, *items):
        assert got.billed_calls == {SEARCH: 2, FILES: 1}
    for got in responses_answers(facts, *items, tool_usage={"web_search": {"num_requests": 5}}):
        assert got.billed_calls == {SEARCH: 5, FILES: 1}
    for got in responses_answers(facts, *items, tool_usage={"web_search": {"num_requests": 0}}):
        assert got.billed_calls == {SEARCH: 0, FILES: 1}
    preview = responses_facts(tools=[{"type": "web_search_preview"}])
    for got in responses_answers(preview, search("ws_1")):
        assert got.billed_calls == {"web_search:preview": 1, FILES: 0}


def test_a_search_counts_from_its_beginning_on() -> None:
    begun = {"type": "response.output_item.added", "output_index": 0, "item": {"id": "ws_1", "type": "web_search_call"}}
    got = assert_split_invariant(RESPONSES, responses_facts(tools=[{"type": "web_search"}]), named_sse(begun))
    assert got.billed_calls == {SEARCH: 1, FILES: 0}


def test_containers_count_once_each() -> None:
    asked = [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": size}} for size in ("1g", "16g")]
    runs = [{"id": f"ci_{key}", "type": "code_interpreter_call", "container_id": f"cntr_{key // 2}"} for key in range(3)]
    for got in responses_answers(responses_facts(tools=asked), *runs):
        assert got.billed_calls == {"code_container:16g": 2}


IMAGE_USAGE = {
    "input_tokens": 500,
    "input_tokens_details": {"image_tokens": 300, "text_tokens": 200},
    "cached_tokens_details": {"cached_image_tokens": 100, "cached_text_tokens": 50},
    "output_tokens": 4_200,
    "output_tokens_details": {"image_tokens": 4_160, "text_tokens": 40},
    "total_tokens": 4_700,
}


def test_images_are_passes_of_their_own_model() -> None:
    facts = responses_facts(tools=[{"type": "image_generation", "model": "gpt-image-1.5", "quality": "low", "size": "1024x1024"}])
    image = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "quality": "medium", "size": "1024x1024"}
    stated = Pass(
        model="gpt-image-1.5",
        quantities={
            "input": 150,
            "cached_input": 50,
            "input_image": 200,
            "cached_input_image": 100,
            "output": 40,
            "output_image": 4_160,
        },
    )
    for got in responses_answers(facts, image, tool_usage={"image_gen": IMAGE_USAGE, "web_search": {"num_requests": 0}}):
        assert got.passes == (stated,)
        assert got.usage == usage_of_totals(prompt=100, completion=7)
        assert got.billed_calls == {}
    by_size = Pass(model="gpt-image-1.5", quantities={"output_image": 1_056})
    none = {"image_gen": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}
    for more in ({}, {"tool_usage": none}):
        for got in responses_answers(facts, image, **more):
            assert got.passes == (by_size,)
    for got in responses_answers(facts, tool_usage=none):
        assert got.passes == ()
    bare = {"input_tokens": 500, "cached_tokens": 60, "output_tokens": 9}
    for got in responses_answers(facts, image, tool_usage={"image_gen": bare}):
        assert got.passes == (Pass(model="gpt-image-1.5", quantities={"input": 440, "cached_input": 60, "output_image": 9}),)
    echoed = [{"type": "image_generation", "model": "gpt-image-2"}]
    for got in responses_answers(facts, image, tool_usage={"image_gen": IMAGE_USAGE}, tools=echoed):
        assert got.passes[0].model == "gpt-image-2"
    for got in responses_answers(facts, image | {"status": "failed"}):
        assert got.passes == ()


def test_images_are_held_by_quality_size_and_number() -> None:
    def held(**tool: Any) -> OtherModel:
        limit = {"max_tool_calls": tool.pop("most")} if "most" in tool else {}
        (found,) = responses_facts(tools=[{"type": "image_generation", **tool}], **limit).other_models
        return found

    low = held(model="gpt-image-2", quality="low", size="1024x1024", most=2)
    plan = 1_000  # text before the image, of a model that generates any
    assert (low.model, low.times, low.max_input_tokens) == ("gpt-image-2", 2, 8_000 + 2 * 6_821)
    assert low.max_output_tokens == 196
    assert {Unit.INPUT_IMAGE, Unit.OUTPUT_IMAGE} <= low.units
    first = {"model": "gpt-image-1.5"}
    assert held(**first, partial_images=3).max_output_tokens == 6_240 + 300 + plan
    assert held(**first, quality="high", size="auto").max_output_tokens == 6_240 + plan
    assert (held().model, held().times) == ("gpt-image-2.6-sunburst", 4)
    assert held().max_output_tokens == 2 * 23_719


def test_images_and_cached_media_are_units_of_their_own() -> None:
    details = {"cached_tokens": 60, "audio_tokens": 40, "image_tokens": 20}
    parts = {"cached_tokens_details": {"text_tokens": 25, "audio_tokens": 30, "image_tokens": 5}}
    stated = usage(
        200, 50, prompt_tokens_details=details | parts, completion_tokens_details={"image_tokens": 30, "audio_tokens": 5}
    )
    for got in chat_answers(chat_facts(), stated):
        assert got.usage is not None
        assert dict(got.usage.quantities) == {
            "input": 115,
            "cached_input": 25,
            "input_audio": 10,
            "cached_input_audio": 30,
            "input_image": 15,
            "cached_input_image": 5,
            "output": 15,
            "output_image": 30,
            "output_audio": 5,
        }
    for got in chat_answers(chat_facts(), usage(100, 7, prompt_tokens_details={"cached_tokens": 90, "image_tokens": 30})):
        assert got.usage is not None
        assert dict(got.usage.quantities) == {"input_image": 10, "cached_input": 70, "cached_input_image": 20, "output": 7}


def test_images_that_a_chat_reads_or_generates_can_be_charged() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/peace.png"}}
    facts = chat_facts(messages=[{"role": "user", "content": [image]}], modalities=["image", "text"])
    assert {Unit.INPUT_IMAGE, Unit.CACHED_INPUT_IMAGE, Unit.OUTPUT_IMAGE} <= facts.units
    assert not {Unit.INPUT_IMAGE, Unit.OUTPUT_IMAGE} & chat_facts().units


def test_xai_states_calls_and_a_cost() -> None:
    details = {"web_search_calls": 2, "x_search_calls": 3, "x_posts_fetched": 40, "x_users_fetched": 0, "code_interpreter_calls": 1}
    stated = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, "cost_in_usd_ticks": 37_756_001}
    facts = responses_facts(model="grok-4.7", tools=[{"type": "web_search"}, {"type": "x_search"}])
    for got in responses_answers(facts, search("ws_1"), usage=stated | {"server_side_tool_usage_details": details}):
        assert got.billed_calls == {
            SEARCH: 2,
            FILES: 0,
            "search_source:x_post": 40,
            "search_source:x_user": 0,
            "server_tool:code_interpreter": 1,
        }
        assert got.stated_cost_nano_usd == 3_775_601
    before = {"x_search_calls": 3}
    for got in responses_answers(facts, usage=stated | {"server_side_tool_usage_details": before}):
        assert got.billed_calls == {"server_tool:x_search": 3}


def test_reasoning_beside_the_completion_is_output() -> None:
    """An answer of xAI's that states its cost of 232,856,000 ticks, at 1.25, 0.2 and 2.5 USD a million."""
    stated = usage(10_120, 1_499, total_tokens=14_428, prompt_tokens_details={"cached_tokens": 128})
    stated |= {"completion_tokens_details": {"reasoning_tokens": 2_809}, "cost_in_usd_ticks": 232_856_000}
    for got in chat_answers(chat_facts(model="grok-4.20"), stated):
        assert got.usage is not None
        assert (got.usage.prompt, got.usage.cached, got.usage.completion, got.usage.of(Unit.REASONING_OUTPUT)) == (
            10_120,
            128,
            4_308,
            2_809,
        )
        assert got.stated_cost_nano_usd == 9_992 * 1_250 + 128 * 200 + 4_308 * 2_500


def test_predictions_that_were_wrong_are_part_of_the_output() -> None:
    facts = chat_facts(prediction={"type": "content", "content": "Peace be with you."})
    details = {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 9, "reasoning_tokens": 0}
    for got in chat_answers(facts, usage(100, 16, completion_tokens_details=details)):
        assert got.usage == usage_of_totals(prompt=100, completion=16)


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({"cost": 0.0037756}, 3_775_600),
        ({"cost": 0.00377560001}, 3_775_601),
        ({"cost": 0}, 0),
        ({"cost": 2}, 2_000_000_000),
        ({"cost": 1e-12}, 1),
        ({"cost": "0.25"}, 250_000_000),
        ({"cost": 0.001, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.5}}, 1_000_000),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, 501_000_000),
        ({"cost": 0, "is_byok": True}, None),
        ({"cost": {"input_tokens_cost": 0.1, "request_cost": 0.005, "total_cost": 0.105}}, 105_000_000),
        ({"cost": {"total_cost": None}}, None),
        ({"cost": -1}, None),
        ({"cost": 1e30}, None),
        ({"cost": "NaN"}, None),
        ({"cost": True}, None),
        ({"cost": "1" * 50}, None),
        ({"cost": [1]}, None),
        ({"cost_in_usd_ticks": -5}, None),
    ],
)
def test_a_usage_states_its_cost(more: dict[str, Any], cost: int | None) -> None:
    for got in chat_answers(chat_facts(), usage(100, 7, **more)):
        assert got.stated_cost_nano_usd == cost


def test_vercel_states_its_cost_beside_the_usage() -> None:
    for gateway, cost in (({"cost": "0.0123", "marketCost": "1"}, 12_300_000), ({"cost": "0", "marketCost": "1"}, 10**9)):
        for got in chat_answers(chat_facts(), usage(100, 7), provider_metadata={"gateway": gateway}):
            assert got.stated_cost_nano_usd == cost
    for got in chat_answers(chat_facts(), usage(100, 7), provider_metadata={"gateway": "free"}):
        assert got.stated_cost_nano_usd is None


def test_a_later_cost_of_zero_takes_nothing_back() -> None:
    skeleton = {"cost": {"total_cost": 0.0}}
    stream = sse(
        chunk({"content": "Peace."}, usage=usage(100, 3) | skeleton),
        chunk({}, "stop", usage=usage(100, 7) | {"cost": {"total_cost": 0.02}}),
        chunk(choices=[], usage=usage(100, 7) | skeleton),
        DONE,
    )
    assert assert_split_invariant(CHAT, chat_facts(), stream).stated_cost_nano_usd == 20_000_000
    by_gateway = [chunk({"content": "Peace."}, provider_metadata={"gateway": {"cost": cost}}) for cost in ("0.02", "0")]
    assert assert_split_invariant(CHAT, chat_facts(), sse(*by_gateway, DONE)).stated_cost_nano_usd == 20_000_000


@pytest.mark.parametrize("odd", [None, 7, -1, 1.5, True, "x", [], ["x"], {}, {"x": {}}, 10**30])
def test_odd_values_are_no_calls_and_no_cost(odd: Any) -> None:
    facts = responses_facts(tools=[{"type": "web_search"}, {"type": "image_generation"}, {"type": "code_interpreter"}])
    items = (
        {"id": odd, "type": odd},
        {"id": odd, "type": "file_search_call", "container_id": odd, "environment": odd},
        {"id": odd, "type": "web_search_call", "action": {"type": 1 if odd is None else odd}},
        {"id": odd, "type": "image_generation_call", "quality": odd, "size": odd, "status": "failed"},
        {"type": "shell_call", "environment": {"container_id": odd}},
    )
    searches = None if odd == 7 else odd
    tool_usage = {"web_search": {"num_requests": searches}, "image_gen": {"input_tokens": None, "output_tokens_details": odd}}
    for got in responses_answers(facts, *items, tool_usage=tool_usage, tools=[odd, {"type": odd, "model": odd}], service_tier=odd):
        assert got.usage == usage_of_totals(prompt=100, completion=7)
        assert got.stated_cost_nano_usd is None
        assert not got.billed_calls.get(SEARCH)
        assert not got.passes
    for stated in ({"cost": {"total_cost": [odd]}}, {"server_side_tool_usage_details": odd, "server_tool_use_details": odd}):
        for got in chat_answers(chat_facts(), usage(100, 7, **stated), provider_metadata=odd):
            assert (got.usage, got.billed_calls) == (usage_of_totals(prompt=100, completion=7), {})
            assert got.stated_cost_nano_usd is None
    assert chat_facts(tools=[{"type": odd}, {"type": "builtin_function", "function": odd}]).calls == {}
    assert responses_facts(tools=[{"type": "shell", "environment": odd}]).calls == {"code_container": 1}
    assert responses_facts(tools=[{"type": "image_generation", "model": odd, "quality": odd, "partial_images": odd}]).other_models
