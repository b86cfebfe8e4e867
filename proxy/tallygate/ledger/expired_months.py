"""Months of a PostgreSQL ledger's entries of which nothing is within anybody's history: they go at once, and not row by row.

That is so where much expires together: a plan's history was shortened, a ledger was away or was copied from another. Day by day,
rows go on their day (`retention`), and leave an empty partition. An organization that keeps its entries keeps its months.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LOCKED, LedgerUnavailableError
from tallygate.ledger.entry_months import LOCK_TIMEOUT, EntryMonth, EntryMonths
from tallygate.ledger.lifetime_spend import add_to_lifetime_spend, purged_spend, spend_within
from tallygate.ledger.schema import ENTRIES, POSTED_AMOUNTS, SPEND_BUCKETS

_C: Final = ENTRIES.c
_BUCKET: Final = _C.posted_at_ms - _C.posted_at_ms % SPEND_BUCKET_MS
Postings = Mapping[tuple[str, int, str], int]  # nano-USD by organization, bucket and credential


class ExpiredMonths:
    """Empties partitions of one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._months = EntryMonths(database)

    async def empty(self, visible_from_ms: Mapping[str, int], now_ms: int) -> int:
        """Empty the partitions of past months whose every entry is beyond its organization's history; return how many entries went.

        visible_from_ms   the start of each history; organizations that are not there keep everything

        One that is in use is left as it is. Raises LedgerUnavailableError.
        """
        removed, latest = 0, max(visible_from_ms.values(), default=0)
        for month in await self._months.past(now_ms):
            if month.end_ms > latest:
                break
            removed += await self._emptied(month, visible_from_ms)
        return removed

    async def _emptied(self, month: EntryMonth, visible_from_ms: Mapping[str, int]) -> int:
        async with self._database.read() as connection:
            if not await _is_expired(connection, month, visible_from_ms):
                return 0
        try:
            async with self._database.write() as connection:
                await connection.execute(text(LOCK_TIMEOUT))
                await connection.execute(text(f"LOCK TABLE {month.table} IN SHARE ROW EXCLUSIVE MODE"))  # who reads it may go on
                if not await _is_expired(connection, month, visible_from_ms):
                    return 0
                within = (_C.event_id >= month.first_id, _C.event_id < month.end_id)
                spent = (await connection.execute(spend_within(*within).add_columns(func.count()))).all()
                postings = await _late_postings(connection, within, visible_from_ms)
                await connection.execute(text(f"TRUNCATE {month.table}"))
                changes = purged_spend(row[:-1] for row in spent)
                await connection.run_sync(add_to_lifetime_spend, self._database, changes)
                await connection.run_sync(add_purged_postings, self._database, postings)
                return sum(row[-1] for row in spent)
        except LedgerUnavailableError as error:
            if error.obstacle is not LOCKED:
                raise
            return 0


def add_purged_postings(connection: Connection, database: Database, postings: Postings) -> None:
    """Remember what removed entries posted since the edge of the history in the buckets that have it."""
    rows = [(*place, 0, amount) for place, amount in sorted(postings.items())]
    database.add_to_rows(connection, SPEND_BUCKETS, POSTED_AMOUNTS, rows)


async def _is_expired(connection: AsyncConnection, month: EntryMonth, visible_from_ms: Mapping[str, int]) -> bool:
    """Return whether there are entries, and none within a history. One look at the index for each organization."""
    found = f"""
        WITH RECURSIVE found (org) AS (
          (SELECT org FROM {month.table} ORDER BY org LIMIT 1)
          UNION ALL
          SELECT (SELECT org FROM {month.table} WHERE org > found.org ORDER BY org LIMIT 1) FROM found WHERE found.org IS NOT NULL
        )
        SELECT org, (SELECT max(settled_at_ms) FROM {month.table} entry WHERE entry.org = found.org) AS newest_ms FROM found
        WHERE org IS NOT NULL
    """  # noqa: S608  # a name of ours
    rows = (await connection.execute(text(found))).all()
    return bool(rows) and all(row.newest_ms < visible_from_ms.get(row.org, 0) for row in rows)


async def _late_postings(connection: AsyncConnection, within: Sequence[Any], visible_from_ms: Mapping[str, int]) -> Postings:
    labels = (_C.org, _BUCKET, _C.credential)
    latest = select(*labels, func.sum(_C.posted_nano_usd)).where(*within, _C.posted_at_ms >= min(visible_from_ms.values()))
    return {
        (org, bucket_ms, credential): int(amount)
        for org, bucket_ms, credential, amount in await connection.execute(latest.group_by(*labels))
        if amount and bucket_ms >= visible_from_ms[org]
    }
