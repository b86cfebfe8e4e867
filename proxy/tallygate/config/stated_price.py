"""The rows that may price a model, each with the layer that states it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tallygate.config.catalogue import PriceCatalogue, Series
from tallygate.domain.price import Price


class Layer(StrEnum):
    """Where a row stands, in the words of the documentation."""

    OWN = "prices.yaml"
    UPSTREAM = "upstream's catalogue"
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
    found: list[StatedPrice] = []
    has_applied = False
    for series in catalogue.candidates(model):
        until_ms: int | None = None
        for price in reversed(series.prices):
            is_it = not has_applied and applied is not None and _is_of(price, applied)
            has_applied |= is_it
            layer = _layer_of(catalogue, series, price, is_listed=series in listed)
            found.append(StatedPrice(price=price, layer=layer, applies=is_it, until_ms=until_ms))
            until_ms = price.effective_ms
    return found


def row_of_version(catalogue: PriceCatalogue, version: str, names: Sequence[str], *, asked: str = "") -> tuple[Price, Layer] | None:
    """The row of a version that was charged for one of these names, and its layer. None where the catalogue lacks it.

    asked   as in `PriceCatalogue.find`
    """
    for name in names:
        listed = catalogue.listed.candidates(name, asked=asked) if catalogue.listed is not None else ()
        for series in catalogue.candidates(name, asked=asked):
            for price in series.prices:
                if price.version == version:
                    return price, _layer_of(catalogue, series, price, is_listed=series in listed)
    for rows, is_listed in ((catalogue.listed, True), (catalogue, False)):  # what a plan prices unknown models as has another name
        for price in () if rows is None else rows.rows():
            if price.version == version:
                return price, _layer(catalogue, price, is_listed=is_listed)
    return None


def _layer_of(catalogue: PriceCatalogue, series: Series, price: Price, *, is_listed: bool) -> Layer:
    return Layer.UPSTREAM if series.is_upstreams else _layer(catalogue, price, is_listed=is_listed)


def _layer(catalogue: PriceCatalogue, price: Price, *, is_listed: bool) -> Layer:
    if not is_listed:
        return Layer.OWN
    since = (catalogue.listed or catalogue).updated_since.get(price.model)
    return Layer.SHIPPED if since is None or price.effective_ms < since else Layer.UPDATED


def _is_of(price: Price, applied: Price) -> bool:
    return (price.version, price.effective_ms) == (applied.version, applied.effective_ms)
