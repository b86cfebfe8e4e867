"""Deletes entries and rollups older than an organization's history, a few at a time, so that nobody waits.

Entries and rollups end at the same instant, the start of a UTC day, so that they still agree. Anything beyond the history is
hidden at once, even before it is deleted. Organizations that no configuration has keep everything. A month of PostgreSQL of which
nothing is kept goes first, as a whole (`expired_months`).
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import Table

from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.ledger.database import Database
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.expired_months import ExpiredMonths, add_purged_postings
from tallygate.ledger.lifetime_spend import SPENT_COLUMNS, add_to_lifetime_spend, purged_spend
from tallygate.ledger.rollups import COARSEST, DAYS_OF_SERIES, LEVELS, RECENT, Level
from tallygate.ledger.schema import (
    ENTRIES,
    PURGED_AMOUNTS,
    PURGED_TOTALS,
    ROLLUPS,
    SERIES,
    SPEND_BUCKETS,
    STORED_OBJECTS,
)
from tallygate.ledger.time_buckets import DAY_MS

ROWS_AT_ONCE: Final = 1_000  # of one transaction: a few milliseconds, then writers get a turn
ORGS_AT_ONCE: Final = 500  # in one query
PAUSE_SECONDS: Final = 0.05
WINDOWS_KEPT_DAYS: Final = 100  # the limiter's longest window, and a month more than the calendar's
_PURGED_COLUMNS: Final = tuple(ROLLUPS.c[name] for name in PURGED_AMOUNTS)
_POSTED_COLUMNS: Final = (ENTRIES.c.posted_at_ms, ENTRIES.c.posted_nano_usd)


def visible_from_ms(organization: Organization, now_ms: int) -> int:
    """The start of the organization's history, at the start of a UTC day; 0 if it is unlimited."""
    days = organization.plan.history_days
    return 0 if days is None else max(0, now_ms // DAY_MS * DAY_MS - days * DAY_MS)


class Retention:
    """Purges one ledger, in transactions of ROWS_AT_ONCE rows with pauses between them."""

    def __init__(self, database: Database, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._database = database
        self._pause_seconds = pause_seconds
        self._months = EntryMonths(database)
        self._expired_months = ExpiredMonths(database)

    async def purge(self, organizations: Sequence[Organization], now_ms: int) -> int:
        """Delete rows beyond each history; return how many. Raises LedgerUnavailableError; the next call deletes the rest."""
        visible = {organization.id: visible_from_ms(organization, now_ms) for organization in organizations}
        histories: defaultdict[int, list[str]] = defaultdict(list)
        for org, before in visible.items():
            histories[before].append(org)
        expired = [(org, before) for before, orgs in histories.items() for org in await self._expired(orgs, before)]
        removed = await self._expired_months.empty(visible, now_ms) if expired else 0
        for org, before in expired:
            removed += await self._purge_history(org, before)
        kept_from = now_ms // DAY_MS * DAY_MS - WINDOWS_KEPT_DAYS * DAY_MS
        async for org in self._having(SPEND_BUCKETS, list(visible), kept_from):
            removed += await self._purge(SPEND_BUCKETS, org, "bucket_ms", kept_from)
        if removed:
            await self._months.drop_empty(now_ms)
        return removed

    async def _expired(self, orgs: Sequence[str], before_ms: int) -> list[str]:
        """The organizations with anything older. What is recent is so old where an event was corrected."""
        return sorted({org for level in (COARSEST, RECENT) async for org in self._having(ROLLUPS, orgs, before_ms, level.rows())})

    async def _having(self, table: Table, orgs: Sequence[str], before_ms: int, *which: ColumnElement[bool]) -> AsyncIterator[str]:
        """The organizations with older rows: most have none, and purging them would cost a transaction for each table."""
        for start in range(0, len(orgs) if before_ms > 0 else 0, ORGS_AT_ONCE):
            some = table.c.org.in_(orgs[start : start + ORGS_AT_ONCE])
            query = select(table.c.org).where(some, table.c.bucket_ms < before_ms, *which).distinct()
            async with self._database.read() as connection:
                found = (await connection.execute(query)).scalars().all()
            for org in found:
                yield org

    async def _purge_history(self, org: str, before_ms: int) -> int:
        removed = await self._purge(ENTRIES, org, "settled_at_ms", before_ms)
        removed += await self._purge(STORED_OBJECTS, org, "made_at_ms", before_ms)
        # The coarsest come last: they trigger a purge, including one that was interrupted.
        for level in (RECENT, *LEVELS):
            removed += await self._purge(ROLLUPS, org, "bucket_ms", before_ms, level)
        return removed

    async def _purge(self, table: Table, org: str, time: str, before_ms: int, level: Level | None = None) -> int:
        key = tuple_(*table.primary_key.columns)
        oldest = (
            select(*table.primary_key.columns)
            .where(*([level.rows()] if level else []), table.c.org == org, table.c[time] < before_ms)
            .order_by(table.c[time])
            .limit(ROWS_AT_ONCE)
        )
        removed = 0
        while True:
            async with self._database.write() as connection:
                statement = delete(table).where(key.in_(oldest))
                if level in {RECENT, DAYS_OF_SERIES}:
                    rows = (await connection.execute(statement.returning(ROLLUPS.c.series, *_PURGED_COLUMNS))).all()
                    count = len(rows)
                    await self._remember(connection, rows)
                elif table is ENTRIES:
                    rows = (await connection.execute(statement.returning(*SPENT_COLUMNS, *_POSTED_COLUMNS))).all()
                    count = len(rows)
                    spent = purged_spend(row[: len(SPENT_COLUMNS)] for row in rows)
                    await connection.run_sync(add_to_lifetime_spend, self._database, spent)
                    await self._remember_late_postings(connection, rows, before_ms)
                else:
                    count = (await connection.execute(statement)).rowcount
            removed += count
            if count < ROWS_AT_ONCE:
                return removed
            await asyncio.sleep(self._pause_seconds)

    async def _remember_late_postings(self, connection: AsyncConnection, removed: Sequence[Row[Any]], before_ms: int) -> None:
        """Add what removed entries posted since the edge of the history to the buckets that have it, in the same transaction."""
        sums: dict[tuple[str, int, str], int] = {}
        for row in removed:
            (org, credential), (at_ms, amount) = tuple(row)[:2], tuple(row)[-2:]
            if amount and at_ms >= before_ms:
                place = (org, at_ms - at_ms % SPEND_BUCKET_MS, credential)
                sums[place] = sums.get(place, 0) + amount
        await connection.run_sync(add_purged_postings, self._database, sums)

    async def _remember(self, connection: AsyncConnection, removed: Sequence[Row[Any]]) -> None:
        """Add removed rollups of series, each of which counts once, to `purged_totals`, in the same transaction."""
        by_series: dict[int, list[int]] = {}
        for row in removed:
            sums = by_series.setdefault(row[0], [0] * len(PURGED_AMOUNTS))
            sums[:] = map(int.__add__, sums, row[1:])
        labels = (SERIES.c.org, SERIES.c.credential, SERIES.c.capability)
        found: dict[tuple[str, ...], list[int]] = {}
        for number, *names in await connection.execute(select(SERIES.c.id, *labels).where(SERIES.c.id.in_(by_series))):
            sums = found.setdefault(tuple(names), [0] * len(PURGED_AMOUNTS))
            sums[:] = map(int.__add__, sums, by_series[number])
        rows = [(*names, *sums) for names, sums in sorted(found.items())]
        await connection.run_sync(self._database.add_to_rows, PURGED_TOTALS, PURGED_AMOUNTS, rows)
