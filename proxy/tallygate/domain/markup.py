"""Markups: a percentage that an operator is billed above list prices, on every rate, for holds and charges alike."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from tallygate.domain.price import Price
from tallygate.domain.ratio import ONE, percent
from tallygate.domain.routed_price import AnyPrice, RoutedPrice

_SIGN: Final = "+"  # between a price's version and its markup, which ends in %


def marked_up(price: AnyPrice, markup: int) -> AnyPrice:
    """`price` with every rate raised by so many millionths, each rounded up to a whole pico-USD; its version says so."""
    if not markup:
        return price
    return _marked_bound(price, markup) if isinstance(price, RoutedPrice) else _marked(price, markup)


def with_markup_of(price: Price, version: str | None) -> Price:
    """`price` with the markup that the version names, to charge an event anew that was charged under that version."""
    return _marked(price, markup_of(version))


def markup_of(version: str | None) -> int:
    """The markup in millionths that a price's version names; 0 if none."""
    if version is None or not version.endswith("%"):
        return 0
    try:
        return percent(version[version.rindex(_SIGN) + 1 : -1])
    except ValueError:
        return 0


def plain_version(version: str) -> str:
    """A price's version without its markup."""
    return version[: version.rindex(_SIGN)] if markup_of(version) else version


def _marked_version(version: str, markup: int) -> str:
    whole, fraction = divmod(markup, ONE // 100)
    text = f"{whole}.{fraction:04d}".rstrip("0").rstrip(".")
    return f"{version}{_SIGN}{text}%"


@lru_cache(maxsize=4_096)
def _marked(price: Price, markup: int) -> Price:
    if not markup:
        return price
    return replace(price, markup=markup, version=_marked_version(price.version, markup))


@lru_cache(maxsize=64)
def _marked_bound(price: RoutedPrice, markup: int) -> RoutedPrice:
    marked = tuple(_marked(each, markup) for each in price.prices)
    return replace(price, prices=marked, version=_marked_version(price.version, markup))
