"""What a usage costs where parts of it may be another model's."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.unit_kind import nano_usd_by_kind
from tallygate.domain.usage import STANDARD, Conditions, Usage


class Charge(msgspec.Struct, frozen=True):
    """by_kind: nano-USD by `unit_kind.KIND_COSTS`, of kinds that were used; together they are the cost.

    lacks_rates: a unit, a condition or a model had no rate; it was charged at the nearest one that there is, a unit at none.
    """

    cost_nano_usd: int = 0
    by_kind: dict[str, int] = {}
    lacks_rates: bool = False


NO_CHARGE: Final = Charge()


def charge_of(usage: Usage, conditions: Conditions, price: AnyPrice, price_of: Callable[[str], AnyPrice | None]) -> Charge:
    """The cost of a usage, rounded up once over all of its passes.

    price      of the model that answered
    price_of   another model's, which took part; where it has none, `price` charges its part
    """
    lacks_rates = (conditions is not STANDARD and not price.knows(conditions)) or (
        usage.has_calls and bool(price.lacks(usage.quantities))
    )
    if not usage.passes:
        return Charge(*nano_usd_by_kind(price.pico_usd_by_kind([usage.quantities], conditions)), lacks_rates)
    own: list[Mapping[str, int]] = []
    of_others: list[dict[str, int]] = []
    for model, quantities in usage.parts():
        priced = None if model is None else price_of(model)
        if priced is None:
            own.append(quantities)
            lacks_rates |= model is not None
        else:
            of_others.append(priced.pico_usd_by_kind([quantities], conditions))
    pico_usd = price.pico_usd_by_kind(own, conditions)
    for costs in of_others:
        for kind, cost in costs.items():
            pico_usd[kind] = pico_usd.get(kind, 0) + cost
    return Charge(*nano_usd_by_kind(pico_usd), lacks_rates)
