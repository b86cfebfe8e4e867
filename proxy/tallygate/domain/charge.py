"""What a usage costs where parts of it may be another model's."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tallygate.domain.money import PICO_PER_NANO
from tallygate.domain.price import Price
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.unit import Unit
from tallygate.domain.unit_kind import COST_OF, nano_usd_by_kind
from tallygate.domain.usage import STANDARD, Conditions, Usage

_INPUT, _OUTPUT = _PLAIN = Unit.INPUT, Unit.OUTPUT  # read once: a member of an enum takes a call to look up
_INPUT_COST, _OUTPUT_COST = COST_OF[_INPUT], COST_OF[_OUTPUT]


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
    quantities = usage.quantities
    if conditions is STANDARD and isinstance(price, Price) and tuple(quantities) == _PLAIN and not usage.passes:  # nearly always
        tiers = price.schedule()
        if len(tiers) == 1:
            return _plain_charge(quantities[_INPUT] * tiers[0].rates[_INPUT], quantities[_OUTPUT] * tiers[0].rates[_OUTPUT])
    lacks_rates = (conditions is not STANDARD and not price.knows(conditions)) or (
        usage.has_calls and bool(price.lacks(quantities))
    )
    if not usage.passes:
        return Charge(*nano_usd_by_kind(price.pico_usd_by_kind([quantities], conditions)), lacks_rates)
    own: list[Mapping[str, int]] = []
    of_others: list[dict[str, int]] = []
    for model, part in usage.parts():
        priced = None if model is None else price_of(model)
        if priced is None:
            own.append(part)
            lacks_rates |= model is not None
        else:
            of_others.append(priced.pico_usd_by_kind([part], conditions))
    pico_usd = price.pico_usd_by_kind(own, conditions)
    for costs in of_others:
        for kind, cost in costs.items():
            pico_usd[kind] = pico_usd.get(kind, 0) + cost
    return Charge(*nano_usd_by_kind(pico_usd), lacks_rates)


def _plain_charge(input_pico: int, output_pico: int) -> Charge:
    """`nano_usd_by_kind` of these two, in its place: at each request."""
    input_nano, cost = -(-input_pico // PICO_PER_NANO), -(-(input_pico + output_pico) // PICO_PER_NANO)
    return Charge(cost, {_INPUT_COST: input_nano, _OUTPUT_COST: cost - input_nano})
