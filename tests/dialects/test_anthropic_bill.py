"""Anthropic's whole bill: passes, refusals, conditions and searches, streamed and whole, against costs worked out by hand."""

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prices import price_of
from splits import Metered, assert_split_invariant, metered

from tallygate.dialects.anthropic_conditions import conditions_of
from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.anthropic_passes import PASSES_MAX
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.billed import TokenColumns, billed_of, columns_of, usage_of_event
from tallygate.domain.charge import charge_of
from tallygate.domain.price import Price, Rule, Tier
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Pass, Usage, summed, usage_of_totals
from tallygate.ledger.entry import BILLED_CHARS_MAX

DIALECT = AnthropicMessages()
MAIN, SMALL, OPUS = "claude-sonnet-5", "claude-haiku-5-5", "claude-opus-5-5"
# USD per million tokens: 2 in, 10 out; 0.1 and 0.5 up to 100,000 tokens, five times above; 4 and 20, twice that fast.
PRICES = {
    MAIN: price_of(MAIN, input=2_000_000, output=10_000_000),
    SMALL: replace(
        price_of(SMALL, input=100_000, output=500_000), tiers=(Tier(100_001, {Unit.INPUT: 500_000, Unit.OUTPUT: 2_500_000}),)
    ),
    OPUS: replace(
        price_of(OPUS, input=4_000_000, output=20_000_000, cached_input=200_000, web_search=10**10),
        rules=(
            Rule(speed="fast", rates={Unit.INPUT: 8_000_000, Unit.OUTPUT: 40_000_000}),
            Rule(geography="us", factor=1_100_000),
        ),
    ),
}


def both(
    usage: dict[str, Any],
    *,
    model: str = MAIN,
    content: tuple[dict[str, Any], ...] = ({"type": "text", "text": "Hi"},),
    **more: Any,
) -> list[tuple[str, RequestFacts, bytes]]:
    """An answer with this usage at its end, as a stream and as a body. more: `asked` another model, `stop_reason`, conditions."""
    facts = RequestFacts(model=more.pop("asked", model), prompt=PromptShape(texts=("x",)), **more.pop("facts", {}))
    stop_reason = more.pop("stop_reason", "end_turn")
    message = {"type": "message", "model": model, "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(content):
        begun = block if block["type"] != "text" else {"type": "text", "text": ""}
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        if block["type"] == "text" and block["text"]:
            delta = {"type": "text_delta", "text": block["text"]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
    events += [{"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}, {"type": "message_stop"}]
    stream = b"".join([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])
    whole = {**message, "content": content, "stop_reason": stop_reason, "usage": usage}
    return [
        ("text/event-stream", RequestFacts(**{**_members(facts), "stream": True}), stream),
        ("application/json", facts, json.dumps(whole).encode()),
    ]


def _members(facts: RequestFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__struct_fields__}


def read(answers: list[tuple[str, RequestFacts, bytes]]) -> Metered:
    """What both forms come to, which is the same."""
    streamed, whole = [
        assert_split_invariant(DIALECT, facts, body, content_type=content_type) for content_type, facts, body in answers
    ]
    for name in ("response_model", "flags", "billed_calls", "conditions", "is_unbilled"):
        assert getattr(streamed, name) == getattr(whole, name)
    assert streamed.usage == whole.usage or whole.is_unbilled
    assert whole.ended
    return whole


class Charged(NamedTuple):
    cost_nano_usd: int
    lacks_rates: bool = False


def charged(got: Metered, price: Price | None = None) -> Charged:
    assert got.usage is not None
    assert got.response_model is not None
    usage = got.usage.with_calls(got.billed_calls)
    found = charge_of(usage, Conditions(**got.conditions), price or PRICES[got.response_model], PRICES.get)
    return Charged(found.cost_nano_usd, found.lacks_rates)


def pass_of(kind: str, tokens_in: int, tokens_out: int, model: str | None = None, **more: int) -> dict[str, Any]:
    counts = {"type": kind, "input_tokens": tokens_in, "output_tokens": tokens_out, **more}
    return counts if model is None else {**counts, "model": model}


def top(tokens_in: int, tokens_out: int, *iterations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "iterations": list(iterations), **more}


COMPACTED = top(23_000, 1_000, pass_of("compaction", 180_000, 3_500), pass_of("message", 23_000, 1_000))


def test_a_compaction_is_billed_beside_the_answer_each_by_its_own_size() -> None:
    got = read(both(COMPACTED))
    assert got.usage is not None
    assert (got.usage.prompt, got.usage.completion) == (203_000, 4_500)
    assert charged(got) == Charged(203_000 * 2_000 + 4_500 * 10_000)  # 0.451 USD

    got = read(both(COMPACTED, model=SMALL))
    # 23,000 * 0.1 + 1,000 * 0.5, and above 100,000 tokens 180,000 * 0.5 + 3,500 * 2.5: 0.10155 USD
    assert charged(got) == Charged(2_300_000 + 500_000 + 90_000_000 + 8_750_000)
    assert not got.flags


def test_a_prompt_above_the_threshold_is_five_times_as_dear() -> None:
    assert charged(read(both({"input_tokens": 150_000, "output_tokens": 1_000}, model=SMALL))) == Charged(77_500_000)
    parts = {"input_tokens": 50_000, "cache_read_input_tokens": 50_000, "output_tokens": 1_000}
    assert charged(read(both(parts, model=SMALL))) == Charged(50_000 * 100 + 50_000 * 100 + 500_000)  # exactly 100,000


@pytest.mark.parametrize(
    ("usage", "asked", "nano_usd"),
    [
        # Of an advisor's answer the top level has the output of all the executor's passes, and the input of the first alone.
        (
            top(
                412, 531, pass_of("message", 412, 89), pass_of("advisor_message", 823, 1_612, OPUS), pass_of("message", 1_348, 442)
            ),
            MAIN,
            (412 + 1_348) * 2_000 + 531 * 10_000 + 823 * 4_000 + 1_612 * 20_000,
        ),
        # Elsewhere it is the sum of them.
        (top(30, 7, pass_of("message", 10, 3), pass_of("message", 20, 4)), MAIN, 30 * 2_000 + 7 * 10_000),
        # What the passes leave out is billed too.
        (top(100, 50, pass_of("message", 10, 3)), MAIN, 100 * 2_000 + 50 * 10_000),
        (top(100, 50, pass_of("advisor_message", 10, 3, OPUS)), MAIN, 100 * 2_000 + 50 * 10_000 + 10 * 4_000 + 3 * 20_000),
        (top(100, 50, pass_of("message", 110, 53)), MAIN, 110 * 2_000 + 53 * 10_000),
        # An attempt that declined before it generated anything costs nothing.
        (top(120, 40, pass_of("message", 118, 0, OPUS), pass_of("fallback_message", 120, 40, MAIN)), OPUS, 120 * 2_000 + 400_000),
        (top(120, 40, pass_of("message", 118, 0), pass_of("fallback_message", 120, 40)), OPUS, 120 * 2_000 + 400_000),
        # One that declined later is billed at its own model's rates.
        (
            top(120, 40, pass_of("message", 118, 9, OPUS), pass_of("fallback_message", 120, 40, MAIN)),
            OPUS,
            120 * 2_000 + 400_000 + 118 * 4_000 + 9 * 20_000,
        ),
        # One without a model is the one that was asked for.
        (
            top(120, 40, pass_of("message", 118, 9), pass_of("fallback_message", 120, 40, MAIN)),
            OPUS,
            120 * 2_000 + 400_000 + 118 * 4_000 + 9 * 20_000,
        ),
        # The serving model's earlier passes are messages too; a compaction is made by the model that was asked for.
        (
            top(
                50,
                8,
                pass_of("compaction", 1_000, 10),
                pass_of("message", 118, 0, OPUS),
                pass_of("message", 20, 5, MAIN),
                pass_of("fallback_message", 30, 3, MAIN),
            ),
            OPUS,
            50 * 2_000 + 8 * 10_000 + 1_000 * 4_000 + 10 * 20_000,
        ),
        # Two that declined, one of them later.
        (
            top(
                9,
                1,
                pass_of("message", 100, 0, OPUS),
                pass_of("message", 200, 2, SMALL),
                pass_of("fallback_message", 9, 1, MAIN),
            ),
            OPUS,
            9 * 2_000 + 10_000 + 200 * 100 + 2 * 500,
        ),
        # A kind that nobody has heard of was work too.
        (top(10, 3, pass_of("message", 10, 3), pass_of("review", 100, 10, OPUS)), MAIN, 20_000 + 30_000 + 400_000 + 200_000),
    ],
)
def test_every_pass_is_billed_at_its_own_model_s_rates(usage: dict[str, Any], asked: str, nano_usd: int) -> None:
    got = read(both(usage, asked=asked))
    assert charged(got) == Charged(nano_usd)
    assert got.flags == ({"usage_iterations"} if "review" in str(usage) else set())


def test_the_model_of_a_pass_without_a_price_is_charged_as_the_one_that_answered() -> None:
    got = read(both(top(10, 3, pass_of("message", 10, 3), pass_of("advisor_message", 100, 10, "unheard-of"))))
    assert charged(got) == Charged(110 * 2_000 + 13 * 10_000, lacks_rates=True)


def test_a_stream_that_began_with_another_model_ends_as_the_one_that_served() -> None:
    usage = top(120, 40, pass_of("message", 118, 9, OPUS), pass_of("fallback_message", 120, 40, MAIN))
    (content_type, facts, body), _ = both(usage, model=OPUS)
    got = assert_split_invariant(DIALECT, facts, body, content_type=content_type)
    assert got.response_model == MAIN
    assert charged(got) == Charged(120 * 2_000 + 400_000 + 118 * 4_000 + 9 * 20_000)


def test_a_model_that_declined_is_known_by_the_block_that_ends_its_output() -> None:
    usage = top(120, 40, pass_of("message", 118, 1, OPUS), pass_of("fallback_message", 120, 40, MAIN))
    fallback = {"type": "fallback", "from": {"model": OPUS}, "to": {"model": MAIN}}
    said = {"type": "text", "text": "Hi"}
    assert charged(read(both(usage, asked=OPUS, content=(fallback, said)))) == Charged(120 * 2_000 + 400_000)
    later = charged(read(both(usage, asked=OPUS, content=(said, fallback, said))))
    assert later == Charged(120 * 2_000 + 400_000 + 118 * 4_000 + 20_000)


def test_parts_that_only_the_top_level_tells_apart_stay_what_they_are() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 40}
    usage = top(
        10,
        30,
        pass_of("message", 4, 10, cache_creation_input_tokens=40),
        pass_of("message", 6, 20),
        pass_of("compaction", 5, 1),
        cache_creation_input_tokens=40,
        cache_creation=split,
        output_tokens_details={"thinking_tokens": 15},
    )
    got = read(both(usage)).usage
    assert got is not None
    assert got.quantities == {Unit.INPUT: 15, Unit.CACHE_WRITE_1H: 40, Unit.OUTPUT: 16, Unit.REASONING_OUTPUT: 15}

    beside = {**usage, "iterations": [pass_of("compaction", 5, 1)]}
    got = read(both(beside)).usage
    assert got is not None
    assert got.quantities == {Unit.INPUT: 15, Unit.CACHE_WRITE_1H: 40, Unit.OUTPUT: 16, Unit.REASONING_OUTPUT: 15}

    alone = {**usage, "iterations": [pass_of("message", 10, 30, cache_creation_input_tokens=40)]}
    assert read(both(alone)).usage == usage_of_totals(prompt=50, completion=30, cache_write_1h=40, reasoning=15)


def test_a_bounded_number_of_passes_is_kept_and_no_token_lost() -> None:
    few = [pass_of("compaction", 1_000 + number, 1) for number in range(PASSES_MAX - 1)]
    got = read(both(top(10, 3, pass_of("message", 10, 3), *few), model=SMALL))
    assert got.usage is not None
    assert len(got.usage.passes) == PASSES_MAX

    advisors = [pass_of("advisor_message", 7, 1, f"m{number}") for number in range(20)]
    many = [*few, *advisors, *[pass_of("compaction", 90_000, 1)] * 40]
    got = read(both(top(10, 3, pass_of("message", 10, 3), *many), model=SMALL))
    assert got.usage is not None
    assert len(got.usage.passes) <= PASSES_MAX
    assert got.usage.prompt == 10 + sum(each["input_tokens"] for each in many)
    apart = sum(PRICES[SMALL].pico_usd([{Unit.INPUT: each["input_tokens"], Unit.OUTPUT: each["output_tokens"]}]) for each in many)
    assert charged(got).cost_nano_usd >= apart // 1_000

    got = metered(DIALECT, *both(top(10, 3, *[pass_of("compaction", 1, 1)] * 1_500))[1][1:], content_type="application/json")
    assert got.flags == {"usage_iterations"}


counts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "fallback_message", "advisor_message", "compaction", "novel"]) | st.none(),
        "model": st.sampled_from([MAIN, SMALL, OPUS, "x" * 300]) | st.none(),
        "input_tokens": st.integers(-1, 10**6),
        "output_tokens": st.integers(0, 10**6) | st.none(),
        "cache_read_input_tokens": st.integers(0, 10**6),
        "cache_creation_input_tokens": st.integers(0, 10**6),
        "cache_creation": st.fixed_dictionaries({}, optional={"ephemeral_1h_input_tokens": st.integers(0, 10**6)}),
    },
)


@given(counts, st.lists(counts | st.none(), max_size=45), st.booleans())
def test_whatever_the_passes_are_all_is_charged_and_kept_for_the_ledger(
    shown: dict[str, Any], iterations: list[Any], refuses: bool
) -> None:
    content = () if refuses else ({"type": "text", "text": "Hi"},)
    _, (content_type, facts, body) = both({**shown, "iterations": iterations}, content=content, stop_reason="refusal")
    got = metered(DIALECT, facts, body, content_type=content_type)
    assert got.ended
    if got.usage is None or got.is_unbilled:
        return
    assert len(got.usage.passes) <= PASSES_MAX
    if got.usage.passes:
        assert summed(got.usage.passes).quantities == got.usage.quantities
    if not refuses:
        alone = metered(DIALECT, *both(shown)[1][1:], content_type=content_type).usage
        assert alone is None or (got.usage.prompt >= alone.prompt and got.usage.completion >= alone.completion)
    billed = billed_of(got.usage)
    assert len(billed or "") <= BILLED_CHARS_MAX
    kept, _ = usage_of_event(TokenColumns(**columns_of(got.usage)), billed)
    price = PRICES[MAIN]
    assert charge_of(kept, STANDARD, price, PRICES.get) == charge_of(got.usage, STANDARD, price, PRICES.get)


@pytest.mark.parametrize("tokens_out", [0, 1])
def test_a_refusal_before_any_output_is_not_billed_whatever_its_usage_shows(tokens_out: int) -> None:
    usage = {"input_tokens": 106, "output_tokens": tokens_out}
    for content in ((), ({"type": "text", "text": ""},)):
        assert read(both(usage, content=content, stop_reason="refusal")).is_unbilled
    for refused in ({"type": "text", "text": "I"}, {"type": "thinking", "thinking": ""}, {"type": "server_tool_use", "name": "x"}):
        got = read(both({**usage, "output_tokens": 9}, content=(refused,), stop_reason="refusal"))
        assert not got.is_unbilled
        assert got.usage == usage_of_totals(prompt=106, completion=9)
    assert not read(both({**usage, "output_tokens": 2}, content=())).is_unbilled
    named_otherwise = {"prompt_tokens": 106, "completion_tokens": tokens_out}
    assert read(both(named_otherwise, content=(), stop_reason="refusal")).is_unbilled


def test_of_refused_attempts_those_with_output_are_billed() -> None:
    tried = top(20, 0, pass_of("message", 118, 9, OPUS), pass_of("message", 20, 0, MAIN))
    fallback = {"type": "fallback", "from": {"model": OPUS}, "to": {"model": MAIN}}
    got = read(both(tried, asked=OPUS, content=({"type": "text", "text": "I"}, fallback), stop_reason="refusal"))
    assert charged(got) == Charged(118 * 4_000 + 9 * 20_000)
    assert not got.is_unbilled

    alone = {"input_tokens": 20, "output_tokens": 2}
    assert not read(
        both(alone, asked=OPUS, content=({"type": "tool_use", "name": "f"}, fallback), stop_reason="refusal")
    ).is_unbilled

    tried = top(20, 0, pass_of("message", 118, 0, OPUS), pass_of("message", 20, 0, MAIN))
    assert read(both(tried, asked=OPUS, content=(fallback,), stop_reason="refusal")).is_unbilled

    tried = top(20, 0, pass_of("compaction", 118, 9), pass_of("message", 20, 0))
    got = read(both(tried, content=({"type": "compaction", "content": None},), stop_reason="refusal"))
    assert charged(got) == Charged(118 * 2_000 + 9 * 10_000)


FAST = {"facts": dict(zip(("conditions", "default_conditions"), conditions_of(None, "fast", None), strict=True))}


@pytest.mark.parametrize(
    ("stated", "asks", "conditions", "nano_usd"),
    [
        ({"service_tier": "standard", "speed": "standard", "inference_geo": "not_available"}, {}, STANDARD, 60_000_000),
        ({"service_tier": "standard", "inference_geo": "global"}, {}, STANDARD, 60_000_000),
        ({"speed": "fast"}, {}, Conditions(speed="fast"), 120_000_000),
        ({"speed": "fast"}, FAST, Conditions(speed="fast"), 120_000_000),
        ({"speed": "standard"}, FAST, STANDARD, 60_000_000),  # asked for, and not to be had
        ({"inference_geo": "us"}, {}, Conditions(geography="us"), 66_000_000),  # the workspace's default
        ({"inference_geo": "us", "speed": "fast"}, FAST, Conditions(speed="fast", geography="us"), 132_000_000),
        ({"service_tier": "priority"}, {}, Conditions(service_tier="priority"), 60_000_000),
        ({"inference_geo": "US", "service_tier": "odd\0tier", "speed": "f" * 33}, {}, Conditions(geography="us"), 66_000_000),
        ({"service_tier": 5, "speed": None, "inference_geo": ["us"]}, {}, STANDARD, 60_000_000),
    ],
)
def test_conditions_are_what_the_answer_states(
    stated: dict[str, Any], asks: dict[str, Any], conditions: Conditions, nano_usd: int
) -> None:
    got = read(both({"input_tokens": 10_000, "output_tokens": 1_000, **stated}, model=OPUS, **asks))
    assert Conditions(**got.conditions) == conditions
    assert charged(got) == Charged(nano_usd, lacks_rates=conditions.service_tier == "priority")
    if asks:
        assert "speed" in got.conditions  # also where it is the standard one
    elif conditions == STANDARD:
        assert not got.conditions  # nothing to note of an ordinary answer


def test_searches_are_billed_as_they_are_stated_else_as_they_are_seen() -> None:
    usage = {"input_tokens": 100, "output_tokens": 10, "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 9}}
    got = read(both(usage, model=OPUS))
    assert got.billed_calls == {Unit.WEB_SEARCH: 3}
    assert charged(got) == Charged(400_000 + 200_000 + 30_000_000)  # 10 USD per 1,000; a fetch is free

    found = {"type": "web_search_tool_result", "content": [{"title": "x"}]}
    failed = {"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
    unstated = {"input_tokens": 100, "output_tokens": 10}
    assert read(both(unstated, content=(found, failed, found))).billed_calls == {Unit.WEB_SEARCH: 2}
    assert read(both(usage, content=(found,))).billed_calls == {Unit.WEB_SEARCH: 3}
    none = {**unstated, "server_tool_use": {"web_search_requests": 0}}
    assert not read(both(none, content=(failed,))).billed_calls


def test_nothing_later_takes_back_what_was_stated() -> None:
    usage = {**COMPACTED, "speed": "fast", "inference_geo": "us", "server_tool_use": {"web_search_requests": 2}}
    (content_type, facts, body), _ = both(usage, model=OPUS)
    said = metered(DIALECT, facts, body, content_type=content_type)
    zero = {"type": "message", "input_tokens": 0, "output_tokens": None}
    for later in (
        {"input_tokens": 0, "output_tokens": 0, "iterations": [], "speed": None, "server_tool_use": None},
        {"output_tokens": 1_000, "iterations": None, "inference_geo": None, "server_tool_use": {"web_search_requests": 0}},
        {"iterations": [zero, zero]},
        {"iterations": [{"type": "compaction", "input_tokens": 0}]},
        {},
        None,
    ):
        event = json.dumps({"type": "message_delta", "delta": {}, "usage": later})
        got = metered(DIALECT, facts, body + f"event: message_delta\ndata: {event}\n\n".encode(), content_type=content_type)
        assert (got.usage, got.billed_calls, got.conditions) == (said.usage, said.billed_calls, said.conditions)


def test_iterations_may_come_in_parts() -> None:
    begun = {"usage": top(10, 1, pass_of("compaction", 1_000, 10))}
    rest = top(23_000, 1_000, pass_of("compaction", 0, 0), pass_of("message", 23_000, 1_000))
    start, delta = {"type": "message_start", "message": begun}, {"type": "message_delta", "delta": {}, "usage": rest}
    body = b"".join([f"data: {json.dumps(each)}\n\n".encode() for each in (start, delta, {"type": "message_stop"})])
    got = assert_split_invariant(DIALECT, RequestFacts(model=MAIN, prompt=PromptShape(), stream=True), body)
    assert got.usage is not None
    assert (got.usage.prompt, got.usage.completion) == (24_000, 1_010)


def test_tokens_added_to_passes_are_charged() -> None:
    got = read(both(COMPACTED)).usage
    assert got is not None
    more = got.plus(Unit.OUTPUT, 7).with_cache_writes_as(Unit.CACHE_WRITE_1H)
    assert isinstance(more, Usage)
    assert PRICES[MAIN].cost_nano_usd(more) == PRICES[MAIN].cost_nano_usd(got) + 70_000
    assert [dict(quantities) for _, quantities in more.with_prompt_as(Unit.CACHED_INPUT).parts()] == [
        {Unit.CACHED_INPUT: 23_000, Unit.OUTPUT: 1_000},
        {Unit.CACHED_INPUT: 180_000, Unit.OUTPUT: 3_507},
        {},
    ]
    advised = Usage({Unit.INPUT: 9}, (Pass(model=OPUS, quantities={Unit.INPUT: 9}),)).plus(Unit.OUTPUT, 1)
    assert advised.passes == (Pass(model=OPUS, quantities={Unit.INPUT: 9}), Pass(quantities={Unit.OUTPUT: 1}))


@pytest.mark.parametrize(
    ("asked", "allowed", "more"),
    [
        ((None, None, None), {STANDARD}, {("priority", "", ""), ("", "", "us"), ("priority", "", "us")}),
        (("standard_only", None, "global"), {STANDARD}, set()),
        (("auto", None, "global"), {STANDARD, Conditions(service_tier="priority")}, set()),
        (("standard_only", "fast", "us"), {Conditions(geography="us"), Conditions(speed="fast", geography="us")}, set()),
        ((None, "standard", "global"), {STANDARD}, {("priority", "", "")}),
        ((None, "fast", None), {STANDARD, Conditions(speed="fast")}, None),
        ((5, [], {}), {STANDARD}, set()),
    ],
)
def test_the_conditions_that_a_request_allows(
    asked: tuple[object, object, object], allowed: set[Conditions], more: set[tuple[str, str, str]] | None
) -> None:
    conditions, by_default = conditions_of(*asked)
    assert set(conditions) == allowed
    assert not set(conditions) & set(by_default)
    if more is not None:
        assert {(each.service_tier, each.speed, each.geography) for each in by_default} == more


def test_a_cost_that_a_service_states_is_kept() -> None:
    got = read(both({"input_tokens": 10, "output_tokens": 2, "cost": 0.0123}))
    assert got.stated_cost_nano_usd == 12_300_000
    assert read(both({"input_tokens": 10, "output_tokens": 2})).stated_cost_nano_usd is None
