"""A cost line by line: each unit that was used, its quantity and its rate, as `charge_of` adds them up."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from tallygate.domain.price import Price
from tallygate.domain.usage import STANDARD, Conditions, Usage


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """model: another one that took part; None: the one that answered. Rates in pico-USD of one unit.

    listed_pico_usd   the rate for a prompt of this size without conditions and markup
    """

    model: str | None
    unit: str
    quantity: int
    listed_pico_usd: int
    rate_pico_usd: int

    @property
    def pico_usd(self) -> int:
        return self.quantity * self.rate_pico_usd


def cost_lines(usage: Usage, conditions: Conditions, price: Price, price_of: Callable[[str], Price | None]) -> list[CostLine]:
    """The lines of what `charge_of` charges for the same: rounded up once, their sum is its cost."""
    lines = []
    for model, quantities in usage.parts():
        priced = None if model is None else price_of(model)
        charging = price if priced is None else priced
        rates = charging.rates_of(quantities, conditions)
        listed = replace(charging, markup=0).rates_of(quantities, STANDARD)
        lines += [
            CostLine(model=model, unit=unit, quantity=number, listed_pico_usd=listed[unit], rate_pico_usd=rates[unit])
            for unit, number in quantities.items()
        ]
    return lines
