from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.dialect import RequestFacts
from proxy.domain.organization import Plan
from proxy.domain.price import Price
from proxy.domain.prompt import PromptShape
from proxy.gateway.estimate import affordable_output, estimate

PRICE = Price(model="m", version="v", effective_ms=0, input=150_000, output=600_000, max_output_tokens=16_384)
PLAN = Plan(id="p", default_output_tokens=1_000)


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


def test_input_that_cannot_be_seen_is_assumed() -> None:
    assert estimate(facts(has_unknown_input=True), PLAN, PRICE, 10).prompt_tokens == 10 + PLAN.unknown_input_tokens


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
    rate_in=st.integers(0, 10**9),
    rate_out=st.integers(1, 10**9),
    share=st.integers(0, 1000),
)
def test_a_clamped_request_never_costs_more_than_its_hold(
    prompt: int, output: int, choices: int, rate_in: int, rate_out: int, share: int
) -> None:
    price = Price(model="m", version="v", effective_ms=0, input=rate_in, output=rate_out)
    request = facts(max_output_tokens=output, choices=choices)
    asked = estimate(request, Plan(id="p", clamp=True), price, prompt)
    held = asked.hold_min_nano_usd + (asked.hold_nano_usd - asked.hold_min_nano_usd) * share // 1000

    clamped = affordable_output(request, asked, held)

    if clamped is None:
        assert held == asked.hold_nano_usd
    else:
        assert 1 <= clamped <= output
        assert price.worst_case_nano_usd(prompt_tokens=prompt, output_tokens=clamped * choices) <= held
