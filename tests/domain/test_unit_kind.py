"""The division of a cost by kind of unit: its parts make exactly the whole, whatever the rates, conditions and passes are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.charge import Charge, charge_of
from tallygate.domain.money import PICO_PER_NANO, nano_usd_from_pico
from tallygate.domain.price import Price, Rule, Tier
from tallygate.domain.routed_price import AnyPrice, routed_price
from tallygate.domain.unit import TOKEN_UNITS, Unit
from tallygate.domain.unit_kind import COST_OF, KIND_COSTS, UnitKind, kind_cost_of, nano_usd_by_kind
from tallygate.domain.usage import STANDARD, Conditions, Pass, Usage, summed
from tallygate.domain.usage_event import UsageEvent

NARROWED = "image:high:1024x1024"
PRIORITY = Conditions(service_tier="priority")
rates = st.dictionaries(st.sampled_from(sorted(Unit)), st.integers(0, 10**7)).map(lambda found: {"input": 7, "output": 13} | found)
prices = st.builds(
    lambda model, found, longer, dearer: Price(
        model=model,
        version=f"{model}@v",
        effective_ms=0,
        rates=found,
        tiers=(Tier(500, longer),),
        rules=(Rule(service_tier="priority", factor=dearer),),
    ),
    st.sampled_from(["a", "b", "c"]),
    rates,
    rates,
    st.integers(1, 3_000_000),
)
bounds = st.lists(prices, min_size=1, max_size=3).map(lambda found: routed_price(found) or found[0])
quantities = st.dictionaries(st.sampled_from(sorted([*Unit, NARROWED, "unheard_of"])), st.integers(1, 1_000))
passes = st.lists(
    st.builds(
        Pass,
        model=st.sampled_from([None, "other", "unheard of"]),
        quantities=st.dictionaries(st.sampled_from(sorted(TOKEN_UNITS)), st.integers(1, 600), min_size=1),
    ),
    max_size=4,
).map(tuple)
usages = st.builds(lambda found, parts: summed(parts).with_calls(_calls(found)) if parts else Usage(found), quantities, passes)


def _calls(found: Mapping[str, int]) -> dict[str, int]:
    return {unit: number for unit, number in found.items() if unit not in TOKEN_UNITS}


def test_every_unit_is_of_one_kind_and_every_kind_has_a_field_of_an_event() -> None:
    assert COST_OF.keys() == {*Unit}
    assert {*COST_OF.values()} == {*KIND_COSTS}
    assert {*KIND_COSTS} < {field.name for field in msgspec.structs.fields(UsageEvent)}


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("input", UnitKind.INPUT),
        ("cached_input_audio", UnitKind.CACHE_READ),
        ("cache_write_12h", UnitKind.CACHE_WRITE),
        ("reasoning_output", UnitKind.OUTPUT),
        ("output_image", UnitKind.MEDIA),
        (NARROWED, UnitKind.MEDIA),
        ("file_search:storage", UnitKind.CALLS),
        ("unheard_of", UnitKind.CALLS),
    ],
)
def test_a_narrowed_unit_is_of_the_kind_of_the_wider(unit: str, kind: UnitKind) -> None:
    assert kind_cost_of(unit) == f"{kind}_nano_usd"


@given(usages, bounds, prices, st.sampled_from([STANDARD, PRIORITY]))
def test_the_parts_make_exactly_the_cost_and_each_is_what_its_units_cost(
    usage: Usage, price: AnyPrice, other: Price, conditions: Conditions
) -> None:
    charged = charge_of(usage, conditions, price, {"other": other}.get)

    exact: Counter[str] = Counter()
    own = [part for model, part in usage.parts() if model != "other"]
    for one, parts in ((other, [part for model, part in usage.parts() if model == "other"]), (price, own)):
        for kind, pico_usd in one.pico_usd_by_kind(parts, conditions).items():
            exact[kind] += pico_usd
    assert charged.cost_nano_usd == sum(charged.by_kind.values()) == nano_usd_from_pico(exact.total())
    for kind, pico_usd in exact.items():
        assert abs(charged.by_kind[kind] * PICO_PER_NANO - pico_usd) < PICO_PER_NANO
        assert charged.by_kind[kind] == 0 or pico_usd > 0
    if not usage.passes:
        assert charged.cost_nano_usd == price.cost_nano_usd(usage, conditions)


@given(st.permutations([Unit.INPUT, Unit.OUTPUT]), st.integers(1, 1_000), st.integers(1, 1_000), prices, st.booleans())
def test_plain_input_and_output_cost_and_are_split_as_anything_else(
    units: list[Unit], first: int, second: int, price: Price, depends_on_size: bool
) -> None:
    price = price if depends_on_size else replace(price, tiers=())
    quantities = {units[0]: first, units[1]: second}

    assert charge_of(Usage(quantities), STANDARD, price, lambda _: None) == Charge(
        *nano_usd_by_kind(price.pico_usd_by_kind([quantities])), lacks_rates=False
    )


def test_a_split_worked_out_by_hand() -> None:
    """In USD per million: 1,000 tokens at 2.5, 300 from the cache at 0.25, 20 of audio at 10, 40 at 15; two searches at 0.01."""
    price = Price(
        model="m",
        version="v",
        effective_ms=0,
        rates={
            "input": 2_500_000,
            "cached_input": 250_000,
            "input_audio": 10_000_000,
            "output": 15_000_000,
            "web_search": 10**10,
        },
    )
    usage = Usage({"input": 1_000, "cached_input": 300, "input_audio": 20, "output": 30, "reasoning_output": 10, "web_search": 2})

    charged = charge_of(usage, STANDARD, price, lambda _: None)

    assert charged.by_kind == {
        "input_nano_usd": 2_500_000,
        "cache_read_nano_usd": 75_000,
        "media_nano_usd": 200_000,
        "output_nano_usd": 600_000,
        "calls_nano_usd": 20_000_000,
    }
    assert charged.cost_nano_usd == 23_375_000


def test_what_is_rounded_goes_to_what_was_used() -> None:
    """A third of a nano-USD each: one nano-USD together, and none of it to what cost nothing."""
    price = Price(model="m", version="v", effective_ms=0, rates={"input": 333, "cached_input": 0, "output": 333})
    charged = charge_of(Usage({"cached_input": 9, "input": 1, "output": 1}), STANDARD, price, lambda _: None)
    assert charged.by_kind == {"cache_read_nano_usd": 0, "input_nano_usd": 1, "output_nano_usd": 0}
