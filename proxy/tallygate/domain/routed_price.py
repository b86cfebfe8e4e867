"""The price of a request whose model the provider chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallygate.domain.price import INPUT_KINDS, OUTPUT_KINDS, Price
from tallygate.domain.token_counts import TokenCounts

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

    def cost_nano_usd(self, counts: TokenCounts) -> int:
        """The cost of `counts` at the model for which it is highest."""
        return max([price.cost_nano_usd(counts) for price in self.prices])


AnyPrice = Price | RoutedPrice


def routed_price(prices: Sequence[Price], *, default_output_max: int | None = None) -> RoutedPrice | None:
    """The bound of `prices`, which routing can reach; None if there are none."""
    if not prices:
        return None
    bounding: list[Price] = []
    for price in sorted(prices, key=_amounts, reverse=True):
        if not any(_covers(other, price) for other in bounding):
            bounding.append(price)
    dearest = max(prices, key=lambda price: (price.output, price.input))
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
    """Whether no request can cost more at `other`. With an unknown size, or scaling long-context rates, only equality qualifies."""
    if any((getattr(price, size) is None) != (getattr(other, size) is None) for size in _SIZES):
        return False
    if price.long_context_tokens is not None or other.long_context_tokens is not None:
        return replace(price, model=other.model, version=other.version, effective_ms=other.effective_ms) == other
    return all(of_one >= of_other for of_one, of_other in zip(_amounts(price), _amounts(other), strict=True))


def _amounts(price: Price) -> tuple[int, ...]:
    kinds_in = [price.input if (rate := getattr(price, kind)) is None else rate for kind in INPUT_KINDS]
    kinds_out = [price.output if (rate := getattr(price, kind)) is None else rate for kind in OUTPUT_KINDS]
    return (price.output, price.input, *(getattr(price, size) or 0 for size in _SIZES), *kinds_in, *kinds_out)
