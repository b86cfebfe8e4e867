"""How far each of the limiter's streams is stored, by the time in the id of its newest stored entry."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.row_statements import run_in_sqlite, sqlite_text
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


def _forward(inserted: Any) -> Any:
    """An insert that moves the row on that is there, never back."""
    return inserted.on_conflict_do_update(
        index_elements=[STREAM_POSITIONS.c.partition],
        set_={"taken_ms": inserted.excluded.taken_ms},
        where=STREAM_POSITIONS.c.taken_ms < inserted.excluded.taken_ms,
    )


_MOVE: Final = _forward(postgresql.insert(STREAM_POSITIONS))
_MOVE_IN_SQLITE: Final = sqlite_text(_forward(sqlite.insert(STREAM_POSITIONS)), column_keys=["partition", "taken_ms"])


class StreamPositions:
    """Moves the positions of one database, as one of any number of writers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections = 0  # of the database, when its positions were last compared
        self._kept: dict[int, int] = {}

    def record(self, connection: Connection, taken: Mapping[int, int]) -> None:
        """Move positions forward, never back, in the transaction that stores the entries, and in an order that two writers share.

        Raises LedgerUnavailableError if a new connection leads to an older state of the database than was committed before:
        it is to be compared with the store before anything moves it on.
        """
        if not taken:
            return
        if self._connections != self._database.connections:
            self._require_as_new(connection)
            self._connections = self._database.connections
        rows = sorted(taken.items())
        if self._database.dialect == "sqlite":
            run_in_sqlite(connection, _MOVE_IN_SQLITE, rows)
        else:
            connection.execute(_MOVE, [{"partition": partition, "taken_ms": at_ms} for partition, at_ms in rows])

    def keep(self, taken: Mapping[int, int]) -> None:
        """Remember what was committed."""
        for partition, at_ms in taken.items():
            self._kept[partition] = max(self._kept.get(partition, 0), at_ms)

    def _require_as_new(self, connection: Connection) -> None:
        rows = connection.execute(select(STREAM_POSITIONS.c.partition, STREAM_POSITIONS.c.taken_ms))
        found = {row.partition: row.taken_ms for row in rows}
        kept, self._kept = self._kept, {}
        if any(found.get(partition, 0) < at_ms for partition, at_ms in kept.items()):
            raise LedgerUnavailableError("the database is older than what was committed to it: it is compared with the store")
        self._kept = kept
