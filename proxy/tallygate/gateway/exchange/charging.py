"""The bill for what an answer used: by the price of the model that answered, under the conditions that it states."""

from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.domain.billed import StatedCost
from tallygate.domain.charge import NO_CHARGE, charge_of
from tallygate.domain.ending import Ending
from tallygate.domain.markup import marked_up
from tallygate.domain.price import Price
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions
from tallygate.gateway.exchange.metering import Metered, charged_conditions, price_answered, price_served


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """By what an exchange is charged.

    asked    the price of the model asked for, its markup included; None: unpriced
    at_ms    when it began, by whose prices it is charged
    markup   in millionths of list prices
    """

    asked: AnyPrice | None
    prices: PriceCatalogue
    at_ms: int
    markup: int

    def price_of(self, model: str) -> AnyPrice | None:
        """The price of another model that took part; None if it has none."""
        price = self.prices.find(model, self.at_ms)
        return None if price is None else marked_up(price, self.markup)


_REQUEST: Final = Unit.REQUEST  # read once: a member of an enum takes a call to look up


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The counts and the cost of an exchange, final once it has ended.

    price          by which its usage is charged; None: it is unpriced
    conditions     under which it is charged
    unpriced_units something was used under conditions, or in units, that `price` has no rate for
    cost_nano_usd  of its usage and its fee; fee_nano_usd: the fee alone; priced_nano_usd: its usage by `price`
    stated_cost    what the provider says that the usage costs, and whether that is charged; None: nothing
    by_kind        of its usage, by `unit_kind.KIND_COSTS`; nothing where a stated cost is charged, which nobody divides
    is_owed        False: the hold is released
    is_bound       `price` bounds that of the model that answered, which is not known
    """

    ending: Ending
    metered: Metered
    conditions: Conditions = STANDARD
    unpriced_units: bool = False
    price: AnyPrice | None = None
    cost_nano_usd: int = 0
    fee_nano_usd: int = 0
    priced_nano_usd: int = 0
    stated_cost: StatedCost | None = None
    by_kind: dict[str, int] = {}
    is_owed: bool = False
    is_bound: bool = False


def price_of_answer(facts: RequestFacts, reading: MeterReading, terms: Terms) -> tuple[AnyPrice | None, bool]:
    """The price that charges an answer, and whether it only bounds that of the model that answered."""
    if reading.served_as is None:
        return price_answered(facts, reading.response_model, terms.asked, terms.prices, terms.at_ms, markup=terms.markup)
    return price_served(reading.served_as, terms.asked, terms.prices, terms.at_ms, markup=terms.markup)


def bill_of_usage(
    facts: RequestFacts,
    reading: MeterReading,
    metered: Metered,
    price: AnyPrice | None,
    terms: Terms,
    *,
    ending: Ending,
    fee: int,
    is_bound: bool,
    stated_cost: StatedCost | None = None,
) -> Bill:
    """The bill for what was metered, with the calls and the passes of other models that the answer shows."""
    if reading.billed_calls:
        metered = replace(metered, usage=metered.usage.with_calls(reading.billed_calls))
    if isinstance(price, Price) and _REQUEST in price.rates:
        metered = replace(metered, usage=metered.usage.with_calls({_REQUEST: 1}))
    if reading.passes and not metered.usage.passes:  # else they are among what was assumed
        metered = replace(metered, usage=metered.usage.with_passes(reading.passes))
    conditions = charged_conditions(facts, reading, metered.usage, price)
    charge = NO_CHARGE if price is None else charge_of(metered.usage, conditions, price, terms.price_of)
    priced_nano_usd = charge.cost_nano_usd
    is_stated = stated_cost is not None and stated_cost.is_charged
    return Bill(
        ending=ending,
        metered=metered,
        conditions=conditions,
        unpriced_units=charge.lacks_rates and not is_stated,
        price=price,
        cost_nano_usd=fee + (stated_cost.nano_usd if stated_cost is not None and is_stated else priced_nano_usd),
        fee_nano_usd=fee,
        priced_nano_usd=priced_nano_usd,
        stated_cost=stated_cost,
        by_kind={} if is_stated else charge.by_kind,
        is_owed=True,
        is_bound=is_bound and not is_stated,
    )
