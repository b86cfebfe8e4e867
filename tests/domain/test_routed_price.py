"""What bounds a request whose model the provider chooses: one of the models, never a mixture of their rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prices import price_of, worst_case_nano_usd

from tallygate.domain.price import Price
from tallygate.domain.routed_price import each_of, routed_price
from tallygate.domain.unit import Unit
from tallygate.domain.usage import usage_of_totals

RATE = st.integers(0, 10**6)
OPTIONAL = st.none() | RATE
KINDS = (Unit.CACHE_WRITE_5M, Unit.CACHE_WRITE_1H, Unit.INPUT_AUDIO, Unit.OUTPUT_AUDIO)


def a_price(model: str, **amounts: int | None) -> Price:
    return price_of(model, version=f"{model}@1", **{"input": 0, "output": 0, **amounts})


@st.composite
def prices(draw: st.DrawFn) -> Price:
    rates = {kind: draw(OPTIONAL) for kind in (*KINDS, "cached_input", "reasoning_output")}
    if draw(st.booleans()):
        rates.update(above=draw(st.integers(1, 1000)), long_input=draw(RATE), long_output=draw(RATE))
    return a_price("m", input=draw(RATE), output=draw(RATE), **rates)


@given(st.lists(prices(), min_size=1, max_size=5), st.integers(0, 2000), st.integers(0, 2000), st.tuples(*[st.booleans()] * 4))
def test_it_is_the_worst_of_the_models_whichever_are_left_out(
    models: list[Price], prompt: int, output: int, flags: tuple[bool, ...]
) -> None:
    bound = routed_price(models)
    assert bound is not None
    asked = [kind for kind, is_asked in zip(KINDS, flags, strict=True) if is_asked]

    def worst(of: list[Price]) -> int:
        return max(worst_case_nano_usd(price, prompt_tokens=prompt, output_tokens=output, units=asked) for price in of)

    counts = usage_of_totals(prompt=prompt, completion=output, cached=prompt // 2, reasoning=output // 3)
    assert worst(list(bound.prices)) == worst(models)
    assert bound.cost_nano_usd(counts) == max(price.cost_nano_usd(counts) for price in models)


def test_one_models_length_is_not_charged_at_anothers_rate() -> None:
    long, dear = a_price("long", output=1_000, max_output_tokens=384_000), a_price("dear", output=120_000, max_output_tokens=8_000)
    bound = routed_price([long, dear])
    assert bound is not None
    assert bound.prices == (dear, long)
    assert bound.version == "dearest.dear@1"
    assert each_of(bound) == (dear, long)
    assert each_of(dear) == (dear,)
    assert routed_price([]) is None


@pytest.mark.parametrize(
    "kind",
    [
        *("output", "input", "cached_input", "cache_write_5m", "cache_write_1h", "input_audio", "reasoning_output", "output_audio"),
        *("max_output_tokens", "max_input_tokens"),
    ],
)
def test_a_model_stays_that_is_dearer_or_longer_in_anything(kind: str) -> None:
    sizes = {"max_output_tokens": 100, "max_input_tokens": 100}
    one, other = a_price("one", input=5, output=5, **sizes), a_price("other", input=4, output=4, **sizes)
    assert routed_price([other, one]) == routed_price([one])
    bound = routed_price([a_price("other", **{"input": 4, "output": 4, **sizes, kind: 200}), one])
    assert bound is not None
    assert {price.model for price in bound.prices} == {"one", "other"}
