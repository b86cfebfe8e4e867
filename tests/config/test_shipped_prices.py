"""The shipped price list against the list it was made from, row by row."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tallygate.config.model import GatewayConfig
from tallygate.domain.money import pico_usd_per_token
from tallygate.domain.price import Price, Tier
from tallygate.domain.unit import TOKEN_UNITS, Unit

SOURCE = json.loads((Path(__file__).parent / "prices_source.json").read_text())
AT_MS = 1_790_000_000_000
RATES = tuple(unit.value for unit in TOKEN_UNITS)
LONG = {"input_above_200k": Unit.INPUT, "output_above_200k": Unit.OUTPUT}


ADDED = {"claude-sonnet-4"}  # what Gloo's v1 recipes ask for; docs.anthropic.com, "Pricing", as of 2025


def is_free(row: dict[str, object]) -> bool:
    return float(str(row["input"])) == 0 and float(str(row.get("output", "0"))) == 0


def expected_rates(row: dict[str, object]) -> dict[str, int]:
    """The rates of a source row, read with nothing but a decimal shift."""
    rates = {name: pico_usd_per_token(str(row[name])) for name in RATES if name in row}
    if "output" not in rates:
        assert row["kind"] == "embedding"  # the only models without output
        rates["output"] = 0
    if rates.get("cache_write_5m") == 0:  # "no surcharge" in the source; a rate of 0 would make those tokens free
        del rates["cache_write_5m"]
    return rates


def rows_by_model() -> dict[str, list[dict[str, object]]]:
    found = defaultdict(list)
    for row in SOURCE["models"]:
        if not is_free(row):
            found[row["model"]].append(row)
    return found


@pytest.fixture
def config(source) -> GatewayConfig:
    return source.load()


def test_every_priced_model_of_the_source_is_there_with_exactly_its_rates(config: GatewayConfig) -> None:
    for model, rows in rows_by_model().items():
        price = config.prices.find(model, AT_MS)
        assert price is not None, model
        assert price.model == model
        for row in rows:  # repeated rows agree, once read
            assert expected_rates(row) == {unit: rate for unit, rate in price.rates.items() if unit in TOKEN_UNITS}, model
            assert (row.get("max_output_tokens"), row.get("max_input_tokens")) == (
                price.max_output_tokens,
                price.max_input_tokens,
            ), model
            long = {unit: pico_usd_per_token(str(row[key])) for key, unit in LONG.items() if key in row}
            assert price.tiers == ((Tier(200_001, long),) if long else ())


def test_nothing_is_there_that_the_source_does_not_have(config: GatewayConfig) -> None:
    assert set(config.prices.models()) == set(rows_by_model()) | ADDED
    assert len(rows_by_model()) > 250


def test_a_model_that_the_source_lists_as_free_is_unknown_rather_than_free(config: GatewayConfig) -> None:
    free_only = {row["model"] for row in SOURCE["models"] if is_free(row)} - set(rows_by_model())

    assert "lyria-3.5" in free_only
    for model in free_only:
        assert config.prices.find(model, AT_MS) is None, model


def test_a_hand_computed_cost_of_a_shipped_model(config: GatewayConfig) -> None:
    from tallygate.domain.usage import usage_of_totals

    sonnet = config.prices.find("claude-sonnet-4-5", AT_MS)
    assert isinstance(sonnet, Price)
    counts = usage_of_totals(prompt=10_000, cached=6_000, cache_write_5m=1_000, cache_write_1h=500, completion=200)
    # 2,500 * $3 + 6,000 * $0.30 + 1,000 * $3.75 + 500 * $6 + 200 * $15, per million
    assert sonnet.cost_nano_usd(counts) == 7_500_000 + 1_800_000 + 3_750_000 + 3_000_000 + 3_000_000


def test_the_note_on_origin_is_kept() -> None:
    from tallygate.config.shipped import shipped_directory

    text = (shipped_directory() / "prices.yaml").read_text().replace("\n# ", " ")
    assert "MIT-licensed litellm price map" in text
    assert "A starting catalogue: check against the provider before billing." in text


def test_the_dearest_price_of_the_shipped_families_leaves_out_research_models(config: GatewayConfig) -> None:
    bound = config.prices.dearest(AT_MS)
    openai = config.prices.dearest(AT_MS, family="OpenAI")

    assert bound is not None
    assert openai is not None
    assert max(price.rates["output"] for price in bound.prices) <= 50 * 10**6
    assert {price.model for price in openai.prices} & {price.model for price in bound.prices}
