"""The only way into the ledger: entries and all their sums in one transaction, each event once however often it arrives."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import Final

import msgspec
from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.config.price_row import statement
from tallygate.domain.errors import StoreError
from tallygate.domain.job import Job
from tallygate.domain.price import Price
from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import FINAL, Entry, Kind, following, is_posted_again, row_of
from tallygate.ledger.jobs import end_jobs, record_jobs
from tallygate.ledger.lifetime import OTHER, Changes, changes_of, charged_model, refused_changes
from tallygate.ledger.lifetime_spend import add_to_lifetime_spend, spend_changes_of
from tallygate.ledger.notices.notice import Notice
from tallygate.ledger.notices.record import EndpointsOf, record_notices, to_nobody
from tallygate.ledger.rollups import FOLDED_AT_ONCE, add_to_rollups, fold_recent
from tallygate.ledger.schema import (
    AMOUNTS,
    ENTRIES,
    LIFETIME_AMOUNTS,
    LIFETIME_TOTALS,
    MALFORMED,
    POSTED_AMOUNTS,
    PRICE_VERSIONS,
    REFUSALS_TAKEN,
    ROLLUP_AMOUNTS,
    SPEND_BUCKETS,
)
from tallygate.ledger.series import Numbering, Series, SeriesNumbers, series_of
from tallygate.ledger.stored_objects import ObjectChange, record_objects
from tallygate.ledger.stream_positions import StreamPositions
from tallygate.ledger.time_buckets import QUARTER_MS

_amounts_of: Final = attrgetter(*AMOUNTS)
_REFUSED: Final = ROLLUP_AMOUNTS.index("refused")
_IDS_AT_ONCE: Final = 500  # in one IN (...)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A stream entry that is no usage event. fields: its original fields, as text."""

    partition: int
    stream_id: str
    reason: str
    fields: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalCount:
    """The number of requests that `refused_by` (a limit's name or an error code) refused since its counter began."""

    org: str
    credential: str
    capability: str
    refused_by: str
    status: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The result of recording. entries: added lines. repeated: events that arrived again and changed nothing.

    posted_again   organizations whose limiter windows counted an event twice
    """

    entries: int
    repeated: int
    posted_again: frozenset[str] = frozenset()


class Book:
    """Writes to one ledger, beside any number of other books in any number of processes.

    endpoints_of   names of the webhook endpoints that get a notice, called when it is stored
    """

    def __init__(self, database: Database, *, endpoints_of: EndpointsOf = to_nobody) -> None:
        self._database = database
        self._endpoints_of = endpoints_of
        self._series = SeriesNumbers(database)
        self._positions = StreamPositions(database)

    async def record(
        self,
        incoming: Sequence[Entry],
        malformed: Sequence[Malformed] = (),
        *,
        notices: Sequence[Notice] = (),
        objects: Sequence[ObjectChange] = (),
        jobs: Sequence[Job] = (),
        taken: Mapping[int, int] = MappingProxyType({}),
        now_ms: int = 0,
    ) -> Recorded:
        """Add the limiter's entries, in their order. Raises LedgerUnavailableError; then none was added.

        taken   by partition, the time in the id of the newest of its stream's entries that are recorded
        """

        def store(connection: Connection) -> tuple[Recorded, Numbering]:
            recorded, numbering = self._record(connection, incoming)
            record_notices(connection, self._database, notices, self._endpoints_of, now_ms=now_ms)
            record_objects(connection, self._database, objects)
            record_jobs(connection, self._database, jobs)
            if malformed:
                rows = [{name.name: getattr(entry, name.name) for name in fields(Malformed)} for entry in malformed]
                statement = self._database.insert(MALFORMED).on_conflict_do_nothing()
                connection.execute(statement, [{**row, "seen_at_ms": now_ms} for row in rows])
            self._positions.record(connection, taken)
            return recorded, numbering

        recorded, numbering = await self._database.transact(store)
        self._series.keep(numbering)
        self._positions.keep(taken)
        return recorded

    def _record(self, connection: Connection, incoming: Sequence[Entry]) -> tuple[Recorded, Numbering]:
        firsts: dict[str, Entry] = {}
        again: defaultdict[str, list[Entry]] = defaultdict(list)  # of events that have one before them
        for entry in self._series.named(connection, incoming):
            if firsts.setdefault(entry.event_id, entry) is not entry:
                again[entry.event_id].append(entry)
        new = self._insert(connection, [firsts[id_] for id_ in sorted(firsts)])
        if len(new) < len(firsts):
            for id_ in firsts.keys() - {entry.event_id for entry in new}:
                again[id_].insert(0, firsts[id_])
        posted_again: set[str] = set()
        new += self._insert_following(connection, again, posted_again)
        numbering = self._roll_up(connection, new)
        end_jobs(connection, new)
        added = len(new) - sum(entry.kind is Kind.REVERSED for entry in new if entry.sequence)
        recorded = Recorded(entries=len(new), repeated=len(incoming) - added, posted_again=frozenset(posted_again))
        return recorded, numbering

    async def correct(
        self, connection: AsyncConnection, corrections: Sequence[Entry], *, charged_as: Mapping[str, str] | None = None
    ) -> Numbering:
        """Add correcting entries within the caller's transaction; pass the result to `committed` after it.

        charged_as   by event id the priced model under which it counts, if that is not the correction's

        Raises LedgerUnavailableError if another writer has meanwhile added to one of the events.
        """

        def store(connection: Connection) -> Numbering:
            new = self._insert(connection, sorted(corrections, key=lambda entry: (entry.event_id, entry.sequence)))
            if len(new) != len(corrections):
                raise LedgerUnavailableError("an event got another entry meanwhile: to be done again")
            return self._roll_up(connection, new, charged_as)

        return await connection.run_sync(store)

    def committed(self, numbering: Numbering) -> None:
        self._series.keep(numbering)

    async def fold(self) -> None:
        """Add what is recent to the rollups of every level, a bounded number of rows in each transaction.

        Raises LedgerUnavailableError; the next call adds the rest.
        """

        def some(connection: Connection) -> tuple[int, Numbering]:
            self._database.take_turn(connection, "rollups")  # two would lock rows of many levels in turn
            return fold_recent(connection, self._database, self._series)

        folded = FOLDED_AT_ONCE
        while folded == FOLDED_AT_ONCE:
            folded, numbering = await self._database.transact(some)
            self._series.keep(numbering)

    async def add_refusals(self, source: str, counts: Iterable[RefusalCount], *, at_ms: int) -> int:
        """Add the refusals counted by `source` (a worker's slot) to rollups and lifetime totals; returns how many were new.

        Counts only grow: one that is smaller than last time has restarted. Repeating the call adds nothing, even concurrently.
        Refusals of callers without an organization (`other`) are nobody's usage and appear only in the lifetime totals.
        """
        counted = {(count.org, count.credential, count.capability, count.refused_by): count for count in counts}
        new = 0
        async with self._database.write() as connection:
            await self._database.wait_for_turn(connection, f"refusals of {source}")
            columns = REFUSALS_TAKEN.c
            rows = await connection.execute(
                select(columns.org, columns.credential, columns.capability, columns.refused_by, columns.requests).where(
                    columns.source == source
                )
            )
            taken = {tuple(labels): requests for *labels, requests in rows}
            sums: dict[Series, list[int]] = {}
            refused: list[tuple[str, str, str, int]] = []
            changed = []
            for key, count in sorted(counted.items()):
                before = taken.get(key, 0)
                if count.requests == before:
                    continue
                more = count.requests - before if count.requests > before else count.requests
                new += more
                labels = dict(zip(("org", "credential", "capability", "refused_by"), key, strict=True))
                changed.append({"source": source, **labels, "requests": count.requests})
                refused.append((count.org, count.credential, count.capability, more))
                if count.org == OTHER:
                    continue
                series = Series(
                    count.org, count.credential, count.capability, "", "", count.status, Outcome.REFUSED.value, count.refused_by
                )
                sums.setdefault(series, [0] * len(ROLLUP_AMOUNTS))[_REFUSED] += more
            if not changed:
                return 0
            statement = self._database.insert(REFUSALS_TAKEN)
            statement = statement.on_conflict_do_update(
                index_elements=list(REFUSALS_TAKEN.primary_key.columns), set_={"requests": statement.excluded.requests}
            )
            await connection.execute(statement, changed)
            numbering = await connection.run_sync(self._add_refusals, at_ms, sums, refused_changes(refused))
        self._series.keep(numbering)
        return new

    async def record_prices(self, prices: Iterable[Price], *, now_ms: int) -> None:
        """Store the rates of each price version; known versions stay as they are."""
        rows = []
        for price in prices:
            row = {"version": price.version, "model": price.model, "effective_ms": price.effective_ms}
            rows.append({**row, "rates": json.dumps(statement(price), sort_keys=True), "seen_at_ms": now_ms})
        if rows:
            async with self._database.write() as connection:
                await connection.execute(self._database.insert(PRICE_VERSIONS).on_conflict_do_nothing(), rows)

    def _add_refusals(self, connection: Connection, at_ms: int, sums: Mapping[Series, list[int]], changes: Changes) -> Numbering:
        numbering = self._series.numbers(connection, sums)
        quarter = at_ms - at_ms % QUARTER_MS
        add_to_rollups(connection, self._database, {(quarter, series): amounts for series, amounts in sums.items()}, numbering)
        self._add_to_lifetime(connection, changes)
        return numbering

    def _insert(self, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
        """Insert entries; return those that are new."""
        are_new = self._database.insert_new(connection, ENTRIES, [row_of(entry) for entry in entries])
        return [entry for entry, is_new in zip(entries, are_new, strict=True) if is_new]

    def _insert_following(
        self, connection: Connection, groups: Mapping[str, Sequence[Entry]], posted_again: set[str]
    ) -> list[Entry]:
        """Insert entries of events that already have some. Adds the organizations of events counted twice to posted_again."""
        if not groups:
            return []
        existing = entries_of(connection, list(groups))
        wanted: list[Entry] = []
        for event_id, group in sorted(groups.items()):
            for incoming in group:
                if is_posted_again(existing[event_id], incoming):
                    posted_again.add(incoming.org)
                more = following(existing[event_id], incoming)
                existing[event_id] += more
                wanted += more
        new = self._insert(connection, wanted)
        if len(new) != len(wanted):
            raise LedgerUnavailableError("another writer corrects the same event: to be done again")
        return new

    def _roll_up(self, connection: Connection, entries: Sequence[Entry], charged_as: Mapping[str, str] | None = None) -> Numbering:
        """Add new entries to every sum."""
        sums: dict[tuple[int, Series], Sequence[int]] = {}
        posted: defaultdict[tuple[str, int, str], int] = defaultdict(int)
        for entry in entries:
            key = (entry.settled_at_ms - entry.settled_at_ms % QUARTER_MS, series_of(entry))
            before, amounts = sums.get(key), (*_amounts_of(entry), 0)
            sums[key] = amounts if before is None else tuple(map(int.__add__, before, amounts))
            if entry.posted_nano_usd:
                bucket = entry.posted_at_ms - entry.posted_at_ms % SPEND_BUCKET_MS
                posted[entry.org, bucket, entry.credential] += entry.posted_nano_usd

        @cache
        def priced() -> set[tuple[str, str]]:
            return {(entry.org, entry.model) for entry in entries if entry.model == charged_model(entry.price_version)}

        numbering = self._series.numbers(connection, (series for _, series in sums), priced=priced)
        add_to_rollups(connection, self._database, sums, numbering)
        self._database.add_to_rows(
            connection,
            SPEND_BUCKETS,
            POSTED_AMOUNTS,
            [(*place, amount, 0) for place, amount in sorted(posted.items())],
        )
        self._add_to_lifetime(connection, changes_of(entries, charged_as))
        add_to_lifetime_spend(connection, self._database, spend_changes_of(entries))
        return numbering

    def _add_to_lifetime(self, connection: Connection, changes: Changes) -> None:
        rows = [(*key, *amounts) for key, amounts in sorted(changes.items()) if any(amounts)]
        self._database.add_to_rows(connection, LIFETIME_TOTALS, LIFETIME_AMOUNTS, rows)


def entries_of(connection: Connection, event_ids: Sequence[str]) -> dict[str, list[Entry]]:
    """Every entry of these events, in their order."""
    found: dict[str, list[Entry]] = {event_id: [] for event_id in event_ids}
    for start in range(0, len(event_ids), _IDS_AT_ONCE):
        part = event_ids[start : start + _IDS_AT_ONCE]
        rows = connection.execute(
            select(*(ENTRIES.c[name] for name in Entry.__struct_fields__))
            .where(ENTRIES.c.event_id.in_(part))
            .order_by(ENTRIES.c.event_id, ENTRIES.c.sequence)
        )
        for row in rows:
            entry = entry_of_row(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
            found[entry.event_id].append(entry)
    return found


def entry_of_row(row: RowMapping) -> Entry:
    return msgspec.convert({name: row[name] for name in Entry.__struct_fields__}, Entry)


async def finished_events(database: Database, event_ids: Sequence[str]) -> frozenset[str]:
    """The ids among `event_ids` that are settled in the ledger and need no replay; a few hundred at once.

    Raises StoreError if the ledger cannot be asked.
    """
    columns = ENTRIES.c
    statement = select(columns.event_id).where(columns.event_id.in_(event_ids), columns.kind.in_(sorted(FINAL))).distinct()
    try:
        async with database.read() as connection:
            return frozenset((await connection.execute(statement)).scalars())
    except LedgerUnavailableError as error:
        raise StoreError(f"the ledger cannot be asked: {error}") from error
