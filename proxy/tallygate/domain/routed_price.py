"""The price of a request whose model the provider chooses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallygate.domain.price import Price
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Usage

ROUTED_VERSION: Final = "dearest."  # prefix of the version of a price that bounds several models

_SIZES: Final = ("max_output_tokens", "max_input_tokens")


@dataclass(frozen=True, slots=True)
class RoutedPrice:
    """The price of the dearest of several models for each amount: one of them answers, so no mixture of their rates can be billed.

    prices    at least one; a price is left out if another is never cheaper (`routed_price`)
    version   that of the price with the dearest output, marked as a bound
    every_output_max    the largest maximum output that none of the models refuses; None if none of them states one
    default_output_max  the maximum that requests without one are sent with; None: none
    """

    prices: tuple[Price, ...]
    version: str
    every_output_max: int | None = None
    default_output_max: int | None = None

    def cost_nano_usd(self, usage: Usage, conditions: Conditions = STANDARD) -> int:
        """What `usage` costs at the model for which that is most."""
        return max([price.cost_nano_usd(usage, conditions) for price in self.prices])

    def pico_usd(self, passes: Sequence[Mapping[str, int]], conditions: Conditions = STANDARD) -> int:
        return max([price.pico_usd(passes, conditions) for price in self.prices])

    def pico_usd_by_kind(self, passes: Sequence[Mapping[str, int]], conditions: Conditions = STANDARD) -> dict[str, int]:
        """The same as the model divides it for which it is most."""
        return max([price.pico_usd_by_kind(passes, conditions) for price in self.prices], key=lambda costs: sum(costs.values()))

    def lacks(self, units: Iterable[str]) -> list[str]:
        """Those of `units` that one of the models has no rate for."""
        asked = list(units)
        return list(dict.fromkeys([unit for price in self.prices for unit in price.lacks(asked)]))

    def knows(self, conditions: Conditions) -> bool:
        return all(price.knows(conditions) for price in self.prices)


AnyPrice = Price | RoutedPrice


def routed_price(prices: Sequence[Price], *, default_output_max: int | None = None) -> RoutedPrice | None:
    """The bound of `prices`, which routing can reach; None if there are none."""
    if not prices:
        return None
    bounding: list[Price] = []
    for price in sorted(prices, key=_first, reverse=True):
        if not any(_covers(other, price) for other in bounding):
            bounding.append(price)
    dearest = max(prices, key=lambda price: (price.rates[Unit.OUTPUT], price.rates[Unit.INPUT]))
    maxima = [price.max_output_tokens for price in prices if price.max_output_tokens]
    return RoutedPrice(
        tuple(bounding),
        ROUTED_VERSION + dearest.version,
        every_output_max=min(maxima, default=None),
        default_output_max=default_output_max,
    )


def each_of(price: AnyPrice) -> tuple[Price, ...]:
    """The models of a bound, or the one model that is asked for."""
    return price.prices if isinstance(price, RoutedPrice) else (price,)


def _covers(price: Price, other: Price) -> bool:
    """Whether no request can cost more at `other`. Where a size is not known, or rates depend on something, only by equality."""
    if any((getattr(price, size) is None) != (getattr(other, size) is None) for size in _SIZES):
        return False
    if price.tiers or price.rules or other.tiers or other.rules:
        return replace(price, model=other.model, version=other.version, effective_ms=other.effective_ms) == other
    (one,), (of_other,) = price.schedule(), other.schedule()
    return all((getattr(price, size) or 0) >= (getattr(other, size) or 0) for size in _SIZES) and all(
        one.rates.get(unit, 0) >= rate for unit, rate in of_other.rates.items()
    )


def _first(price: Price) -> tuple[int, ...]:
    """What is likely to cover others comes first."""
    sizes = [getattr(price, size) or 0 for size in _SIZES]
    return (price.rates[Unit.OUTPUT], price.rates[Unit.INPUT], *sizes, sum(price.rates.values()))
