"""Prices for tests: rates by the names of units, in pico-USD."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tallygate.domain.price import Price, Tier, worst_cost_nano_usd
from tallygate.domain.unit import Unit


def price_of(model: str = "m", *, version: str = "v", effective_ms: int = 0, **values: object) -> Price:
    """`input` and `output` at least; `above` with `long_input` and `long_output`: rates of longer prompts. None states nothing."""
    given = {name: value for name, value in values.items() if value is not None}
    above, long_rates = given.pop("above", None), {}
    for name in ("input", "output"):
        rate = given.pop(f"long_{name}", given[name])
        long_rates[Unit(name)] = rate
    return Price(
        model=model,
        version=version,
        effective_ms=effective_ms,
        rates={Unit(name): rate for name, rate in given.items() if name in set(Unit)},  # type: ignore[misc]
        tiers=() if above is None else (Tier(above + 1, long_rates),),  # type: ignore[arg-type,operator]
        **{name: value for name, value in given.items() if name not in set(Unit)},  # type: ignore[arg-type]
    )


def repriced(price: Price, **values: object) -> Price:
    """`price` with other values, rates by the names of units among them."""
    rates = {**price.rates, **{Unit(name): value for name, value in values.items() if name in set(Unit)}}
    others = {name: value for name, value in values.items() if name not in set(Unit)}
    return replace(price, rates=rates, **others)  # type: ignore[arg-type]


def worst_case_nano_usd(
    price: Price, *, prompt_tokens: int, output_tokens: int, units: Collection[Unit] = (), **allowed: Any
) -> int:
    """The most that a request can cost. allowed: conditions and calls, as of `Price.worst_rates`."""
    return worst_cost_nano_usd(price.worst_rates(prompt_tokens, units=frozenset(units), **allowed), output_tokens)
