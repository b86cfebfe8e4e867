"""The layer that `tallygate prices update` writes, as it is loaded."""

import pytest

from tallygate.domain.errors import ConfigError

ROW = '{model: gpt-5.5, effective: 2020-01-01, input: "6", output: "7"}'
NOW = 1_796_000_000_000


def test_updated_rows_replace_listed_ones_by_name_and_an_operators_override_both(load) -> None:
    updates = f'reviewed: 2199-01-01\nprices: [{ROW}, {{model: new, effective: 2020-01-01, input: "1", output: "2"}}]'
    prices = load({"listed_prices": updates}).prices
    found = {name: prices.find(name, NOW) for name in ("gpt-5.5", "gpt-5.5-2026-04-23", "new", "gpt-4o")}
    assert {name: price and price.rates["input"] for name, price in found.items()} == {
        "gpt-5.5": 6_000_000,
        "gpt-5.5-2026-04-23": 5_000_000,  # a row of its own in the shipped list
        "new": 1_000_000,
        "gpt-4o": 2_500_000,
    }
    assert prices.reviewed_ms == 7_226_582_400_000
    own = load(
        {"listed_prices": updates}, prices='prices: [{model: gpt-5.5, effective: 2020-01-01, input: "9", output: "9"}]'
    ).prices
    assert own.find("gpt-5.5", NOW).rates["input"] == 9_000_000
    assert own.find("new", NOW).rates["output"] == 2_000_000
    assert load(prices=f"with_listed: false\nprices: [{ROW}]").prices.find("new", NOW) is None


def test_a_change_of_the_layer_is_another_version_of_the_configuration(load) -> None:
    versions = {load(listed_prices=f"reviewed: {day}\nprices: []").version for day in ("2026-01-01", "2026-01-02")}
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prices: []", "listed_prices.yaml:1: has no `reviewed`"),
        (f"reviewed: 2026-01-01\nprices: [{ROW}, {ROW}]", "prices 'gpt-5.5' twice from the same instant"),
        ("reviewed: soon\nprices: []", "reviewed must be a date such as"),
        ("reviewed: 2026-01-01\nprices: []\nfamilies: {}", "families is not a known key"),
    ],
)
def test_a_problem_of_the_layer_has_its_line(load, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(listed_prices=text)
    assert any(problem in each for each in raised.value.problems), raised.value.problems
