"""How far each of the limiter's streams is stored, by the time in the id of its newest stored entry."""

from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.schema import STREAM_POSITIONS


def time_of_id(entry_id: bytes) -> int:
    """The time in an entry's id, `ms-sequence`: when its stream took it."""
    return int(entry_id.partition(b"-")[0])


def newest_of(entries: Iterable[tuple[int, bytes]]) -> dict[int, int]:
    """By partition, the latest time in the ids of (partition, id) pairs."""
    newest: dict[int, int] = {}
    for partition, entry_id in entries:
        newest[partition] = max(newest.get(partition, 0), time_of_id(entry_id))
    return newest


async def record_taken(connection: AsyncConnection, database: Database, taken: Mapping[int, int]) -> None:
    """Move positions forward, in the transaction that stores the entries; never back. The order keeps two writers from deadlock."""
    if not taken:
        return
    statement = database.insert(STREAM_POSITIONS)
    statement = statement.on_conflict_do_update(
        index_elements=[STREAM_POSITIONS.c.partition],
        set_={"taken_ms": statement.excluded.taken_ms},
        where=STREAM_POSITIONS.c.taken_ms < statement.excluded.taken_ms,
    )
    await connection.execute(statement, [{"partition": partition, "taken_ms": at_ms} for partition, at_ms in sorted(taken.items())])
