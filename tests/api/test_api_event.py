"""GET /api/events/{id}: one event, and how its cost came about, to the last digit."""

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from api_values import DAY_MS, NOW_MS, an_entry
from api_world import World, shipped_config
from msgspec.structs import replace as changed

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.price_row import price_of_statement, statement, versioned
from tallygate.domain.billed import StatedCost, billed_of, columns_of
from tallygate.domain.charge import charge_of
from tallygate.domain.cost_lines import cost_lines
from tallygate.domain.markup import marked_up
from tallygate.domain.price import Price, Rule, Tier, minute_of_week
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Conditions, Pass, Usage
from tallygate.ledger.entry import Entry, Kind

RATES = {
    "input": 2_500_000,
    "cached_input": 1_250_000,
    "cache_write_5m": 37_500,
    "output": 10_000_000,
    "web_search": 10_000_000_000,
}
GPT = versioned(
    Price(
        model="gpt-4o",
        version="",
        effective_ms=1_700_000_000_000,
        rates=RATES,
        tiers=(Tier(200_001, {"input": 5_000_000, "output": 15_000_000}),),
        rules=(Rule(service_tier="priority", factor=1_700_000), Rule(service_tier="flex", factor=500_000)),
    )
)
O3 = versioned(Price(model="o3", version="", effective_ms=1_700_000_000_000, rates={"input": 2_000_000, "output": 8_000_000}))
LISTED = PriceCatalogue((GPT, O3))


def charged(entry: Entry, **of: Any) -> Entry:
    """The entry with the version and the cost of a price. of: `price`, markup, usage, conditions, fee."""
    price = marked_up(of.get("price", GPT), of.get("markup", 0))
    usage, conditions = of["usage"], of.get("conditions", Conditions())
    charge = charge_of(usage, conditions, price, {"o3": O3}.get)
    return changed(
        entry,
        **columns_of(usage),
        billed=billed_of(usage, conditions),
        price_version=price.version,
        cost_nano_usd=charge.cost_nano_usd + of.get("fee", 0),
        fee_nano_usd=of.get("fee", 0),
        **charge.by_kind,
    )


async def cost_of(world: World, entry: Entry, **query: Any) -> Any:
    cost = (await world.ok(f"/api/events/{entry.event_id}", **query))["cost"]
    parts = sum((Decimal(part["cost_usd"]) for part in cost["parts"]), Decimal(0)) + Decimal(cost["rounding_usd"])
    rest = sum(Decimal(cost[name]["usd"]) for name in ("stated", "fee", "unexplained"))
    assert parts + rest == Decimal(cost["total"]["usd"]), "the parts make exactly the total"
    for part in cost["parts"]:
        per = {"million tokens": 10**6, "thousand": 1_000, "one": 1}[part["per"]]
        assert Decimal(part["rate_usd"]) * part["quantity"] / per == Decimal(part["cost_usd"])
    return cost


@pytest.fixture
def world(world: World) -> World:
    world.prices = PriceCatalogue((), listed=LISTED)
    return world


async def test_a_cost_is_units_times_rates_a_fee_and_a_rounding(world: World) -> None:
    usage = Usage({Unit.INPUT: 50, Unit.CACHED_INPUT: 40, Unit.CACHE_WRITE_5M: 1, Unit.OUTPUT: 20, Unit.WEB_SEARCH: 2})
    entry = charged(an_entry(1), usage=usage, fee=1_000)
    await world.record([entry])
    cost = await cost_of(world, entry)

    # 50 x 2.50 + 40 x 1.25 + 1 x 0.0375 + 20 x 10.00 USD a million, 2 x 10 USD a thousand
    by_unit = {part["unit"]: (part["quantity"], part["rate_usd"], part["cost_usd"]) for part in cost["parts"]}
    assert by_unit == {
        "input": (50, "2.5", "0.000125"),
        "cached_input": (40, "1.25", "0.00005"),
        "cache_write_5m": (1, "0.0375", "0.0000000375"),
        "output": (20, "10", "0.0002"),
        "web_search": (2, "10", "0.02"),
    }
    assert cost["rounding_usd"] == "0.0000000005"
    assert (cost["fee"]["nano_usd"], cost["total"]["nano_usd"]) == (1_000, 20_375_038 + 1_000)
    assert (cost["basis"], cost["price_version"], cost["model"], cost["source"]) == ("price", GPT.version, "gpt-4o", "shipped list")
    assert (cost["unexplained"]["nano_usd"], cost["note"], cost["markup_percent"]) == (0, "", "0")
    assert cost["parts"][0]["name"] == "input tokens"


async def test_conditions_long_prompts_and_markup_are_in_the_rate(world: World) -> None:
    usage = Usage({Unit.INPUT: 300_000, Unit.OUTPUT: 7})
    entry = charged(an_entry(1), usage=usage, conditions=Conditions(service_tier="priority"), markup=100_000)
    await world.record([entry])
    cost = await cost_of(world, entry)

    assert [(part["list_usd"], part["rate_usd"]) for part in cost["parts"]] == [("5", "9.35"), ("15", "28.05")]
    assert (cost["service_tier"], cost["markup_percent"]) == ("priority", "10")
    assert cost["total"]["nano_usd"] == 300_000 * 9_350 + 7 * 28_050
    [event] = (await world.ok("/api/events"))["events"]
    assert event["rates"] == {"input": "9.35", "output": "28.05"}


async def test_a_part_of_another_model_has_its_own_rates(world: World) -> None:
    passes = (Pass(quantities={"input": 100, "output": 10}), Pass(model="o3", quantities={"input": 30, "output": 5}))
    entry = charged(an_entry(1), usage=Usage({"input": 130, "output": 15}, passes))
    await world.record([entry])
    cost = await cost_of(world, entry)

    assert [(part["model"], part["quantity"], part["rate_usd"]) for part in cost["parts"]] == [
        (None, 100, "2.5"),
        (None, 10, "10"),
        ("o3", 30, "2"),
        ("o3", 5, "8"),
    ]
    assert cost["unexplained"]["nano_usd"] == 0


async def test_a_version_that_no_file_has_is_not_guessed(world: World) -> None:
    entry = charged(an_entry(1), usage=Usage({Unit.INPUT: 100}), markup=50_000)
    await world.record([entry])
    world.prices = PriceCatalogue((), listed=PriceCatalogue((versioned(replace(GPT, rates={**RATES, "input": 9_000_000})), O3)))
    cost = await cost_of(world, entry)
    assert (cost["basis"], cost["parts"], cost["source"]) == ("unknown", [], None)
    assert "no price" in cost["note"]
    assert cost["unexplained"]["nano_usd"] == entry.cost_nano_usd
    [event] = (await world.ok("/api/events"))["events"]
    assert event["rates"] is None

    await world.book.record_prices([GPT], now_ms=NOW_MS)  # this ledger was kept while it was in force
    cost = await cost_of(world, entry)
    assert (cost["basis"], cost["source"], cost["unexplained"]["nano_usd"]) == ("price", "recorded", 0)
    assert cost["parts"][0]["rate_usd"] == "2.625"


async def test_the_rows_dates_and_layers_decide_not_what_holds_now(world: World) -> None:
    old = versioned(replace(GPT, effective_ms=1_600_000_000_000, rates={**RATES, "input": 7_000_000}))
    world.prices = PriceCatalogue((versioned(replace(O3, effective_ms=1)),), listed=PriceCatalogue((old, GPT, O3)))
    first = charged(an_entry(1), usage=Usage({Unit.INPUT: 10}), price=old)
    own = charged(an_entry(2, response_model="o3"), usage=Usage({Unit.INPUT: 10}), price=versioned(replace(O3, effective_ms=1)))
    await world.record([first, own])

    assert (await cost_of(world, first))["parts"][0]["rate_usd"] == "7"
    assert (await cost_of(world, own))["source"] == "prices.yaml"


async def test_other_bases_say_what_they_are(world: World) -> None:
    stated = StatedCost(nano_usd=777, is_charged=True)
    plain = changed(an_entry(1), price_version=None, cost_nano_usd=5, fee_nano_usd=5, **_no_kinds())
    kinds = {
        "fee": plain,
        "stated": changed(
            an_entry(2), billed=billed_of(Usage({}), Conditions(), stated), cost_nano_usd=787, fee_nano_usd=10, **_no_kinds()
        ),
        "released": changed(an_entry(3), kind=Kind.RELEASED, cost_nano_usd=0, fee_nano_usd=0, **_no_kinds()),
    }
    await world.record(kinds.values())
    for basis, entry in kinds.items():
        cost = await cost_of(world, entry)
        assert (cost["basis"], cost["parts"], cost["unexplained"]["nano_usd"]) == (basis, [], 0)
    cut = changed(charged(an_entry(4), usage=Usage({Unit.INPUT: 10})), kind=Kind.EXPIRED, cost_nano_usd=26_000)
    await world.record([cut])
    cost = await cost_of(world, cut)
    assert cost["unexplained"]["nano_usd"] == 1_000
    assert cost["note"].startswith("Its worker ended")


def _no_kinds() -> dict[str, int]:
    return dict.fromkeys(("input_nano_usd", "cache_read_nano_usd", "cache_write_nano_usd", "output_nano_usd"), 0)


async def test_a_corrected_price_explains_the_sum_of_all_entries(world: World) -> None:
    entry = charged(an_entry(1), usage=Usage({Unit.INPUT: 100}))
    lower = versioned(replace(GPT, rates={**RATES, "input": 1_000_000}))
    world.prices = PriceCatalogue((), listed=PriceCatalogue((lower, O3)))
    nothing = dict.fromkeys(columns_of(Usage({})), 0)
    difference = changed(
        entry,
        **nothing,
        sequence=1,
        kind=Kind.REPRICED,
        requests=0,
        cost_nano_usd=-150_000,
        input_nano_usd=-150_000,
        price_version=lower.version,
        flags="",
    )
    await world.record([entry])
    async with world.database.write() as connection:
        world.book.committed(await world.book.correct(connection, [difference]))
    answer = await world.ok(f"/api/events/{entry.event_id}")

    assert [one["kind"] for one in answer["entries"]] == ["settled", "repriced"]
    assert (answer["event"]["cost_nano_usd"], answer["event"]["prompt_tokens"]) == (100_000, 100)
    cost = await cost_of(world, entry)
    assert (cost["parts"][0]["rate_usd"], cost["unexplained"]["nano_usd"]) == ("1", 0)


async def test_an_event_outside_the_scope_or_the_history_is_not_there(world: World) -> None:
    foreign, old = an_entry(1, org="globex"), an_entry(2, settled_at_ms=NOW_MS - 91 * DAY_MS)
    await world.record([foreign, old])
    answers = [
        await world.get("/api/events/never-was", token="one"),
        await world.get(f"/api/events/{foreign.event_id}", token="one"),
        await world.get(f"/api/events/{old.event_id}", token="one"),
    ]
    assert {status for status, _ in answers} == {404}
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][1]["error"]["code"] == "unknown_event"
    assert (await world.get(f"/api/events/{foreign.event_id}"))[0] == 200


def test_lines_are_what_is_charged_whatever_the_price_and_the_usage() -> None:
    """Against `charge_of`, with every shipped price that has sizes, conditions or narrowed units."""
    draw = random.Random(5)
    prices = [
        price for price in shipped_config().prices.rows() if price.tiers or price.rules or any(":" in unit for unit in price.rates)
    ]
    assert len(prices) > 50
    for price in prices:
        units = [*price.rates, "input", "reasoning_output", "image:never:seen"]
        for _ in range(4):
            quantities = {unit: draw.choice([1, 7, 1_000, 250_000]) for unit in draw.sample(units, min(4, len(units)))}
            rule = draw.choice([*price.rules, Rule()])
            conditions = Conditions(service_tier=rule.service_tier or "", speed=rule.speed or "", geography=rule.geography or "")
            marked = marked_up(price.starting_at(minute_of_week(draw.randrange(10**12))), draw.choice([0, 70_000]))
            assert isinstance(marked, Price)
            usage = Usage(quantities)
            lines = cost_lines(usage, conditions, marked, lambda _model: None)
            assert (
                -(-sum(line.pico_usd for line in lines) // 1_000)
                == charge_of(usage, conditions, marked, lambda _model: None).cost_nano_usd
            )


def test_a_statement_of_a_price_is_the_price_again() -> None:
    for price in shipped_config().prices.rows():
        again = price_of_statement(statement(price), model=price.model, version=price.version, effective_ms=price.effective_ms)
        assert statement(again) == statement(price)
        assert replace(again, reasons=price.reasons) == price
