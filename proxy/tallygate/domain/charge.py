"""What a usage costs where parts of it may be another model's."""

from collections.abc import Callable
from typing import Final

import msgspec

from tallygate.domain.money import nano_usd_from_pico
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.usage import STANDARD, Conditions, Usage


class Charge(msgspec.Struct, frozen=True):
    """lacks_rates: a unit, a condition or a model had no rate; it was charged at the nearest one that there is, a unit at none."""

    cost_nano_usd: int
    lacks_rates: bool = False


NO_CHARGE: Final = Charge(0)


def charge_of(usage: Usage, conditions: Conditions, price: AnyPrice, price_of: Callable[[str], AnyPrice | None]) -> Charge:
    """The cost of a usage, rounded up once over all of its passes.

    price      of the model that answered
    price_of   another model's, which took part; where it has none, `price` charges its part
    """
    lacks_rates = (conditions is not STANDARD and not price.knows(conditions)) or (
        usage.has_calls and bool(price.lacks(usage.quantities))
    )
    if not usage.passes:
        return Charge(price.cost_nano_usd(usage, conditions), lacks_rates)
    own, cost = [], 0
    for model, quantities in usage.parts():
        priced = None if model is None else price_of(model)
        if priced is None:
            own.append(quantities)
            lacks_rates |= model is not None
        else:
            cost += priced.pico_usd([quantities], conditions)
    return Charge(nano_usd_from_pico(cost + price.pico_usd(own, conditions)), lacks_rates)
