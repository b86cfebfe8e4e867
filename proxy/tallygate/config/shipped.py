"""The shipped configuration: its directory and its two tables.

The tables are read once in a process, since every configuration that does not replace them shares them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.config.routes import PlacedRoute, read_routes
from tallygate.domain.dialect_traits import DialectTraits


def shipped_directory() -> Path:
    """`tallygate/config/shipped` in a wheel; the top-level `config` in a source checkout, which has no copy."""
    in_wheel = Path(__file__).parent / "shipped"
    return in_wheel if in_wheel.is_dir() else Path(__file__).parents[3] / "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedTables:
    """The parsed tables; None for a file that is missing or has a problem, which loading the configuration reports."""

    routes: tuple[PlacedRoute, ...] | None
    list_prices: PriceCatalogue | None

    @property
    def prices(self) -> PriceCatalogue | None:
        """The list prices by themselves, without any row of an operator's."""
        return None if self.list_prices is None else alone(self.list_prices)


def shipped_tables(directory: Path, known_dialects: Mapping[str, DialectTraits]) -> ShippedTables:
    return ShippedTables(
        routes=_routes(_text(directory / "routes.yaml"), frozenset(known_dialects.items())),
        list_prices=_prices(_text(directory / "prices.yaml")),
    )


def placed_in(problems: Problems, routes: Iterable[PlacedRoute]) -> tuple[PlacedRoute, ...]:
    """The same routes, with their problems added to this configuration's."""
    return tuple(replace(placed, place=replace(placed.place, problems=problems)) for placed in routes)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@lru_cache(maxsize=2)
def _routes(text: bytes, known_dialects: frozenset[tuple[str, DialectTraits]]) -> tuple[PlacedRoute, ...] | None:
    problems = Problems()
    document = read_document("routes.yaml", text, problems)
    routes = None if document is None else read_routes(document, known_dialects=dict(known_dialects))
    return None if problems else routes


@lru_cache(maxsize=2)
def _prices(text: bytes) -> PriceCatalogue | None:
    problems = Problems()
    document = read_document("prices.yaml", text, problems)
    prices = None if document is None else read_prices(document)
    return None if problems or prices is None or list(prices.routing.unmatched(prices.reachable_names())) else prices


@lru_cache(maxsize=2)
def alone(listed: PriceCatalogue) -> PriceCatalogue:
    """The prices of an operator who states none: the list."""
    return PriceCatalogue((), routing=listed.routing, listed=listed)
