"""Applying a corrected price to earlier charges: differences are entered, no entry is changed.

The limiter's windows keep the original amounts: a correction neither closes nor opens a limit in hindsight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import select

from tallygate.config.catalogue import PriceCatalogue
from tallygate.domain.billed import TOKEN_COLUMNS, TokenColumns, is_charged_as_stated, usage_of_event
from tallygate.domain.charge import charge_of
from tallygate.domain.markup import with_markup_of
from tallygate.domain.price import Price
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.ledger.book import Book, entries_of
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import SUMMED_FIELDS, Entry, Kind, last_word, sums_of
from tallygate.ledger.lifetime import charged_model, is_guess
from tallygate.ledger.schema import ENTRIES

EVENTS_AT_ONCE: Final = 500
_RETRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RepriceQuery:
    """The events to price again: those of these organizations that began in [from_ms, to_ms) and are charged by `model`'s price."""

    model: str
    from_ms: int
    to_ms: int
    orgs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedPage:
    """A page of corrections. cursor: the last event checked, "" after the end. odd: events left alone for contradictory counts."""

    cursor: str
    looked_at: int
    corrections: tuple[Entry, ...]
    odd: int


def charging_names(prices: PriceCatalogue, entry: Entry) -> list[str]:
    """The names whose price charges an event, best first: of the model that answered, then of the one asked for.

    The other way round where the operator agreed on a price for the one asked for.
    """
    names = [name for name in (entry.response_model, entry.request_model) if name]
    asked = entry.request_model
    return names[::-1] if asked and prices.agrees(asked, entry.started_at_ms) else names


def price_of_pass(prices: PriceCatalogue, entry: Entry, model: str) -> Price | None:
    """The price of another model that took part in an exchange, with the markup that it was charged with."""
    price = prices.find(model, entry.started_at_ms)
    return None if price is None else with_markup_of(price, entry.price_version)


class Repricing:
    """Reprices the ledger in pages of EVENTS_AT_ONCE events. Repeating it corrects nothing."""

    def __init__(self, database: Database, prices: PriceCatalogue) -> None:
        self._database = database
        self._book = Book(database)
        self._prices = prices

    async def page(self, query: RepriceQuery, after: str, *, now_ms: int, apply: bool) -> RepricedPage:
        """Compute the corrections of the events after one; enter them if `apply`. Raises LedgerUnavailableError."""
        for attempt in range(_RETRIES):
            try:
                return await self._page(query, after, now_ms=now_ms, apply=apply)
            except LedgerUnavailableError:  # an event of this page has another entry meanwhile
                if attempt == _RETRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _page(self, query: RepriceQuery, after: str, *, now_ms: int, apply: bool) -> RepricedPage:
        columns = ENTRIES.c
        # An event's id begins with the time of its start; a margin of a day allows for differing clocks.
        first = max(after, f"{max(0, query.from_ms - 86_400_000):012x}")
        statement = (
            select(columns.event_id)
            .where(columns.sequence == 0, columns.event_id > first, columns.event_id < f"{query.to_ms + 86_400_000:012x}")
            .where(columns.started_at_ms >= query.from_ms, columns.started_at_ms < query.to_ms, columns.org.in_(sorted(query.orgs)))
            .order_by(columns.event_id)
            .limit(EVENTS_AT_ONCE)
        )
        async with self._database.write() if apply else self._database.read() as connection:
            ids = list((await connection.execute(statement)).scalars())
            corrections: list[Entry] = []
            charged_as: dict[str, str] = {}
            odd = 0
            for entries in (await connection.run_sync(entries_of, ids)).values():
                try:
                    correction = self._correction(query, entries, now_ms)
                except ValueError:
                    odd += 1
                    continue
                if correction is not None:
                    corrections.append(correction)
                    whole = last_word(entries)
                    charged_as[whole.event_id] = charged_model(whole.price_version)
            numbering = await self._book.correct(connection, corrections, charged_as=charged_as) if apply and corrections else None
        if numbering is not None:
            self._book.committed(numbering)
        cursor = ids[-1] if len(ids) == EVENTS_AT_ONCE else ""
        return RepricedPage(cursor=cursor, looked_at=len(ids), corrections=tuple(corrections), odd=odd)

    def _correction(self, query: RepriceQuery, entries: Sequence[Entry], now_ms: int) -> Entry | None:
        """The correction; None if another price or the provider's word charged it, or the cost is right.

        Raises ValueError for contradictory counts.
        """
        last = entries[-1]
        sums = sums_of(entries)
        price = self._price_of(last)
        if last.kind is Kind.RELEASED or price is None or price.model != query.model:
            return None
        billed = last_word(entries).billed
        if is_charged_as_stated(billed):
            return None
        price = with_markup_of(price, last.price_version)
        usage, conditions = usage_of_event(TokenColumns(**{name: sums[name] for name in TOKEN_COLUMNS}), billed)
        charged = charge_of(usage, conditions, price, partial(price_of_pass, self._prices, last))
        difference = sums["fee_nano_usd"] + charged.cost_nano_usd - sums["cost_nano_usd"]
        if not difference:
            return None
        nothing: dict[str, Any] = dict.fromkeys(SUMMED_FIELDS, 0)
        by_kind = {name: charged.by_kind.get(name, 0) - sums[name] for name in KIND_COSTS}
        return replace(
            last,
            **{**nothing, "cost_nano_usd": difference, **by_kind},
            sequence=last.sequence + 1,
            kind=Kind.REPRICED,
            entered_at_ms=now_ms,
            posted_at_ms=now_ms,
            posted_nano_usd=0,
            price_version=price.version,
            flags="",
            billed=None,
        )

    def _price_of(self, entry: Entry) -> Price | None:
        """The price that admission and settlement would choose."""
        for model in charging_names(self._prices, entry):
            price = self._prices.find(model, entry.started_at_ms, asked=entry.request_model or "")
            if price is not None:
                return None if is_guess(price, model, entry.price_version) else price
        return None
