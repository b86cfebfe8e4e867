"""Whether the ledger has all that the limiter's store handed over. One that was put back from an older state has not.

The store keeps the id of the newest event that left each stream, and an event leaves it only once a ledger has committed it. The
ledger keeps the same in the transaction of its entries. Where the store's is newer, another state of the ledger took the events
between: this is recorded as a gap, before any newer event hides it. A rebuild from such a ledger would lower what was spent, so a
closed partition with a gap is compared first, and stays closed while any of its windows has more in the store.

A ledger without a position is of a version that kept none: its gap ends without a word where a comparison shows that windows have
nothing more. Or it is new, and lacks everything.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Row, select, update

from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from tallygate.ledger.database import Database
from tallygate.ledger.limiter_windows import LimiterWindow, windows_of
from tallygate.ledger.postings import posted_in, read_postings
from tallygate.ledger.schema import LIFETIME_TOTALS, STREAM_POSITIONS
from tallygate.ledger.stream_positions import time_of_id
from tallygate.limiter.generation import WindowPosted, read_posted, stream_facts
from tallygate.limiter.keys import PARTITIONS, partition_of
from tallygate.limiter.script import Scripts, ScriptStore

UNKNOWN: Final = -1
_WINDOWS_AT_ONCE: Final = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Events of a partition that the ledger lacks: those that its stream took after from_ms, up to until_ms.

    from_ms   0 of a ledger that has nothing; UNKNOWN of one that kept no position: whether it lacks anything is to be compared
    """

    partition: int
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a ledger lacks. nano_usd: by organization, by how much the window that lacks most is lower than in the store."""

    gaps: tuple[Gap, ...] = ()
    nano_usd: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_nano_usd(self) -> int:
        return sum(self.nano_usd.values())

    @property
    def from_ms(self) -> int:
        """As of a gap; 0 if nothing is lacking."""
        return min((gap.from_ms for gap in self.gaps), default=0)

    @property
    def until_ms(self) -> int:
        return max((gap.until_ms for gap in self.gaps), default=0)


class Continuity:
    """Compares one ledger with one store.

    lack   what was found to be lacking when partitions were last compared
    """

    def __init__(self, database: Database, store: ScriptStore, scripts: Scripts) -> None:
        self._database = database
        self._store = store
        self._scripts = scripts
        self._gaps: dict[int, Gap] = {}
        self._short: dict[int, dict[str, int]] = {}  # by partition
        self._logged: tuple[object, ...] = ()

    @property
    def lack(self) -> Lack:
        """Gaps whose beginning is known, and those that were seen to lack spend."""
        gaps = (gap for partition, gap in sorted(self._gaps.items()) if gap.from_ms != UNKNOWN or self._short.get(partition))
        short = {org: nano_usd for orgs in self._short.values() for org, nano_usd in orgs.items()}
        return Lack(gaps=tuple(gaps), nano_usd=dict(sorted(short.items())))

    async def check(self) -> None:
        """Record new gaps, and read those that are known. Raises LedgerUnavailableError, StoreError."""
        facts = await asyncio.gather(*(stream_facts(self._store, partition) for partition in range(PARTITIONS)))
        rows, is_new = await self._positions()  # after the store: whatever had left a stream by then was committed before
        behind = []
        for partition, stream in enumerate(facts):
            until_ms, row = time_of_id(stream.removed_until), rows.get(partition)
            if until_ms > (0 if row is None else row.taken_ms):
                behind.append(Gap(partition=partition, from_ms=0 if is_new else _gap_begins(row), until_ms=until_ms))
        if behind:
            await self._record(behind)
            rows, _ = await self._positions()
        self._gaps = {
            partition: Gap(partition=partition, from_ms=row.lacks_from_ms, until_ms=row.lacks_until_ms)
            for partition, row in rows.items()
            if row.lacks_until_ms is not None
        }
        self._short = {partition: short for partition, short in self._short.items() if partition in self._gaps}

    async def may_rebuild(self, partition: int, organizations: Sequence[Organization], now_ms: int) -> bool:
        """Whether a closed partition, whose stream is stored, may be rebuilt: no window has more in the store than in the ledger.

        Raises LedgerUnavailableError, StoreError.
        """
        if partition not in self._gaps:
            return True
        await self._compare(partition, organizations, now_ms)
        return not self._short.get(partition)

    async def compare(self, organizations: Sequence[Organization], now_ms: int) -> Lack:
        """Compare every partition with a gap, whether it is closed or admits. Raises LedgerUnavailableError, StoreError."""
        await self.check()
        for partition in tuple(self._gaps):
            await self._compare(partition, [each for each in organizations if partition_of(each.id) == partition], now_ms)
        return self.lack

    def report(self) -> None:
        """Log what is lacking, once for each state of it."""
        lack = self.lack
        state = (lack.from_ms, lack.until_ms, *lack.nano_usd.items())
        if not lack.gaps or state == self._logged:
            return
        self._logged = state
        _log.error(
            "the ledger is older than the limiter's store: it lacks events that the store handed over to it. Put the newer ledger "
            "back, or see `tallygate ledger compare`",
            extra={
                "fields": {
                    "organizations": len(lack.nano_usd),
                    "lacks_nano_usd": lack.total_nano_usd,
                    "after_ms": lack.from_ms,
                    "until_ms": lack.until_ms,
                }
            },
        )

    async def accept(self) -> None:
        """From now on the ledger is held to be complete: partitions are rebuilt from it as it is. Raises LedgerUnavailableError."""
        await self._forget(self._gaps)
        self._gaps, self._short = {}, {}

    async def _compare(self, partition: int, organizations: Sequence[Organization], now_ms: int) -> None:
        windows = [window for organization in organizations for window in windows_of(organization, now_ms)]
        short: dict[str, int] = {}
        is_known = True
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            some = windows[start : start + _WINDOWS_AT_ONCE]
            read = await asyncio.gather(*(read_posted(self._store, self._scripts, each.org, each.demand) for each in some))
            since_ms = min(_since_ms(window, found, now_ms) for window, found in zip(some, read, strict=True))
            posted = await read_postings(self._database, [window.org for window in some], since_ms)
            for window, found in zip(some, read, strict=True):
                if found.oldest_unstored_ms is not None:
                    is_known = False  # what is on its way to the ledger is in the store already
                    continue
                more = found.spent_nano_usd - _counted(window, found, dict(posted_in(window, posted)))
                if more > 0:
                    short[window.org] = max(short.get(window.org, 0), more)
        if short or is_known:
            self._short[partition] = short
        if is_known and not short and self._gaps[partition].from_ms == UNKNOWN:
            await self._forget([partition])
            del self._gaps[partition]

    async def _forget(self, partitions: Iterable[int]) -> None:
        columns = STREAM_POSITIONS.c
        async with self._database.write() as connection:
            await connection.execute(
                update(STREAM_POSITIONS)
                .where(columns.partition.in_(sorted(partitions)))
                .values(lacks_from_ms=None, lacks_until_ms=None)
            )

    async def _positions(self) -> tuple[dict[int, Row[Any]], bool]:
        """By partition; and whether the ledger has never had anything."""
        async with self._database.read() as connection:
            rows = {row.partition: row for row in await connection.execute(select(STREAM_POSITIONS))}
            has_counted = bool(rows) or await connection.scalar(select(LIFETIME_TOTALS.c.org).limit(1)) is not None
            return rows, not has_counted

    async def _record(self, gaps: Sequence[Gap]) -> None:
        columns = STREAM_POSITIONS.c
        insert = self._database.insert(STREAM_POSITIONS)
        insert = insert.on_conflict_do_update(
            index_elements=[columns.partition],
            set_={name: insert.excluded[name] for name in ("taken_ms", "lacks_from_ms", "lacks_until_ms")},
            where=columns.taken_ms < insert.excluded.taken_ms,
        )
        rows = [
            {"partition": gap.partition, "taken_ms": gap.until_ms, "lacks_from_ms": gap.from_ms, "lacks_until_ms": gap.until_ms}
            for gap in gaps
        ]
        async with self._database.write() as connection:
            await connection.execute(insert, rows)


def _gap_begins(row: Row[Any] | None) -> int:
    """Where a gap begins that is found now: at the position, or where one begins that was found before."""
    if row is None:
        return UNKNOWN
    return int(row.taken_ms if row.lacks_from_ms in {None, UNKNOWN} else row.lacks_from_ms)


def _since_ms(window: LimiterWindow, read: WindowPosted, now_ms: int) -> int:
    """The earliest time of postings in the window, also if it counts another month than the present one."""
    return window.since_ms(now_ms) if read.period is None else min(window.since_ms(now_ms), read.period[0])


def _counted(window: LimiterWindow, read: WindowPosted, ledger: Mapping[int, int]) -> int:
    """What the window would have from the ledger, at the time at which it stands in the store."""
    if window.demand.limit.kind is WindowKind.ROLLING:
        oldest = read.now_ms // SPEND_BUCKET_MS * SPEND_BUCKET_MS - window.demand.limit.window_ms
        return sum(amount for at, amount in ledger.items() if at >= oldest)
    start, end = read.period or (0, 0)
    return sum(amount for at, amount in ledger.items() if start <= at < end)
