"""The rows that may price a model, each with the layer that states it."""

from dataclasses import dataclass
from enum import StrEnum

from tallygate.config.catalogue import PriceCatalogue
from tallygate.domain.price import Price


class Layer(StrEnum):
    """Where a row stands, in the words of the documentation."""

    OWN = "prices.yaml"
    UPDATED = "listed_prices.yaml"
    SHIPPED = "shipped list"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPrice:
    """A row. applies: it prices a request for the model at the instant that was asked about. until_ms: None for good."""

    price: Price
    layer: Layer
    applies: bool
    until_ms: int | None


def stated_prices(catalogue: PriceCatalogue, model: str, at_ms: int) -> list[StatedPrice]:
    """Every row that may price a model, best first."""
    applied = catalogue.find(model, at_ms)
    listed = catalogue.listed.candidates(model) if catalogue.listed is not None else ()
    updated = (catalogue.listed or catalogue).updated_since
    found: list[StatedPrice] = []
    has_applied = False
    for series in catalogue.candidates(model):
        until_ms: int | None = None
        for price in reversed(series.prices):
            is_it = not has_applied and applied is not None and _is_of(price, applied)
            has_applied |= is_it
            layer = Layer.OWN
            if series in listed:
                is_updated = price.model in updated and price.effective_ms >= updated[price.model]
                layer = Layer.UPDATED if is_updated else Layer.SHIPPED
            found.append(StatedPrice(price=price, layer=layer, applies=is_it, until_ms=until_ms))
            until_ms = price.effective_ms
    return found


def _is_of(price: Price, applied: Price) -> bool:
    return (price.version, price.effective_ms) == (applied.version, applied.effective_ms)
