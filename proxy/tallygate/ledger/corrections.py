"""A provider's own figures, entered later for events that were charged without them: as differences, changing no entry.

Each page is one change in the directory's log: the author, and the figures before and after. The limiter's windows keep
the original amounts, as after a corrected price: a correction neither closes nor opens a limit in hindsight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import select

from tallygate.config.catalogue import PriceCatalogue
from tallygate.domain.billed import TOKEN_COLUMNS, TokenColumns, is_charged_as_stated, usage_of_event
from tallygate.domain.charge import charge_of
from tallygate.domain.markup import plain_version, with_markup_of
from tallygate.domain.price import Price
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.domain.usage import TOKENS_MAX
from tallygate.ledger.book import Book, entries_of
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.entry import SUMMED_FIELDS, Entry, Kind, last_word, sums_of
from tallygate.ledger.lifetime import charged_model, is_guess
from tallygate.ledger.reprice import charging_names, price_of_pass
from tallygate.ledger.schema import ENTRIES

EVENTS_AT_ONCE: Final = 500
_ASSUMED: Final = "assumed"  # the flag of an event whose usage is unknown
_RETRIES: Final = 5


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's figures for one event. Totals include their parts; omitted parts are 0."""

    event_id: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    reasoning_tokens: int = 0
    audio_completion_tokens: int = 0

    @property
    def columns(self) -> TokenColumns:
        return TokenColumns(**{name: getattr(self, name) for name in TOKEN_COLUMNS})

    def check(self) -> None:
        """Raises ValueError for figures that contradict each other, or that no answer can have."""
        if max(self.prompt_tokens, self.completion_tokens) > TOKENS_MAX:
            raise ValueError(f"token counts cannot be above {TOKENS_MAX}")
        usage_of_event(self.columns, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """An event with its figures. correction: None if it was already charged by them."""

    event_id: str
    org: str
    before_nano_usd: int
    after_nano_usd: int
    correction: Entry | None


class UnknownEventError(Exception):
    """The event does not exist, or cannot be charged. The message states which and why."""


class Corrections:
    """Enters corrections. Entering the same figures again corrects nothing."""

    def __init__(self, database: Database, prices: PriceCatalogue, changes: Changes) -> None:
        self._database = database
        self._book = Book(database)
        self._prices = prices
        self._changes = changes

    async def correct(self, figures: Sequence[Figures], *, now_ms: int, actor: str | None) -> tuple[Corrected, ...]:
        """Correct at most EVENTS_AT_ONCE events, all of them or none. actor None: a dry run.

        Raises UnknownEventError, ValueError for impossible figures, and LedgerUnavailableError.
        """
        for attempt in range(_RETRIES):
            try:
                return await self._look(figures, now_ms) if actor is None else await self._enter(figures, now_ms, actor)
            except LedgerUnavailableError:  # one of the events has another entry meanwhile
                if attempt == _RETRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _look(self, figures: Sequence[Figures], now_ms: int) -> tuple[Corrected, ...]:
        async with self._database.read() as connection:
            entries = await connection.run_sync(entries_of, [each.event_id for each in figures])
        return tuple(self._corrected(each, entries, now_ms) for each in figures)

    async def _enter(self, figures: Sequence[Figures], now_ms: int, actor: str) -> tuple[Corrected, ...]:
        async with self._changes.begin(actor) as change:
            entries = await change.connection.run_sync(entries_of, [each.event_id for each in figures])
            found = tuple(self._corrected(each, entries, now_ms) for each in figures)
            new = [each.correction for each in found if each.correction is not None]
            charged_as = {entry.event_id: charged_model(last_word(entries[entry.event_id]).price_version) for entry in new}
            numbering = await self._book.correct(change.connection, new, charged_as=charged_as) if new else None
            for entry in new:
                before = sums_of(entries[entry.event_id])
                after = {name: before[name] + getattr(entry, name) for name in before}
                await change.log("usage.correct", entry.event_id, org=entry.org, before=before, after=after)
        if numbering is not None:
            self._book.committed(numbering)
        return found

    async def assumed(self, *, from_ms: int, to_ms: int, orgs: frozenset[str], after: str) -> tuple[list[Entry], str]:
        """A page of events whose usage is assumed and not corrected yet, and the cursor of the next page; "" after the last."""
        columns = ENTRIES.c
        # An event's id begins with the time of its start; a margin of a day allows for differing clocks.
        first = max(after, f"{max(0, from_ms - 86_400_000):012x}")
        statement = (
            select(columns.event_id)
            .where(columns.event_id > first, columns.event_id < f"{to_ms + 86_400_000:012x}")
            .where(columns.flags.contains(_ASSUMED), columns.kind != Kind.REVERSED)
            .where(columns.started_at_ms >= from_ms, columns.started_at_ms < to_ms, columns.org.in_(sorted(orgs)))
            .distinct()
            .order_by(columns.event_id)
            .limit(EVENTS_AT_ONCE)
        )
        async with self._database.read() as connection:
            ids = list((await connection.execute(statement)).scalars())
            found = []
            for entries in (await connection.run_sync(entries_of, ids)).values():
                whole = last_word(entries)
                if _ASSUMED in whole.flags.split(",") and all(entry.kind is not Kind.CORRECTED for entry in entries):
                    found.append(replace(whole, **sums_of(entries)))
        return found, ids[-1] if len(ids) == EVENTS_AT_ONCE else ""

    def _corrected(self, figures: Figures, known: Mapping[str, Sequence[Entry]], now_ms: int) -> Corrected:
        entries = known.get(figures.event_id)
        if not entries:
            raise UnknownEventError(f"there is no event {figures.event_id}")
        whole, before = last_word(entries), sums_of(entries)
        if whole.kind is Kind.RELEASED:
            raise UnknownEventError(f"event {figures.event_id} was released: nothing is owed for it")
        try:
            figures.check()
            usage, conditions = usage_of_event(figures.columns, whole.billed)
        except ValueError as error:
            raise ValueError(f"{figures.event_id}: {error}") from error
        price = self._price_of(entries[-1])
        after = {name: getattr(figures, name, before[name]) for name in SUMMED_FIELDS}
        after["cost_nano_usd"] = before["cost_nano_usd"]
        by_kind = {name: before[name] for name in KIND_COSTS}
        if price is not None and not is_charged_as_stated(whole.billed):
            charged = charge_of(usage, conditions, price, partial(price_of_pass, self._prices, entries[-1]))
            after["cost_nano_usd"] = before["fee_nano_usd"] + charged.cost_nano_usd
            by_kind = {name: charged.by_kind.get(name, 0) for name in KIND_COSTS}
        correction = None
        if after != before:
            after |= by_kind
            difference: dict[str, Any] = {name: after[name] - before[name] for name in SUMMED_FIELDS}
            correction = replace(
                entries[-1],
                **difference,
                sequence=entries[-1].sequence + 1,
                kind=Kind.CORRECTED,
                entered_at_ms=now_ms,
                posted_at_ms=now_ms,
                posted_nano_usd=0,
                flags="",
                billed=None,
            )
        return Corrected(
            event_id=figures.event_id,
            org=whole.org,
            before_nano_usd=before["cost_nano_usd"],
            after_nano_usd=after["cost_nano_usd"],
            correction=correction,
        )

    def _price_of(self, entry: Entry) -> Price | None:
        """The price that the event was charged by; if its row is gone, the current one of its model."""
        if entry.price_version is None:
            return None
        listed = plain_version(entry.price_version)
        for price in self._prices.rows():
            if price.version == listed:
                return with_markup_of(price, entry.price_version)
        for model in charging_names(self._prices, entry):
            found = self._prices.find(model, entry.started_at_ms, asked=entry.request_model or "")
            if found is not None and not is_guess(found, model, entry.price_version):
                return with_markup_of(found, entry.price_version)
        raise UnknownEventError(
            f"event {entry.event_id} was charged by {entry.price_version}, which prices.yaml does not have: "
            f"give it a row for {charged_model(listed)} with the rates of that time"
        )
