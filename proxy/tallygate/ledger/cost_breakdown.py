"""How the cost of an event came about: what was used, by which rates, and what was added.

Nothing is guessed: what does not follow from the counts and the recorded price is said to be unexplained, with its amount.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from enum import StrEnum
from functools import partial
from typing import Final

from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.stated_price import Layer, row_of_version
from tallygate.domain.billed import TOKEN_COLUMNS, TokenColumns, stated_cost_of, usage_of_event
from tallygate.domain.cost_lines import CostLine, cost_lines
from tallygate.domain.markup import markup_of, plain_version, with_markup_of
from tallygate.domain.money import PICO_PER_NANO, nano_usd_from_pico
from tallygate.domain.price import Price, minute_of_week
from tallygate.domain.routed_price import ROUTED_VERSION
from tallygate.domain.usage import STANDARD, Conditions
from tallygate.ledger.entry import Entry, Kind, last_word, sums_of
from tallygate.ledger.reprice import charging_names, price_of_pass

RECORDED: Final = "recorded"


class Basis(StrEnum):
    """By what an event was charged."""

    PRICE = "price"  # its quantities by the rates of its price
    STATED = "stated"  # what the provider stated
    FEE = "fee"  # nothing but its route's fee: no price was found, or nothing is priced there
    RELEASED = "released"  # nothing: the hold was given back
    UNKNOWN = "unknown"  # a price that nobody has any more: another one would be a guess


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargedPrice:
    """The price that an event was charged by, with the markup, and the rules of the hour in which it began.

    layer   None: no file has it any more, and the ledger remembers it
    """

    price: Price
    layer: Layer | None

    @property
    def source(self) -> str:
        return RECORDED if self.layer is None else self.layer.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The parts of a cost: lines + rounding_pico_usd = priced; priced or stated + fee + unexplained_nano_usd = cost.

    charged       None unless the price is known
    note          a sentence, where something is not explained; "" else
    """

    basis: Basis
    cost_nano_usd: int
    fee_nano_usd: int
    priced_nano_usd: int = 0
    lines: tuple[CostLine, ...] = ()
    conditions: Conditions = STANDARD
    charged: ChargedPrice | None = None
    price_version: str | None = None
    markup: int = 0
    note: str = ""

    @property
    def rounding_pico_usd(self) -> int:
        return self.priced_nano_usd * PICO_PER_NANO - sum(line.pico_usd for line in self.lines) if self.lines else 0

    @property
    def unexplained_nano_usd(self) -> int:
        return self.cost_nano_usd - self.fee_nano_usd - self.priced_nano_usd


class ChargedPrices:
    """The prices of recorded versions, in one catalogue; each version is looked for once. For one answer.

    recorded   a row of the ledger's, for where the catalogue lacks its version
    """

    def __init__(self, prices: PriceCatalogue, recorded: Price | None = None) -> None:
        self.prices = prices
        self._recorded = recorded
        self._rows: dict[tuple[str, str | None, str | None], tuple[Price, Layer | None] | None] = {}

    def of(self, entry: Entry) -> ChargedPrice | None:
        """The price of the very version that charged an entry; None where nobody has it."""
        if entry.price_version is None:
            return None
        key = (entry.price_version, entry.request_model, entry.response_model)
        if key not in self._rows:
            self._rows[key] = self._row(entry, plain_version(entry.price_version).removeprefix(ROUTED_VERSION))
        found = self._rows[key]
        if found is None:
            return None
        row, layer = found
        then = row.starting_at(minute_of_week(entry.started_at_ms))
        return ChargedPrice(price=with_markup_of(then, entry.price_version), layer=layer)

    def _row(self, entry: Entry, version: str) -> tuple[Price, Layer | None] | None:
        names = charging_names(self.prices, entry)
        found = row_of_version(self.prices, version, names, asked=entry.request_model or "")
        if found is None and self._recorded is not None and self._recorded.version == version:
            return self._recorded, None
        return found


def rates_of_entry(charged: ChargedPrice | None, entry: Entry) -> dict[str, int] | None:
    """Pico-USD of one, of each unit that an entry's counts show. None where the price is not known, or counts are differences."""
    if charged is None or entry.kind is Kind.REVERSED or not entry.requests:
        return None
    try:
        usage, conditions = usage_of_event(_columns(entry), entry.billed)
    except ValueError:
        return None
    own = [quantities for model, quantities in usage.parts() if model is None]
    return {unit: rate for quantities in own for unit, rate in charged.price.rates_of(quantities, conditions).items()}


def breakdown_of(prices: ChargedPrices, entries: Sequence[Entry]) -> Breakdown:
    """The breakdown of an event that has these entries."""
    whole, last, sums = last_word(entries), entries[-1], sums_of(entries)
    cost, fee, version = sums["cost_nano_usd"], sums["fee_nano_usd"], last.price_version
    of = partial(Breakdown, cost_nano_usd=cost, fee_nano_usd=fee, price_version=version, markup=markup_of(version))
    if whole.kind is Kind.RELEASED:
        return of(basis=Basis.RELEASED)
    stated = stated_cost_of(whole.billed)
    if stated is not None and stated.is_charged:
        return _noted(of(basis=Basis.STATED, priced_nano_usd=stated.nano_usd), whole)
    if version is None:
        return _noted(of(basis=Basis.FEE), whole)
    charged = prices.of(last)
    if charged is None:
        note = f"The catalogue has no price {version} any more, so its rates are not shown. The cost stands as it was charged."
        return of(basis=Basis.UNKNOWN, note=note)
    try:
        usage, conditions = usage_of_event(_columns(replace(whole, **sums)), whole.billed)
    except ValueError as error:
        return of(basis=Basis.UNKNOWN, charged=charged, note=f"Its counts contradict each other ({error}).")
    lines = cost_lines(usage, conditions, charged.price, partial(price_of_pass, prices.prices, last))
    priced = nano_usd_from_pico(sum(line.pico_usd for line in lines))
    return _noted(of(basis=Basis.PRICE, priced_nano_usd=priced, lines=tuple(lines), conditions=conditions, charged=charged), whole)


def _columns(entry: Entry) -> TokenColumns:
    return TokenColumns(**{name: getattr(entry, name) for name in TOKEN_COLUMNS})


def _noted(found: Breakdown, whole: Entry) -> Breakdown:
    """With a sentence about what the parts do not explain."""
    if not found.unexplained_nano_usd:
        return found
    version = found.price_version or ""
    if version.startswith(ROUTED_VERSION):
        note = "The provider chose the model and did not name it: the dearest of several prices was charged, of which one is shown."
    elif whole.kind is Kind.EXPIRED:
        note = "Its worker ended before the answer did: what was known to have been used, or was held for it, was charged."
    elif found.basis is Basis.FEE:
        note = "It was charged what was held for it, or by a price that is not recorded."
    else:
        note = "It was charged another amount than its counts come to by this price, as where an answer was cut off early."
    return dataclass_replace(found, note=note)
