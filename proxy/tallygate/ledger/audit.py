"""Audit of all sums: rollups against entries, lifetime totals against rollups, and the limiter's windows against the ledger.

Both sides change while they are read. Rollups and entries are read in one snapshot. A window is read together with the position up
to which the stream is stored. Its buckets before that position change only by a late settlement, which counts when its reservation
expired. A difference therefore counts only if several readings show it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.id_range import id_range
from tallygate.ledger.lifetime_spend import spend_of_entries, stretches_of
from tallygate.ledger.limiter_windows import LimiterWindow, windows_of
from tallygate.ledger.postings import Posted, posted_in, read_postings
from tallygate.ledger.rollups import DAYS_OF_SERIES, FINEST, LEVELS, RECENT, Level
from tallygate.ledger.schema import (
    AMOUNTS,
    ENTRIES,
    LIFETIME_SPEND,
    LIFETIME_SUMS,
    LIFETIME_TOTALS,
    PURGED_AMOUNTS,
    PURGED_TOTALS,
    ROLLUP_AMOUNTS,
    ROLLUPS,
    SERIES,
    SPEND_BUCKETS,
)
from tallygate.ledger.series import Detail
from tallygate.ledger.store_clock import STEP_MS
from tallygate.ledger.time_buckets import DAY_MS, QUARTER_MS
from tallygate.limiter.generation import WindowPosted, read_generation, read_posted
from tallygate.limiter.keys import partition_of
from tallygate.limiter.script import Scripts, ScriptStore

LOOKS_MAX: Final = 5
LOOK_AGAIN_SECONDS: Final = 0.3
_WINDOWS_AT_ONCE: Final = 50  # of one question to the database
_READS_AT_ONCE: Final = 2  # of the store, which does nothing else for a millisecond or two of each: admissions wait for no more
_Sums = dict[tuple[Any, ...], list[int]]  # (start of a bucket, labels ...) to ROLLUP_AMOUNTS
_LABELS: Final = ("org", "credential", "capability", "endpoint", "status", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One wrong sum. amount: the column; where: organization, time and labels."""

    what: str
    where: str
    amount: str
    expected: int
    found: int

    @property
    def nano_usd(self) -> int:
        """The difference in money; 0 for drifts of other amounts."""
        return abs(self.found - self.expected) if self.amount.endswith("nano_usd") else 0


class LedgerAudit:
    """Adds up one ledger's entries again, some days of an organization at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def days(self) -> dict[tuple[str, int], int]:
        """(organization, start of a UTC day) of everything to audit, in the order of time, with the number of rows."""
        # Read from the entries and from all levels of rollups, to find days that have only some of them.
        found: defaultdict[tuple[str, int], int] = defaultdict(int)
        async with self._database.read() as connection:
            for times in (ENTRIES.c.settled_at_ms, ROLLUPS.c.bucket_ms):
                org, day = times.table.c.org, times // DAY_MS * DAY_MS
                for *place, rows in await connection.execute(select(org, day, func.count()).group_by(org, day)):
                    found[place[0], place[1]] += rows
        return dict(sorted(found.items(), key=lambda item: (item[0][1], item[0][0])))

    async def day(self, org: str, day_ms: int, *, days: int = 1) -> list[Drift]:
        """Drifts of one organization's UTC day, or of several from it on, in all levels of rollups."""
        until_ms = day_ms + days * DAY_MS
        async with self._database.read() as connection:
            recent = await self._rollup_sums(connection, RECENT, org, day_ms, until_ms)
            kept = {level: await self._rollup_sums(connection, level, org, day_ms, until_ms) for level in LEVELS}
            found = {level: _added(sums, _folded(level, recent)) for level, sums in kept.items()}
            truth = await self._truth(connection, found[FINEST], org, day_ms, until_ms)
        return [drift for level in LEVELS for drift in _differences(level, _folded(level, truth), found[level])]

    async def postings(self, org: str, since_ms: int) -> list[Drift]:
        """Drifts of the ledger's copy of the limiter's buckets, against the entries, which may be far older than their postings."""
        entries, buckets = ENTRIES.c, SPEND_BUCKETS.c
        bucket = entries.posted_at_ms // SPEND_BUCKET_MS * SPEND_BUCKET_MS
        sums: defaultdict[int, int] = defaultdict(int)
        async with self._database.read() as connection:
            async for low_ms, high_ms in stretches_of(connection, org):
                months = await connection.run_sync(id_range, low_ms, high_ms)
                settled = (entries.settled_at_ms >= low_ms, entries.settled_at_ms < high_ms)
                within = (entries.org == org, *settled, entries.posted_at_ms >= since_ms, *months)
                posted = select(bucket, func.sum(entries.posted_nano_usd)).where(*within).group_by(bucket)
                for at, amount in await connection.execute(posted):
                    sums[at] += int(amount)
            kept = await connection.execute(
                select(buckets.bucket_ms, func.sum(buckets.posted_nano_usd - buckets.purged_nano_usd))
                .where(buckets.org == org, buckets.bucket_ms >= since_ms)
                .group_by(buckets.bucket_ms)
            )
            truth = {at: [amount] for at, amount in sums.items() if amount}
            found = {at: [int(amount)] for at, amount in kept if amount}
        return [
            Drift(
                what="spend_buckets",
                where=f"{org} {at}",
                amount="posted_nano_usd",
                expected=truth.get(at, [0])[0],
                found=found.get(at, [0])[0],
            )
            for at in sorted(truth.keys() | found.keys())
            if truth.get(at) != found.get(at)
        ]

    async def _truth(self, connection: AsyncConnection, finest: _Sums, org: str, from_ms: int, until_ms: int) -> _Sums:
        """Sums by quarter of an hour and labels. Refusals have no entries, so they come from the finest rollup."""
        columns = ENTRIES.c
        bucket = columns.settled_at_ms // QUARTER_MS * QUARTER_MS
        labels = [columns[name] for name in _LABELS]
        rows = await connection.execute(
            select(bucket, *labels, *(func.sum(columns[name]) for name in AMOUNTS))
            .where(columns.org == org, columns.settled_at_ms >= from_ms, columns.settled_at_ms < until_ms)
            .where(*await connection.run_sync(id_range, from_ms, until_ms))
            .group_by(bucket, *labels)
        )
        width = 1 + len(_LABELS)
        truth = {tuple(row[:width]): [*map(int, row[width:]), 0] for row in rows}
        for key, amounts in finest.items():
            truth.setdefault(key, [0] * len(ROLLUP_AMOUNTS))[-1] = amounts[-1]
        return truth

    async def _rollup_sums(self, connection: AsyncConnection, level: Level, org: str, from_ms: int, until_ms: int) -> _Sums:
        columns = ROLLUPS.c
        labels = [columns.org] if level.detail is Detail.ORG else [SERIES.c[name] for name in _LABELS]
        statement = (
            select(columns.bucket_ms, *labels, *(func.sum(columns[name]) for name in ROLLUP_AMOUNTS))
            .where(level.rows(), columns.org == org, columns.bucket_ms >= from_ms, columns.bucket_ms < until_ms)
            .group_by(columns.bucket_ms, *labels)
        )
        if level.detail is not Detail.ORG:
            statement = statement.join(SERIES, SERIES.c.id == columns.series)
        width = 1 + len(labels)
        return {tuple(row[:width]): list(map(int, row[width:])) for row in await connection.execute(statement)}


def _folded(level: Level, sums: _Sums) -> _Sums:
    """Sums by the quarter of an hour and every label, as a level has them."""
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(ROLLUP_AMOUNTS))
    for (bucket, *labels), amounts in sums.items():
        row = found[bucket - bucket % level.length_ms, *_FOLDED[level.detail](labels)]
        row[:] = map(int.__add__, row, amounts)
    return dict(found)


def _added(sums: _Sums, more: _Sums) -> _Sums:
    nothing = [0] * len(ROLLUP_AMOUNTS)
    return sums | {key: list(map(int.__add__, sums.get(key, nothing), amounts)) for key, amounts in more.items()}


_FOLDED: Final[Mapping[Detail, Callable[[Sequence[Any]], Sequence[Any]]]] = {
    Detail.SERIES: lambda labels: labels,
    Detail.KIND: lambda labels: (labels[0], "", *labels[2:]),
    Detail.CREDENTIAL: lambda labels: (*labels[:2], "", "", 0, ""),
    Detail.ORG: lambda labels: labels[:1],
}


class LimiterAudit:
    """Compares the limiter's windows with the ledger's postings.

    on_ahead   called with a partition that has a window moved by a clock that was ahead; raises StoreError. None: left to the
               next request, before which nothing is admitted
    """

    def __init__(
        self,
        database: Database,
        store: ScriptStore,
        scripts: Scripts,
        *,
        on_ahead: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._scripts = scripts
        self._on_ahead = on_ahead

    async def windows(self, organizations: Sequence[Organization], now_ms: int) -> AsyncIterator[tuple[LimiterWindow, list[Drift]]]:
        """Each window with its drifts, none if it is right. Raises LedgerUnavailableError, StoreError."""
        windows = [window for organization in organizations for window in windows_of(organization, now_ms)]
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            some = windows[start : start + _WINDOWS_AT_ONCE]
            differing = await self._differing(some, now_ms)
            for index, window in enumerate(some):
                yield window, differing.get(index, [])

    async def _differing(self, windows: Sequence[LimiterWindow], now_ms: int) -> dict[int, list[Drift]]:
        """The drifts of those windows that have any, by their place."""
        differing: dict[int, list[Drift]] = {index: [] for index in await self._unequal(windows, now_ms)}
        if not differing:  # as a rule
            return {}
        for look in range(LOOKS_MAX):
            if look:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            differing = await self._look({index: windows[index] for index in differing}, now_ms)
            if not differing:
                return {}
        # The content of a partition that is closed does not count.
        closed = {
            partition: await read_generation(self._store, partition) is None
            for partition in {partition_of(windows[index].org) for index in differing}
        }
        return {index: drifts for index, drifts in differing.items() if not closed[partition_of(windows[index].org)]}

    async def _unequal(self, windows: Sequence[LimiterWindow], now_ms: int) -> Sequence[int]:
        """The places of windows that do not have just what the ledger has. They may be right: settlements are under way."""
        posted = await self._posted(windows, now_ms)
        read = await self._read(dict(enumerate(windows)))
        return [
            index
            for index, window in enumerate(windows)
            if read[index].is_ahead or _window_drifts(window, read[index], dict(posted_in(window, posted)), is_at_rest=True)
        ]

    async def _posted(self, windows: Collection[LimiterWindow], now_ms: int) -> Posted:
        since_ms = min(window.since_ms(now_ms) for window in windows)
        return await read_postings(self._database, [window.org for window in windows], since_ms)

    async def _look(self, windows: Mapping[int, LimiterWindow], now_ms: int) -> dict[int, list[Drift]]:
        """The drifts of those that differ now. Read together: a turn to the database costs more than its answer."""
        before = await self._read(windows)
        posted = await self._posted(windows.values(), now_ms)
        after = await self._read(windows)
        ahead = {partition_of(window.org) for index, window in windows.items() if after[index].is_ahead}
        if self._on_ahead is not None:
            for partition in sorted(ahead):
                await self._on_ahead(partition)
        differing: dict[int, list[Drift]] = {}
        for index, window in windows.items():
            if after[index].is_ahead:
                continue  # a clock that was set back is no drift: the window is rebuilt before anything is admitted
            is_at_rest = _same(before[index], after[index])
            if drifts := _window_drifts(window, before[index], dict(posted_in(window, posted)), is_at_rest=is_at_rest):
                differing[index] = drifts
        return differing

    async def _read(self, windows: Mapping[int, LimiterWindow]) -> dict[int, WindowPosted]:
        read: list[WindowPosted] = []
        for start in range(0, len(windows), _READS_AT_ONCE):
            some = islice(windows.values(), start, start + _READS_AT_ONCE)
            read += await asyncio.gather(*(read_posted(self._store, self._scripts, each.org, each.demand) for each in some))
        return dict(zip(windows, read, strict=True))


def _same(before: WindowPosted, after: WindowPosted) -> bool:
    """Return whether nothing was settled between two readings, and nothing waits to be stored."""
    return (
        before.oldest_unstored_ms is None
        and after.oldest_unstored_ms is None
        and (before.spent_nano_usd, before.buckets, before.period) == (after.spent_nano_usd, after.buckets, after.period)
    )


def _window_drifts(window: LimiterWindow, read: WindowPosted, ledger: dict[int, int], *, is_at_rest: bool) -> list[Drift]:
    """The drifts of a window. At rest everything must agree; otherwise the buckets before the oldest event that is not stored."""
    if read.period is not None:
        start, end = read.period
        expected = sum(amount for at, amount in ledger.items() if start <= at < end)
        return (
            [_window_drift(window, start, expected, read.spent_nano_usd)] if is_at_rest and expected != read.spent_nano_usd else []
        )
    stored_until = read.now_ms if read.oldest_unstored_ms is None else min(read.now_ms, read.oldest_unstored_ms)
    ahead_from = read.now_ms + STEP_MS
    open_from = stored_until // SPEND_BUCKET_MS * SPEND_BUCKET_MS
    oldest = read.now_ms // SPEND_BUCKET_MS * SPEND_BUCKET_MS - window.demand.limit.window_ms
    drifts = [
        _window_drift(window, at, ledger.get(at, 0), read.buckets.get(at, 0))
        for at in sorted(ledger.keys() | read.buckets.keys())
        if oldest <= at < ahead_from and (is_at_rest or at < open_from) and ledger.get(at, 0) != read.buckets.get(at, 0)
    ]
    # Events stored under a clock that was ahead count as of the window's rebuild, whose time is not recorded.
    ahead = sum(amount for at, amount in ledger.items() if at >= ahead_from)
    moved = [drift.found - drift.expected for drift in drifts]
    return [] if drifts and min(moved) >= 0 and sum(moved) <= ahead else drifts


def _window_drift(window: LimiterWindow, at_ms: int, expected: int, found: int) -> Drift:
    where = f"{window.org} {window.demand.key} {at_ms}"
    return Drift(what="limiter", where=where, amount="posted_nano_usd", expected=expected, found=found)


def _differences(level: Level, expected: _Sums, found: _Sums) -> list[Drift]:
    nothing = [0] * len(ROLLUP_AMOUNTS)
    return [
        Drift(what=level.name, where=" ".join(map(str, key)), amount=name, expected=right, found=wrong)
        for key in sorted(expected.keys() | found.keys(), key=str)
        for name, right, wrong in zip(ROLLUP_AMOUNTS, expected.get(key, nothing), found.get(key, nothing), strict=True)
        if right != wrong
    ]


async def lifetime_drifts(database: Database, org: str) -> list[Drift]:
    """Lifetime totals of one organization that are not the days' rollups plus what retention removed, by credential and capability.

    The spend by kind is compared with the entries. Read in one snapshot. Raises LedgerUnavailableError.
    """
    async with database.read() as connection:
        expected: dict[tuple[str, str], list[int]] = {}
        for statement in _whole_life(org):
            for credential, capability, *amounts in await connection.execute(statement):
                sums = expected.setdefault((credential, capability), [0] * len(PURGED_AMOUNTS))
                sums[:] = [before + int(amount) for before, amount in zip(sums, amounts, strict=True)]
        rows = await connection.execute(_counted_life(org))
        found = {(credential, capability): list(map(int, amounts)) for credential, capability, *amounts in rows}
        of_spend = await _spend_drifts(connection, org)
    nothing = [0] * len(PURGED_AMOUNTS)
    return [
        Drift(what="lifetime_totals", where=" ".join((org, *key)), amount=name, expected=right, found=wrong)
        for key in sorted(expected.keys() | found.keys())
        for name, right, wrong in zip(PURGED_AMOUNTS, expected.get(key, nothing), found.get(key, nothing), strict=True)
        if right != wrong
    ] + of_spend


async def _spend_drifts(connection: AsyncConnection, org: str) -> list[Drift]:
    columns = LIFETIME_SPEND.c
    kept = columns.nano_usd - columns.credited_nano_usd - columns.purged_nano_usd
    rows = await connection.execute(select(columns.credential, columns.capability, columns.kind, kept).where(columns.org == org))
    found = {tuple(labels): amount for *labels, amount in rows}
    expected = await spend_of_entries(connection, org)
    return [
        Drift(what="lifetime_spend", where=" ".join((org, *key)), amount="nano_usd", expected=right, found=wrong)
        for key in sorted(expected.keys() | found.keys())
        if (right := expected.get(key, 0)) != (wrong := found.get(key, 0))
    ]


def _whole_life(org: str) -> tuple[Select[Any], Select[Any]]:
    """(credential, capability, PURGED_AMOUNTS ...) of remaining and removed rollups."""
    exchange = (SERIES.c.credential, SERIES.c.capability)
    left = (
        select(*exchange, *(func.sum(ROLLUPS.c[name]) for name in PURGED_AMOUNTS))
        .join(SERIES, SERIES.c.id == ROLLUPS.c.series)
        .where(or_(DAYS_OF_SERIES.rows(), RECENT.rows()), ROLLUPS.c.org == org)
        .group_by(*exchange)
    )
    gone = PURGED_TOTALS.c
    return left, select(gone.credential, gone.capability, *(gone[name] for name in PURGED_AMOUNTS)).where(gone.org == org)


def _counted_life(org: str) -> Select[Any]:
    """The same from the lifetime totals, without credits."""
    columns = LIFETIME_TOTALS.c
    is_refused = columns.outcome == Outcome.REFUSED.value
    sums = (
        func.sum(case((is_refused, 0), else_=columns.requests)),
        *(func.sum(columns[name] - columns[f"credited_{name}"]) for name in LIFETIME_SUMS),
        func.sum(case((is_refused, columns.requests), else_=0)),
    )
    return (
        select(columns.credential, columns.capability, *sums)
        .where(columns.org == org)
        .group_by(columns.credential, columns.capability)
    )
