from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from prices import price_of, repriced, worst_case_nano_usd

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.request_headers import facts_with_headers
from tallygate.domain.declared import Chosen
from tallygate.domain.errors import Refused
from tallygate.domain.organization import Plan, UnknownModelPolicy
from tallygate.domain.price import Price
from tallygate.domain.prompt import PromptShape
from tallygate.domain.routed_price import routed_price
from tallygate.domain.unit import Unit
from tallygate.gateway.exchange.asked_price import refuse_unpriced_calls
from tallygate.gateway.exchange.estimate import (
    RATED_UNKNOWN_TOKENS,
    ROUTED_SHARE,
    UNKNOWN_WINDOW_TOKENS,
    affordable_output,
    estimate,
)

PRICE = price_of(model="m", version="v", effective_ms=0, input=150_000, output=600_000, max_output_tokens=16_384)
PLAN = Plan(id="p", default_output_tokens=1_000)
HIGH_LIMIT = 10**15  # nano-USD: binds, and shortens nothing


def facts(**changes: object) -> RequestFacts:
    return RequestFacts(**{"model": "m", "prompt": PromptShape(), **changes})  # type: ignore[arg-type]


def test_the_hold_is_input_and_the_stated_maximum_of_every_choice() -> None:
    asked = estimate(facts(max_output_tokens=100, choices=3), PLAN, PRICE, 1_000)

    assert asked.hold_nano_usd == (1_000 * 150_000 + 300 * 600_000) // 1000
    assert asked.input_nano_usd == 150_000
    assert asked.rate_tokens == 1_300


def test_without_a_stated_maximum_the_models_own_bounds_the_hold_and_the_plans_default_the_rate() -> None:
    asked = estimate(facts(), PLAN, PRICE, 10)

    assert asked.output_tokens == 16_384
    assert asked.rate_tokens == 10 + 1_000


def test_a_request_without_output_holds_its_input_alone() -> None:
    asked = estimate(facts(has_output=False), PLAN, PRICE, 10)

    assert asked.hold_nano_usd == asked.hold_min_nano_usd == asked.input_nano_usd == 1_500


UNSEEN = {"has_unknown_input": True, "has_unseen_input": True}


def test_input_that_nobody_has_seen_is_all_that_the_model_can_read() -> None:
    windowed = repriced(PRICE, max_input_tokens=128_000)
    asked = estimate(facts(**UNSEEN, max_output_tokens=1), PLAN, windowed, 10)

    assert asked.prompt_tokens == 128_000
    assert asked.hold_nano_usd == (128_000 * 150_000 + 600_000) // 1000
    assert asked.rate_tokens == 10 + RATED_UNKNOWN_TOKENS + 1  # for token limits, a modest guess is enough
    assert estimate(facts(**UNSEEN), PLAN, windowed, 130_000).prompt_tokens == 130_000
    assert estimate(facts(**UNSEEN), PLAN, PRICE, 10).prompt_tokens == UNKNOWN_WINDOW_TOKENS


def test_tools_that_run_in_rounds_read_the_window_as_often() -> None:
    windowed = repriced(PRICE, max_input_tokens=100_000)
    assert estimate(facts(**UNSEEN, window_reads=2), PLAN, windowed, 10).prompt_tokens == 200_000


def test_a_prompt_that_is_summed_up_is_read_twice() -> None:
    assert estimate(facts(prompt_reads=2, added_tokens=7), PLAN, PRICE, 1_000).prompt_tokens == 2_007


def test_a_larger_window_can_be_asked_for() -> None:
    windowed = repriced(PRICE, max_input_tokens=200_000)
    asked = facts_with_headers(facts(**UNSEEN), CIMultiDict({"Anthropic-Beta": "files-api-2025-04-14, Context-1M-2025-08-07"}))
    assert estimate(asked, PLAN, windowed, 10).prompt_tokens == 1_000_000
    assert facts_with_headers(facts(), CIMultiDict({"anthropic-beta": "files-api-2025-04-14"})) == facts()


def test_what_a_provider_puts_in_is_held() -> None:
    assert estimate(facts(added_tokens=24), PLAN, PRICE, 10).prompt_tokens == 34


def test_each_text_to_embed_has_its_edges() -> None:
    request = facts(has_output=False, prompt=PromptShape(texts=("", "a")))
    assert estimate(request, PLAN, PRICE, 1).prompt_tokens == 1 + 2 * 4


def test_a_plan_may_assume_less_of_unseen_input() -> None:
    asked = estimate(facts(**UNSEEN), Plan(id="p", unknown_input_tokens=2_000), repriced(PRICE, max_input_tokens=128_000), 10)

    assert (asked.prompt_tokens, asked.rate_tokens) == (2_010, 2_010 + 4_096)
    assert estimate(facts(**UNSEEN), Plan(id="p", unknown_input_tokens=0), PRICE, 10).prompt_tokens == 10


def test_stored_input_is_what_is_recorded_of_it_and_else_unseen() -> None:
    referring = facts(has_unknown_input=True)
    assert estimate(referring, PLAN, PRICE, 10, referred_tokens=5_000).prompt_tokens == 5_010
    assert estimate(referring, PLAN, PRICE, 10).prompt_tokens == UNKNOWN_WINDOW_TOKENS
    assert estimate(facts(**UNSEEN), PLAN, PRICE, 10, referred_tokens=5_000).prompt_tokens == UNKNOWN_WINDOW_TOKENS


def test_stored_input_is_read_as_often_as_the_prompt() -> None:
    compacting = facts(has_unknown_input=True, prompt_reads=2)
    assert estimate(compacting, PLAN, PRICE, 10, referred_tokens=5_000).prompt_tokens == 10_020
    assert estimate(compacting, PLAN, PRICE, 10).prompt_tokens == 2 * UNKNOWN_WINDOW_TOKENS


def test_a_prediction_is_held_as_output_beside_the_maximum() -> None:
    asked = estimate(facts(max_output_tokens=100), PLAN, PRICE, 10, predicted_tokens=50)

    assert asked.output_tokens == 150
    assert asked.hold_nano_usd == (10 * 150_000 + 150 * 600_000) // 1000


def test_plans_clamp_where_a_spend_limit_binds_unless_they_say_otherwise() -> None:
    def can_clamp(clamp: bool | None, *, is_bound: bool) -> bool:
        asked = estimate(facts(), Plan(id="p", clamp=clamp), PRICE, 10, spend_limit_nano_usd=HIGH_LIMIT if is_bound else None)
        return asked.hold_min_nano_usd < asked.hold_nano_usd

    assert can_clamp(None, is_bound=True)
    assert not can_clamp(None, is_bound=False)
    assert not can_clamp(False, is_bound=True)
    assert can_clamp(True, is_bound=False)


def test_a_maximum_that_was_assumed_is_sent_where_a_limit_binds() -> None:
    endless = repriced(PRICE, max_output_tokens=None)

    def sent(price: Price, *, is_bound: bool = True, **request: object) -> int | None:
        asked = estimate(facts(**request), PLAN, price, 10, spend_limit_nano_usd=HIGH_LIMIT if is_bound else None)
        return affordable_output(facts(**request), asked, asked.hold_nano_usd)

    assert sent(endless) == 1_000
    assert (sent(PRICE), sent(endless, is_bound=False), sent(endless, max_output_tokens=9), sent(endless, has_output=False)) == (
        None,
    ) * 4


def test_clamping_stops_at_a_floor() -> None:
    def least_output(**request: object) -> int:
        asked = estimate(facts(**request), Plan(id="p", clamp=True, clamp_floor_tokens=256), PRICE, 10)
        return (asked.hold_min_nano_usd - asked.input_nano_usd) * 1000 // 600_000

    assert least_output() == 256
    by_default = estimate(facts(), PLAN, PRICE, 10, spend_limit_nano_usd=HIGH_LIMIT)
    assert by_default.floor_tokens == 750
    assert estimate(facts(max_output_tokens=700), PLAN, PRICE, 10, spend_limit_nano_usd=HIGH_LIMIT).floor_tokens == 700
    assert estimate(facts(), Plan(id="p", clamp=True), PRICE, 10).floor_tokens == 1
    assert least_output(choices=3) == 3 * 256
    assert least_output(max_output_tokens=20) == 20
    assert least_output(max_output_tokens=9_000, output_min_tokens=4_001) == 4_001  # a thinking budget of 4,000


def test_of_a_model_that_the_provider_chooses_each_ends_at_its_own_maximum() -> None:
    long = repriced(PRICE, model="long", output=1_000, max_output_tokens=384_000, max_input_tokens=1_000)
    dear = repriced(PRICE, model="dear", input=1, output=120_000_000, max_output_tokens=8_000, max_input_tokens=500)
    routed = routed_price([long, dear])

    open_ended = estimate(facts(model=None), PLAN, routed, 100, spend_limit_nano_usd=HIGH_LIMIT)
    assert open_ended.output_tokens == 384_000
    assert open_ended.hold_nano_usd == (100 + 8_000 * 120_000_000) // 1000 + 1
    assert estimate(facts(model=None, max_output_tokens=10, choices=2), PLAN, routed, 0).hold_nano_usd == 20 * 120_000
    assert estimate(facts(model=None, max_output_tokens=9_000, choices=2), PLAN, routed, 0).hold_nano_usd == 2 * 8_000 * 120_000
    unseen = estimate(facts(model=None, **UNSEEN, has_output=False), PLAN, routed, 0)
    assert (unseen.prompt_tokens, unseen.hold_nano_usd) == (1_000, 1_000 * 150)

    assert affordable_output(facts(model=None), open_ended, 1_000 * 120_000 + 1) == 1_000
    assert affordable_output(facts(model=None), open_ended, 500 * 120_000 + 1) == open_ended.floor_tokens == 750


def test_of_several_models_one_that_does_not_say_where_it_ends_is_held_to_the_end_of_the_longest() -> None:
    silent = repriced(PRICE, model="silent", output=900_000, max_output_tokens=None)
    asked = estimate(facts(model=None), PLAN, routed_price([silent, PRICE]), 0, spend_limit_nano_usd=HIGH_LIMIT)
    assert (asked.hold_nano_usd, asked.imposed_maximum) == (16_384 * 900, None)
    assert estimate(facts(model=None), PLAN, routed_price([silent]), 0, spend_limit_nano_usd=HIGH_LIMIT).imposed_maximum == 1_000


@pytest.mark.parametrize(
    ("tokens_of_share", "clamp", "imposed"),
    [
        (2_000, None, 2_000),
        (500, None, 1_000),  # no less than the plan's default
        (16_384, None, None),  # it fits as it is
        (2_000, False, None),
    ],
)
def test_an_answer_whose_model_the_provider_chooses_leaves_room_for_others(
    tokens_of_share: int, clamp: bool | None, imposed: int | None
) -> None:
    plan = Plan(id="p", default_output_tokens=1_000, clamp=clamp)
    limit = ROUTED_SHARE * tokens_of_share * 600

    of = partial(estimate, plan=plan, price=routed_price([PRICE, PRICE]), prompt_tokens=0, spend_limit_nano_usd=limit)

    assert of(facts(model=None)).imposed_maximum == imposed
    assert of(facts(model=None)).output_tokens == (imposed or 16_384)
    assert of(facts(model=None, max_output_tokens=9_000)).imposed_maximum is None  # what is stated is believed


def test_an_unpriced_request_holds_nothing() -> None:
    assert estimate(facts(max_output_tokens=5), PLAN, None, 10).hold_nano_usd == 0


def test_without_clamping_the_least_hold_is_the_whole() -> None:
    asked = estimate(facts(max_output_tokens=100), PLAN, PRICE, 10)

    assert asked.hold_min_nano_usd == asked.hold_nano_usd
    assert affordable_output(facts(max_output_tokens=100), asked, asked.hold_nano_usd) is None


@given(
    prompt=st.integers(0, 300_000),
    output=st.integers(1, 200_000),
    choices=st.integers(1, 5),
    predicted=st.integers(0, 10_000),
    rate_in=st.integers(0, 10**9),
    rate_out=st.integers(1, 10**9),
    share=st.integers(0, 1000),
)
def test_a_clamped_request_never_costs_more_than_its_hold(
    prompt: int, output: int, choices: int, predicted: int, rate_in: int, rate_out: int, share: int
) -> None:
    price = price_of(model="m", version="v", effective_ms=0, input=rate_in, output=rate_out)
    request = facts(max_output_tokens=output, choices=choices)
    asked = estimate(request, Plan(id="p", clamp=True), price, prompt, predicted_tokens=predicted)
    held = asked.hold_min_nano_usd + (asked.hold_nano_usd - asked.hold_min_nano_usd) * share // 1000

    clamped = affordable_output(request, asked, held)

    if clamped is None:
        assert held == asked.hold_nano_usd
    else:
        assert 1 <= clamped <= output
        assert worst_case_nano_usd(price, prompt_tokens=prompt, output_tokens=clamped * choices + predicted) <= held


def test_a_clamped_routed_request_is_sent_with_what_every_model_takes() -> None:
    dear = repriced(PRICE, output=60_000_000)
    bound = routed_price([dear, repriced(PRICE, model="old", max_output_tokens=4_096)])
    asked = estimate(facts(model=None, max_output_tokens=16_000), PLAN, bound, 0, spend_limit_nano_usd=HIGH_LIMIT)

    assert affordable_output(facts(model=None), asked, asked.hold_nano_usd) is None
    assert affordable_output(facts(model=None), asked, asked.hold_nano_usd // 2) == 4_096
    assert affordable_output(facts(model=None), asked, asked.hold_min_nano_usd) == 750


def test_what_has_no_rate_is_refused_like_an_unknown_model_unless_the_plan_lets_it_run() -> None:
    asking = facts(calls={Unit.WEB_SEARCH: 3, Unit.FILE_SEARCH: 1})
    searching = repriced(PRICE, web_search=10**10)
    refuse_unpriced_calls(facts(calls={Unit.WEB_SEARCH: 3}), PLAN, searching)
    with pytest.raises(Refused, match="No price is configured for file_search of the model 'm'"):
        refuse_unpriced_calls(asking, PLAN, searching)
    refuse_unpriced_calls(asking, Plan(id="p", api_access=True, unknown_model=Chosen(UnknownModelPolicy.UNPRICED)), searching)
    # 100 * 150,000 and 3 searches at 10**10 pico-USD
    assert estimate(facts(calls={Unit.WEB_SEARCH: 3}), PLAN, searching, 100).input_nano_usd == 15_000 + 30_000_000
