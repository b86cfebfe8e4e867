"""The months of a PostgreSQL ledger's entries: a partition for each, of the ids that begin with a time in it. SQLite has one table.

All entries of an event have its id, so they lie in one partition, and the key (event_id, sequence) is unique over all of them. What
no month's partition covers lies in `entries_other`: ids ahead of their time, of months that were dropped, of somebody's own making.
So no event needs a partition to be stored, and whatever keeps one from being made or dropped now may wait: nobody who reads or
writes entries waits for it longer than LOCK_TIMEOUT.
"""

import logging
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LOCKED, LedgerUnavailableError
from tallygate.ledger.schema import ENTRIES

MONTHS_AHEAD: Final = 2  # partitions that exist before their month begins
MOVED_MAX: Final = 50_000  # entries that a new partition takes from `entries_other`: about a second
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '500ms'"
_LOCK_ALL: Final = "LOCK TABLE ONLY entries IN ACCESS EXCLUSIVE MODE"  # before the partition, as everybody does
_NAME: Final = re.compile(r"entries_(\d{4})_(\d{2})")
_PARTITIONS: Final = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass")
_AHEAD: Final = text(
    "SELECT count(*) FROM (SELECT FROM entries_other WHERE event_id >= :first_id AND event_id < :end_id LIMIT :most) found"
)
_COLUMNS: Final = ", ".join(column.name for column in ENTRIES.columns)
_log = logging.getLogger(__name__)


class EntryMonth(NamedTuple):
    """A calendar month in UTC; number: 1 to 12."""

    year: int
    number: int

    @classmethod
    def at(cls, at_ms: int) -> "EntryMonth":
        """The month of an instant. Raises ValueError or OverflowError beyond the year 9999."""
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
        return cls(moment.year, moment.month)

    @property
    def next(self) -> "EntryMonth":
        return EntryMonth(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def start_ms(self) -> int:
        return round(datetime(self.year, self.number, 1, tzinfo=UTC).timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        """The start of the next."""
        return self.next.start_ms

    @property
    def first_id(self) -> str:
        """What every event id of this month or a later one is not below: their first 12 digits are milliseconds."""
        return f"{self.start_ms:012x}"

    @property
    def end_id(self) -> str:
        """What every event id of this month or an earlier one is below."""
        return f"{self.end_ms:012x}"

    @property
    def table(self) -> str:
        """The name of its partition."""
        return f"entries_{self.year:04d}_{self.number:02d}"


class EntryMonths:
    """The partitions of one ledger; there are none on SQLite. Every method raises LedgerUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, from_ms: int, to_ms: int) -> None:
        """Make a partition for every month that [from_ms, to_ms] touches, and for MONTHS_AHEAD more.

        Several ledgers may do so at once. While somebody keeps the table locked, the rest is left to the next call.
        """
        if self._database.dialect != "postgresql":
            return
        month, last = EntryMonth.at(from_ms), EntryMonth.at(to_ms)
        for _ in range(MONTHS_AHEAD):
            last = last.next
        existing = set(await self._existing())
        while month <= last:
            if month not in existing and not await self._made(month):
                return
            month = month.next

    async def past(self, now_ms: int) -> list[EntryMonth]:
        """The months before that of now_ms which have a partition, in their order."""
        if self._database.dialect != "postgresql":
            return []
        return sorted(month for month in await self._existing() if month < EntryMonth.at(now_ms))

    async def drop_empty(self, now_ms: int) -> None:
        """Drop empty partitions of past months. One that is in use stays until the next time."""
        for month in await self.past(now_ms):
            try:
                async with self._database.write() as connection:
                    await connection.execute(text(LOCK_TIMEOUT))
                    await connection.execute(text(_LOCK_ALL))
                    await connection.execute(text(f"LOCK TABLE {month.table} IN ACCESS EXCLUSIVE MODE"))
                    if (await connection.execute(text(f"SELECT 1 FROM {month.table} LIMIT 1"))).first() is None:  # noqa: S608  # a name of ours
                        await connection.execute(text(f"DROP TABLE {month.table}"))
            except LedgerUnavailableError as error:
                _put_off(error, month, "dropped")

    async def _existing(self) -> list[EntryMonth]:
        async with self._database.read() as connection:
            names = (await connection.execute(_PARTITIONS)).scalars()
            return [EntryMonth(*map(int, found.groups())) for name in names if (found := _NAME.fullmatch(name))]

    async def _made(self, month: EntryMonth) -> bool:
        """Return whether somebody may go on to the next month."""
        try:
            async with self._database.write() as connection:
                await self._database.wait_for_turn(connection, "months")
                if month.table not in set((await connection.execute(_PARTITIONS)).scalars()):
                    await _make(connection, month)
        except LedgerUnavailableError as error:
            _put_off(error, month, "made")
            return False
        return True


async def _make(connection: AsyncConnection, month: EntryMonth) -> None:
    """Make a month's partition with what lies in `entries_other` of it, from a clock that was ahead or while it was put off.

    Of too many entries the month stays there.
    """
    ids = {"first_id": month.first_id, "end_id": month.end_id}
    if (await connection.execute(_AHEAD, {**ids, "most": MOVED_MAX + 1})).scalar_one() > MOVED_MAX:
        return
    await connection.execute(text(LOCK_TIMEOUT))
    await connection.execute(text(_LOCK_ALL))
    await connection.execute(text(f"CREATE TABLE {month.table} (LIKE entries INCLUDING DEFAULTS)"))
    moved = f"DELETE FROM entries_other WHERE event_id >= :first_id AND event_id < :end_id RETURNING {_COLUMNS}"  # noqa: S608  # names of ours
    insertion = f"INSERT INTO {month.table} ({_COLUMNS}) SELECT * FROM moved"  # noqa: S608
    await connection.execute(text(f"WITH moved AS ({moved}) {insertion}"), ids)
    bounds = f"FROM ('{month.first_id}') TO ('{month.end_id}')"
    await connection.execute(text(f"ALTER TABLE entries ATTACH PARTITION {month.table} FOR VALUES {bounds}"))


def _put_off(error: LedgerUnavailableError, month: EntryMonth, what: str) -> None:
    """Raises the error if it is not a lock that somebody has."""
    if error.obstacle is not LOCKED:
        raise error
    _log.info("a partition is %s later: somebody uses the table", what, extra={"fields": {"partition": month.table}})
