"""Rows of prices.yaml: rates by unit, of longer prompts, under conditions, and of calls."""

import json

import pytest
from prices import price_of

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.domain.unit import UNITS_PER_RATE, Unit
from tallygate.domain.usage import Conditions, Usage

MILLION = 10**6


def catalogue(text: str) -> PriceCatalogue:
    problems = Problems()
    document = read_document("prices.yaml", text.encode(), problems)
    assert document is not None
    found = read_prices(document)
    assert not problems, problems.texts()
    return found


def rate(prices: PriceCatalogue, unit: str, *, model: str = "m", prompt: int = 0, at_ms: int = 10**12, **conditions: str) -> int:
    price = prices.find(model, at_ms)
    assert price is not None
    tiers = price.schedule(Conditions(**conditions))
    return next(tier.rates[unit] for tier in reversed(tiers) if prompt >= tier.from_tokens)


@pytest.mark.parametrize("unit", list(Unit))
def test_a_row_may_have_a_rate_of_every_unit(unit: Unit) -> None:
    row = {"model": "m", "effective": "2001-01-01", "input": "1", "output": "1", unit.value: "2"}
    prices = catalogue(f"prices: [{json.dumps(row)}]")
    assert rate(prices, unit) == 2 * 10**12 // UNITS_PER_RATE[unit]


def test_sizes_conditions_and_hours_are_read() -> None:
    prices = catalogue("""prices:
  - model: m
    effective: 2001-01-01
    input: "5"
    cached_input: "0.5"
    output: "30"
    input_above_272k: "10"
    cached_input_above_272k: "2"
    output_above_272k: "45"
    input_from_500k: "20"
    output_from_500k: "60"
    when:
      - {service_tier: flex, times: "0.5"}
      - {service_tier: priority, input: "12.5", output: "75", input_above_272k: "25", output_above_272k: "80"}
      - {geography: us, times: "1.1"}
      - {utc_hours: "16:30-00:30", times: "0.25"}
""")
    noon, night = 1_700_000_000_000 // 86_400_000 * 86_400_000 + 43_200_000, 1_700_000_000_000 // 86_400_000 * 86_400_000
    sizes = (272_000, 272_001, 499_999, 500_000)
    assert [rate(prices, "input", prompt=size, at_ms=noon) // MILLION for size in sizes] == [5, 10, 10, 20]
    assert [rate(prices, "cached_input", prompt=size, at_ms=noon) for size in sizes] == [500_000, 2_000_000, 2_000_000, 2_000_000]
    assert rate(prices, "input", at_ms=noon, service_tier="flex") == 2_500_000
    assert rate(prices, "cached_input", at_ms=noon, service_tier="priority") == 1_250_000  # in the proportion of input
    assert rate(prices, "output", at_ms=noon, prompt=272_001, service_tier="priority") == 80_000_000
    assert rate(prices, "input", at_ms=noon, service_tier="flex", geography="us") == 2_750_000
    assert rate(prices, "input", at_ms=night) == 1_250_000


def test_calls_are_priced_once_for_many_models_unless_a_row_differs() -> None:
    prices = catalogue("""prices:
  - {model: gpt-5, effective: 2001-01-01, input: "1", output: "1"}
  - {model: gpt-6, effective: 2001-01-01, input: "1", output: "1", web_search: "7"}
  - {model: other, effective: 2001-01-01, input: "1", output: "1"}
calls:
  - {models: [gpt-*], web_search: "10", file_search: "2.5"}
  - {models: ["*"], web_search: "1", image: "0.25", "image:high": "0.167"}
""")
    found = {model: prices.find(model, 10**12) for model in ("gpt-5", "gpt-6", "other")}
    usage = Usage({Unit.WEB_SEARCH: 1})
    costs = {model: price.cost_nano_usd(usage) for model, price in found.items() if price is not None}
    assert costs == {"gpt-5": 10**7, "gpt-6": 7 * 10**6, "other": 10**6}
    assert all(price is not None and price.cost_nano_usd(Usage({"image:high:large": 1})) == 167 * 10**6 for price in found.values())
    assert found["other"] is not None
    assert found["other"].lacks([Unit.FILE_SEARCH]) == [Unit.FILE_SEARCH]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('when: [{speed: fast, times: "2", web_search: "10"}]}', "prices[0].when[0].web_search is not a known key"),
        ('input: "1"}\ncalls: [{models: ["*"], page: "1", input: "1"}]', "calls[0].input is not a known key"),
    ],
)
def test_a_rate_where_it_would_have_no_effect_is_a_problem(text: str, problem: str) -> None:
    problems = Problems()
    row = '{model: m, effective: 2001-01-01, output: "1", ' + ("" if "input" in text else 'input: "1", ') + text
    document = read_document("prices.yaml", f"prices:\n- {row}".encode(), problems)
    assert document is not None
    read_prices(document)
    (found,) = problems.texts()
    assert problem in found


def test_a_version_changes_with_whatever_changes_the_cost() -> None:
    rows = [
        'input: "1", output: "2"',
        'input: "1", output: "2", web_search: "10"',
        'input: "1", output: "2", input_above_200k: "2", output_above_200k: "3"',
        'input: "1", output: "2", input_from_200k: "2", output_from_200k: "3"',
        'input: "1", output: "2", when: [{speed: fast, times: "2"}]',
        'input: "1", output: "2", when: [{speed: fast, times: "3"}]',
        'input: "1", output: "2", when: [{service_tier: fast, times: "3"}]',
        'input: "1", output: "2", max_output_tokens: 5',
    ]
    found = [catalogue(f"prices:\n  - {{model: m, effective: 2001-01-01, {row}}}").find("m", 10**12) for row in rows]
    assert len({price.version for price in found if price is not None}) == len(rows)


LISTED = """prices:
  - {model: gpt-4o, effective: 2001-01-01, input: "2.5", output: "10"}
  - {model: gpt-4o-2024-08-06, effective: 2001-01-01, input: "2.5", output: "10"}
  - {model: gpt-5, effective: 2001-01-01, input: "1.25", output: "10"}
aliases: {listed-alias: gpt-5}
families: {openai: [gpt-*]}
calls:
  - {models: [gpt-*], web_search: "10"}
"""
NOW = 10**12


def layered(own: str) -> PriceCatalogue:
    problems = Problems()
    document = read_document("prices.yaml", own.encode(), problems)
    assert document is not None
    found = read_prices(document, listed=catalogue(LISTED))
    assert not problems, problems.texts()
    return found


def test_an_operators_file_adds_to_the_list_and_overrides_it() -> None:
    prices = layered('prices: [{model: gpt-4o, effective: 2001-01-01, input: "1", output: "4"}]')
    found = {model: rate(prices, "input", model=model) // 1_000 for model in ("gpt-4o", "gpt-5", "listed-alias")}
    assert found == {"gpt-4o": 1_000, "gpt-5": 1_250, "listed-alias": 1_250}
    assert set(prices.models()) == {"gpt-4o", "gpt-4o-2024-08-06", "gpt-5"}
    assert prices.routing.families == {"openai": ("gpt-*",)}
    assert "listed-alias" in prices
    assert prices.agrees("gpt-4o", NOW)
    assert not prices.agrees("gpt-5", NOW)


def test_what_was_agreed_on_for_a_name_holds_for_its_snapshots() -> None:
    prices = layered('prices: [{model: gpt-4o, effective: 2001-01-01, input: "1", output: "4"}]')
    assert rate(prices, "input", model="gpt-4o-2024-08-06") == MILLION
    assert rate(prices, "input", model="openai/gpt-4o-2024-11-20") == MILLION


def test_a_row_that_is_not_in_force_yet_leaves_the_list_price() -> None:
    prices = layered('prices: [{model: gpt-5, effective: 2200-01-01, input: "1", output: "4"}]')
    assert rate(prices, "input", model="gpt-5") == 1_250_000
    assert not prices.agrees("gpt-5", NOW)


def test_an_upstreams_catalogue_comes_between_the_operators_rows_and_the_list() -> None:
    prices = layered('prices: [{model: gpt-4o, effective: 2001-01-01, input: "1", output: "4"}]')
    billed = [price_of(model, input=7 * MILLION, output=1) for model in ("gpt-4o", "gpt-5")]
    over = prices.with_upstream(billed, {})
    assert [rate(over, "input", model=model) // MILLION for model in ("gpt-4o", "gpt-5")] == [1, 7]


def test_an_operators_alias_may_name_a_list_price_and_goes_before_it() -> None:
    prices = layered("prices: []\naliases: {ours: gpt-5, gpt-4o: gpt-5}")
    assert [rate(prices, "input", model=model) for model in ("ours", "gpt-4o")] == [1_250_000, 1_250_000]


def test_an_operators_rates_of_calls_go_before_those_of_the_list() -> None:
    prices = layered('prices: []\ncalls: [{models: ["gpt-5"], web_search: "4"}]')
    assert [rate(prices, "web_search", model=model) // 10**9 for model in ("gpt-5", "gpt-4o")] == [4, 10]


def test_an_operator_may_do_without_the_list() -> None:
    prices = layered('with_listed: false\nprices: [{model: m, effective: 2001-01-01, input: "1", output: "4"}]')
    assert list(prices.models()) == ["m"]
    assert prices.routing.families == {}


def test_a_row_without_a_date_is_in_force_until_the_next_one() -> None:
    prices = layered("""
with_listed: false
prices:
  - {model: m, input: "1", output: "4"}
  - {model: m, effective: 2001-01-01, input: "2", output: "4"}
""")
    before, after = prices.find("m", 0), prices.find("m", NOW)
    assert before is not None
    assert after is not None
    assert (before.rates["input"], after.rates["input"]) == (MILLION, 2 * MILLION)
    assert before.version.startswith("m@undated.")
    assert after.version.startswith("m@2001-01-01.")
    assert before.version.rpartition(".")[2] != after.version.rpartition(".")[2]


def test_a_row_prices_its_other_names_too_each_with_its_own_version() -> None:
    prices = catalogue('prices: [{model: m, also: [m-2, vendor/m], effective: 2001-01-01, input: "1", output: "4"}]')
    found = {price.model: price.version for price in prices.rows()}
    assert found.keys() == {"m", "m-2", "vendor/m"}
    assert {version.partition("@")[0] for version in found.values()} == set(found)
    assert len({version.rpartition(".")[2] for version in found.values()}) == 1


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ('{model: m, also: ["a b"], effective: 2001-01-01, input: "1", output: "4"}', "also[0] must be a model name"),
        ('{model: m, also: [m], effective: 2001-01-01, input: "1", output: "4"}', "prices 'm' from the same instant as line 1"),
    ],
)
def test_other_names_are_model_names_and_no_name_is_priced_twice(rows: str, text: str) -> None:
    problems = Problems()
    document = read_document("prices.yaml", f"prices: [{rows}]".encode(), problems)
    assert document is not None
    read_prices(document)
    assert [problem for problem in problems.texts() if text in problem]


SURCHARGED = """
prices:
  - {model: claude-sonnet-5, effective: 2001-01-01, input: "2", output: "10", web_search: "10"}
  - {model: us.anthropic.claude-opus-5, effective: 2001-01-01, input: "7", output: "9"}
  - {model: claude-opus-5, effective: 2001-01-01, input: "5", output: "25"}
surcharges:
  - {models: [us.anthropic.claude-3-*], times: "1"}
  - {models: [us.anthropic.*, "eu/*"], times: "1.1"}
"""


def test_a_name_that_bears_a_region_costs_the_plainer_ones_price_times_its_factor() -> None:
    prices = catalogue(SURCHARGED)
    names = (
        "us.anthropic.claude-sonnet-5-v1:0",
        "eu/claude-sonnet-5",
        "global.anthropic.claude-sonnet-5",
        "us.anthropic.claude-opus-5",
    )
    found = {}
    for name in names:
        price = prices.find(name, NOW)
        assert price is not None
        found[name] = price.schedule()[0].rates["input"]
        assert price.schedule()[0].rates.get("web_search", 10**10) == 10**10  # tokens alone
    assert list(found.values()) == [2_200_000, 2_200_000, 2_000_000, 7_000_000]


def test_a_surcharged_price_has_a_version_of_its_own_under_the_plainer_name() -> None:
    prices = catalogue(SURCHARGED)
    plain, dearer = (prices.find(name, NOW) for name in ("claude-sonnet-5", "eu/claude-sonnet-5"))
    assert plain is not None
    assert dearer is not None
    assert (plain.model, dearer.model) == ("claude-sonnet-5", "claude-sonnet-5")
    assert plain.version != dearer.version
    assert dearer.version.startswith("claude-sonnet-5@")


def test_surcharges_of_the_list_hold_for_an_operators_rows() -> None:
    problems = Problems()
    own = 'prices: [{model: claude-sonnet-5, effective: 2001-01-01, input: "1", output: "4"}]'
    document = read_document("prices.yaml", own.encode(), problems)
    assert document is not None
    prices = read_prices(document, listed=catalogue(SURCHARGED))
    price = prices.find("us.anthropic.claude-sonnet-5-v1:0", NOW)
    assert price is not None
    assert price.schedule()[0].rates["input"] == 1_100_000


def test_the_region_that_was_asked_for_is_charged_whatever_name_answers() -> None:
    prices = catalogue(SURCHARGED)

    def rate(model: str, asked: str) -> int:
        price = prices.find(model, NOW, asked=asked)
        assert price is not None
        return price.schedule()[0].rates["input"]

    regional = "us.anthropic.claude-sonnet-5-20260301-v1:0"
    assert rate("claude-sonnet-5-20260301", regional) == rate("claude-sonnet-5", regional) == 2_200_000
    assert rate(regional, regional) == rate(regional, "claude-sonnet-5") == 2_200_000  # once
    assert rate("claude-sonnet-5", "global.anthropic.claude-sonnet-5") == rate("claude-sonnet-5", "claude-sonnet-5") == 2_000_000
    asked, answered = prices.find(regional, NOW), prices.find("claude-sonnet-5", NOW, asked=regional)
    assert asked is not None
    assert answered is not None
    assert asked.version == answered.version


def test_a_surcharge_below_one_is_refused() -> None:
    problems = Problems()
    document = read_document("prices.yaml", b'prices: []\nsurcharges: [{models: [x*], times: "0.9"}]', problems)
    assert document is not None
    read_prices(document)
    assert [text for text in problems.texts() if "surcharges[0].times must be at least 1" in text]
