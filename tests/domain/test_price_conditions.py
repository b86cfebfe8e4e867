"""Rates that depend on sizes of prompts, service tiers, speed, geography and hours of the day; and rates of what is no token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prices import worst_case_nano_usd

from tallygate.config.price_row import DAYS
from tallygate.domain.charge import charge_of
from tallygate.domain.price import Price, Rule, Tier, minute_of_week
from tallygate.domain.ratio import ONE
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Pass, Usage, summed, usage_of_totals

USD = 10**12  # in pico-USD
MILLION = 10**6
PRIORITY, FLEX = Conditions(service_tier="priority"), Conditions(service_tier="flex")


def usd_per_million(**rates: str) -> dict[str, int]:
    return {Unit(name): int(float(rate) * MILLION) for name, rate in rates.items()}


# OpenAI, "Pricing": above 272,000 prompt tokens other rates hold for the whole request; priority processing has rates of its own.
GPT = Price(
    model="gpt-5.5",
    version="v",
    effective_ms=0,
    rates={**usd_per_million(input="5", cached_input="0.5", output="30"), Unit.WEB_SEARCH: USD // 100},
    tiers=(Tier(272_001, usd_per_million(input="10", cached_input="1", output="45")),),
    rules=(
        Rule(service_tier="flex", factor=ONE // 2),
        Rule(service_tier="priority", rates=usd_per_million(input="12.5", cached_input="1.25", output="75")),
    ),
)
# Anthropic, "Fast mode" and "Data residency": factors that multiply.
OPUS = Price(
    model="opus",
    version="v",
    effective_ms=0,
    rates={**usd_per_million(input="5", cache_write_5m="6.25", cached_input="0.5", output="25"), Unit.WEB_SEARCH: USD // 100},
    rules=(Rule(speed="fast", factor=2 * ONE), Rule(geography="us", factor=1_100_000)),
)


@pytest.mark.parametrize(
    ("price", "usage", "conditions", "micro_usd"),
    [
        # 200,000 * 10 + 100,000 * 1 + 2,000 * 45, per million
        (GPT, usage_of_totals(prompt=300_000, cached=100_000, completion=2_000), STANDARD, 2_190_000),
        (GPT, usage_of_totals(prompt=272_000, completion=0), STANDARD, 1_360_000),
        (GPT, usage_of_totals(prompt=272_001, completion=0), STANDARD, 2_720_010),
        (GPT, usage_of_totals(prompt=10_000, completion=1_000), STANDARD, 80_000),
        (GPT, usage_of_totals(prompt=10_000, completion=1_000), PRIORITY, 200_000),
        (GPT, usage_of_totals(prompt=10_000, completion=1_000), FLEX, 40_000),
        (GPT, usage_of_totals(prompt=300_000, completion=1_000), FLEX, 1_522_500),  # half of the long rates
        (GPT, usage_of_totals(prompt=10_000, completion=1_000), Conditions(service_tier="unheard of"), 80_000),
        (OPUS, usage_of_totals(prompt=10_000, completion=1_000), Conditions(speed="fast"), 150_000),
        (OPUS, usage_of_totals(prompt=10_000, completion=1_000), Conditions(geography="us"), 82_500),
        (OPUS, usage_of_totals(prompt=10_000, completion=1_000), Conditions(speed="fast", geography="us"), 165_000),
        # Factors are of tokens: three searches cost 30,000 whatever the speed is.
        (OPUS, Usage({Unit.OUTPUT: 1_000, Unit.WEB_SEARCH: 3}), Conditions(speed="fast"), 80_000),
    ],
)
def test_costs_agree_with_hand_computed_ones(price: Price, usage: Usage, conditions: Conditions, micro_usd: int) -> None:
    assert price.cost_nano_usd(usage, conditions) == micro_usd * 1_000


def test_a_tier_may_begin_at_its_threshold() -> None:
    price = Price(
        model="grok",
        version="v",
        effective_ms=0,
        rates={"input": 1, "output": 1},
        tiers=(Tier(200_000, {"input": 2, "output": 1}),),
    )
    costs = [price.pico_usd([{Unit.INPUT: prompt}]) for prompt in (199_999, 200_000)]
    assert costs == [199_999, 400_000]


def test_several_tiers_are_told_apart_by_the_whole_prompt() -> None:
    tiers = (Tier(101, {"input": 20, "output": 20}), Tier(1_001, {"input": 30, "output": 30}))
    price = Price(model="m", version="v", effective_ms=0, rates={"input": 10, "output": 10}, tiers=tiers)
    costs = [price.pico_usd([usage_of_totals(prompt=prompt, cached=prompt // 2).quantities]) for prompt in (100, 101, 1_000, 1_001)]
    assert costs == [1_000, 2_020, 20_000, 30_030]


def test_hours_of_the_day_hold_for_requests_that_start_in_them() -> None:
    rules = (Rule(utc_minutes=(16 * 60 + 30, 30), factor=ONE // 2),)  # across midnight
    price = Price(model="m", version="v", effective_ms=0, rates={"input": 10, "output": 10}, rules=rules)
    rates = [price.starting_at(minute).schedule()[0].rates["input"] for minute in (989, 990, 1_439, 0, 29, 30)]
    assert rates == [10, 5, 5, 5, 5, 10]


@pytest.mark.parametrize(
    ("days", "dear"),
    [((0, 4), "mon tue wed thu fri"), ((5, 6), "sat sun"), ((6, 6), "sun"), ((4, 0), "fri sat sun mon"), ((2, 1), " ".join(DAYS))],
)
def test_days_of_the_week_hold_for_requests_that_start_on_them(days: tuple[int, int], dear: str) -> None:
    rules = (Rule(utc_days=days, utc_minutes=(23 * 60, 60), factor=2 * ONE),)  # of the day itself, not of the night
    price = Price(model="m", version="v", effective_ms=0, rates={"input": 10, "output": 10}, rules=rules)
    monday = 1_764_547_200_000  # 2025-12-01
    starts = {(DAYS[day], hour): monday + day * 86_400_000 + hour * 3_600_000 for day in range(7) for hour in (0, 1, 23)}
    found = {key: price.starting_at(minute_of_week(at_ms)).schedule()[0].rates["input"] for key, at_ms in starts.items()}
    assert {key for key, rate in found.items() if rate == 20} == {(day, hour) for day in dear.split() for hour in (0, 23)}


def test_a_narrowed_unit_without_a_rate_has_that_of_the_wider() -> None:
    rates = {"input": 0, "output": 0, "image": 7, "image:high": 70, "image:high:large": 700}
    price = Price(model="m", version="v", effective_ms=0, rates=rates)
    found = [price.pico_usd([{unit: 1}]) for unit in ("image", "image:low", "image:high:small", "image:high:large")]
    assert found == [7, 7, 70, 700]
    assert price.lacks(["image:low:small", "page", "page:a4"]) == ["page", "page:a4"]


def test_each_pass_is_charged_by_its_own_size_and_model() -> None:
    other = Price(model="other", version="v", effective_ms=0, rates={"input": MILLION, "output": MILLION})
    passes = (
        Pass(quantities={Unit.INPUT: 200_000, Unit.OUTPUT: 1}),
        Pass(quantities={Unit.INPUT: 200_000}),
        Pass(model="other", quantities={Unit.INPUT: 1_000}),
        Pass(model="unheard of", quantities={Unit.INPUT: 1_000}),
    )
    usage = summed(passes).with_calls({Unit.WEB_SEARCH: 2})
    charged = charge_of(usage, STANDARD, GPT, {"other": other}.get)
    # 400,000 and 1,000 * 5, 1 * 30, 1,000 * 1 per million, and two searches: no pass is above 272,000.
    assert charged.cost_nano_usd == 2_005_000_000 + 30_000 + 1_000_000 + 20_000_000
    assert charged.lacks_rates
    assert not charge_of(summed(passes[:3]), STANDARD, GPT, {"other": other}.get).lacks_rates


@pytest.mark.parametrize(
    ("quantities", "conditions", "lacks"),
    [
        ({Unit.INPUT: 1}, STANDARD, False),
        ({Unit.INPUT: 1}, PRIORITY, False),
        ({Unit.INPUT: 1}, Conditions(service_tier="ultrafast"), True),
        ({Unit.INPUT: 1}, Conditions(geography="us"), False),  # most models cost the same everywhere
        ({Unit.WEB_SEARCH: 1}, STANDARD, False),
        ({Unit.FILE_SEARCH: 1}, STANDARD, True),
    ],
)
def test_what_has_no_rate_is_said(quantities: dict[str, int], conditions: Conditions, lacks: bool) -> None:
    assert charge_of(Usage(quantities), conditions, GPT, lambda _: None).lacks_rates is lacks


@given(
    st.dictionaries(
        st.sampled_from(sorted([Unit.INPUT, Unit.CACHED_INPUT, Unit.OUTPUT, Unit.WEB_SEARCH])), st.integers(1, 400_000)
    ),
    st.sampled_from([STANDARD, PRIORITY, FLEX]),
    st.integers(0, 1_000),
)
def test_a_hold_covers_every_condition_that_the_request_allows(found: dict[str, int], conditions: Conditions, more: int) -> None:
    usage = Usage(found)
    worst = worst_case_nano_usd(
        GPT,
        prompt_tokens=usage.prompt + more,
        output_tokens=usage.completion + more,
        conditions=[STANDARD, PRIORITY, FLEX],
        calls={Unit.WEB_SEARCH: found.get(Unit.WEB_SEARCH, 0)},
    )
    assert GPT.cost_nano_usd(usage, conditions) <= worst
