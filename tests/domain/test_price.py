"""Costs computed by hand, and the promise that a hold covers whatever the counts turn out to be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prices import price_of, worst_case_nano_usd

from tallygate.domain.price import Price
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage, usage_of_totals

# Rates in pico-USD per token; 1_000_000 is 1 USD per million tokens.
MINI = price_of(model="mini", version="v1", effective_ms=0, input=150_000, output=600_000, cached_input=75_000)
CACHING = price_of(
    model="sonnet",
    version="v1",
    effective_ms=0,
    input=3_000_000,
    output=15_000_000,
    cached_input=300_000,
    cache_write_5m=3_750_000,
    cache_write_1h=6_000_000,
)
LONG = price_of(
    model="pro",
    version="v1",
    effective_ms=0,
    input=1_250_000,
    output=10_000_000,
    cached_input=125_000,
    above=200_000,
    long_input=2_500_000,
    long_output=15_000_000,
)
AUDIO = price_of(
    model="audio",
    version="v1",
    effective_ms=0,
    input=2_500_000,
    output=10_000_000,
    input_audio=40_000_000,
    output_audio=80_000_000,
    cached_input=1_250_000,
)


@pytest.mark.parametrize(
    ("price", "counts", "nano_usd"),
    [
        # 1000 * 150_000 + 500 * 600_000 = 450_000_000 pico
        (MINI, usage_of_totals(prompt=1000, completion=500), 450_000),
        # 600 * 150_000 + 400 * 75_000 + 500 * 600_000 = 420_000_000 pico
        (MINI, usage_of_totals(prompt=1000, completion=500, cached=400), 420_000),
        # one token is 150 nano-USD exactly; nothing is rounded
        (MINI, usage_of_totals(prompt=1), 150),
        (MINI, usage_of_totals(), 0),
        # reasoning without a rate of its own is output
        (MINI, usage_of_totals(completion=100, reasoning=90), 60_000),
        # 100 plain * 3 + 20_000 read * 0.3 + 1_000 written 5m * 3.75 + 500 written 1h * 6 + 200 out * 15, in USD per million:
        # 300 + 6_000 + 3_750 + 3_000 + 3_000 = 16_050 micro-USD
        (
            CACHING,
            usage_of_totals(prompt=21_600, completion=200, cached=20_000, cache_write_5m=1_000, cache_write_1h=500),
            16_050_000,
        ),
        # the whole prompt was written: 1_000 * 3.75 = 3_750 micro-USD
        (CACHING, usage_of_totals(prompt=1_000, cache_write_5m=1_000), 3_750_000),
        # at the threshold the short rates hold: 200_000 * 1.25 + 1_000 * 10 = 260_000 micro-USD
        (LONG, usage_of_totals(prompt=200_000, completion=1_000), 260_000_000),
        # one more token and all of it is long: 200_001 * 2.5 + 1_000 * 15 = 515_002.5 micro-USD
        (LONG, usage_of_totals(prompt=200_001, completion=1_000), 515_002_500),
        # cached scales with input, 0.125 to 0.25: 100_001 * 2.5 + 200_000 * 0.25 = 300_002.5 micro-USD
        (LONG, usage_of_totals(prompt=300_001, cached=200_000), 300_002_500),
        # 70 text * 2.5 + 30 audio * 40 + 10 text * 10 + 40 audio * 80 = 175 + 1_200 + 100 + 3_200 micro-USD
        (AUDIO, usage_of_totals(prompt=100, completion=50, audio_prompt=30, audio_completion=40), 4_675_000),
        # 80 of 100 are cached, so at most 20 audio tokens are left to charge: 80 * 1.25 + 20 * 40 = 900 micro-USD
        (AUDIO, usage_of_totals(prompt=100, cached=80, audio_prompt=30), 900_000),
    ],
)
def test_costs_agree_with_hand_computed_ones(price: Price, counts: Usage, nano_usd: int) -> None:
    assert price.cost_nano_usd(counts) == nano_usd


def test_reasoning_is_charged_at_its_own_rate_and_never_twice() -> None:
    price = replace(MINI, rates={**MINI.rates, Unit.REASONING_OUTPUT: 900_000, Unit.OUTPUT_AUDIO: 5_000_000})
    # 40 audio * 5, then of 100 - 40 at most 60 reasoning * 0.9: 200 + 54 micro-USD
    assert price.cost_nano_usd(usage_of_totals(completion=100, reasoning=80, audio_completion=40)) == 254_000


def test_a_cost_is_rounded_once_and_up() -> None:
    odd = price_of(model="odd", version="v1", effective_ms=0, input=1, output=1)
    assert odd.cost_nano_usd(usage_of_totals(prompt=1, completion=1)) == 1  # 2 pico together, not 1 + 1 nano
    assert odd.cost_nano_usd(usage_of_totals(prompt=1000, completion=1)) == 2


def test_a_rate_scaled_to_a_long_context_is_rounded_up() -> None:
    price = price_of(model="m", version="v1", effective_ms=0, input=3, output=0, cached_input=1, above=10, long_input=4)
    assert price.cost_nano_usd(usage_of_totals(prompt=1000, cached=1000)) == 2  # 1 * 4 / 3 is 2 pico-USD a token


def test_free_input_does_not_make_dearer_kinds_free() -> None:
    price = price_of(model="m", version="v1", effective_ms=0, input=0, output=0, input_audio=7_000_000, reasoning_output=2_000_000)
    assert price.cost_nano_usd(usage_of_totals(prompt=10, audio_prompt=10, completion=5, reasoning=5)) == 80_000
    assert worst_case_nano_usd(price, prompt_tokens=10, output_tokens=5, units=[Unit.INPUT_AUDIO]) == 80_000


@pytest.mark.parametrize(
    ("price", "asked", "nano_usd"),
    [
        (MINI, {"prompt_tokens": 1000, "output_tokens": 500}, 450_000),
        # a cache write is dearer than plain input, and only possible where asked for: 1_000 * 3.75, * 6, * 3
        (CACHING, {"prompt_tokens": 1000, "output_tokens": 0, "units": [Unit.CACHE_WRITE_5M]}, 3_750_000),
        (CACHING, {"prompt_tokens": 1000, "output_tokens": 0, "units": [Unit.CACHE_WRITE_5M, Unit.CACHE_WRITE_1H]}, 6_000_000),
        (CACHING, {"prompt_tokens": 1000, "output_tokens": 0}, 3_000_000),
        (LONG, {"prompt_tokens": 200_000, "output_tokens": 1000}, 260_000_000),
        (LONG, {"prompt_tokens": 200_001, "output_tokens": 1000}, 515_002_500),
        (AUDIO, {"prompt_tokens": 100, "output_tokens": 50}, 750_000),
        (AUDIO, {"prompt_tokens": 100, "output_tokens": 50, "units": [Unit.INPUT_AUDIO, Unit.OUTPUT_AUDIO]}, 8_000_000),
    ],
)
def test_worst_cases_agree_with_hand_computed_ones(price: Price, asked: dict[str, Any], nano_usd: int) -> None:
    assert worst_case_nano_usd(price, **asked) == nano_usd


def test_a_long_rate_below_the_short_one_does_not_lower_the_hold() -> None:
    price = price_of(model="m", version="v", effective_ms=0, input=10_000, output=0, above=100, long_input=1)
    assert worst_case_nano_usd(price, prompt_tokens=101, output_tokens=0) >= price.cost_nano_usd(usage_of_totals(prompt=100))


rates = st.integers(0, 10**8)
maybe_rates = st.none() | rates


@st.composite
def prices(draw: st.DrawFn) -> Price:
    return price_of(
        model="m",
        version="v1",
        effective_ms=0,
        input=draw(rates),
        output=draw(rates),
        above=draw(st.none() | st.integers(0, 300)),
        **{
            name: draw(maybe_rates)
            for name in (
                "cached_input",
                "cache_write_5m",
                "cache_write_1h",
                "input_audio",
                "reasoning_output",
                "output_audio",
                "long_input",
                "long_output",
            )
        },
    )


@st.composite
def consistent_counts(draw: st.DrawFn) -> Usage:
    prompt, completion = draw(st.integers(0, 400)), draw(st.integers(0, 400))
    cached = draw(st.integers(0, prompt))
    write_5m = draw(st.integers(0, prompt - cached))
    return usage_of_totals(
        prompt=prompt,
        completion=completion,
        cached=cached,
        cache_write_5m=write_5m,
        cache_write_1h=draw(st.integers(0, prompt - cached - write_5m)),
        audio_prompt=draw(st.integers(0, prompt)),
        reasoning=draw(st.integers(0, completion)),
        audio_completion=draw(st.integers(0, completion)),
    )


@given(prices(), consistent_counts(), st.integers(0, 50), st.integers(0, 50))
def test_the_worst_case_covers_every_cost_within_the_bound(price: Price, counts: Usage, more_in: int, more_out: int) -> None:
    worst = worst_case_nano_usd(
        price,
        prompt_tokens=counts.prompt + more_in,
        output_tokens=counts.completion + more_out,
        units=[Unit(unit) for unit in counts.quantities],
    )
    assert 0 <= price.cost_nano_usd(counts) <= worst


@given(prices(), consistent_counts())
def test_a_price_with_one_rate_charges_every_token_once(price: Price, counts: Usage) -> None:
    flat = price_of(
        model="m",
        version="v1",
        effective_ms=0,
        input=price.rates["input"],
        output=price.rates["input"],
        **dict.fromkeys(
            ("cached_input", "cache_write_5m", "cache_write_1h", "input_audio", "reasoning_output", "output_audio"),
            price.rates["input"],
        ),
    )
    assert flat.cost_nano_usd(counts) == -(-counts.total * price.rates["input"] // 1000)
