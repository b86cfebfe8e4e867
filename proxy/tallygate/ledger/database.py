"""The ledger's database, SQLite or PostgreSQL: transactions, questions, locks and the tables' version, alike for whoever uses it.

`opening` makes one of a URL and sets up its connections; `row_statements` has how either takes many rows.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    any_,
    bindparam,
    column,
    event,
    func,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import Table
from sqlalchemy.util import greenlet_spawn

from tallygate.ledger.database_errors import GONE, MISSING, NEW_TABLES, OLD_TABLES, LedgerUnavailableError, is_locked, translated
from tallygate.ledger.row_statements import (
    Question,
    addition_of_arrays,
    addition_of_rows,
    arrays,
    insertion_of_arrays,
    insertion_of_rows,
    numbered_insertion_of_arrays,
    numbered_insertion_of_rows,
    question_in_sqlite,
    rows_of,
    run_in_sqlite,
)
from tallygate.ledger.table_version import VERSION_TABLE, newest_version, upgrade, version_of, version_problem
from tallygate.ledger.threaded_transactions import ThreadedTransactions
from tallygate.shares.threads import Threads

READERS_MAX: Final = 4
MIGRATION_WAITS: Final = 6  # times BUSY_MS: the time for which a starting process waits for another's migration in SQLite
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_MIGRATION_LOCK: Final = 0x7467_6C65  # any number that only the ledger's migrations use


_LOG_POSITION: Final = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()), "
    "(SELECT oid::bigint FROM pg_database WHERE datname = current_database()), pg_is_in_recovery(), "
    "pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0')"
    "::bigint"
)


class LogPosition(NamedTuple):
    """Where a PostgreSQL server is in its log.

    server       of which cluster of servers, and which database there: the same at a primary and its standbys
    is_standby   follows another server
    lsn          how far the log is written, or at a standby replayed
    """

    server: tuple[int, int]
    is_standby: bool
    lsn: int


class Database:
    """Connections to one ledger. Belongs to one event loop; `migrate` or `expect_tables` before use, `close` at the end.

    address       where it is, without anything secret: two of the same address are taken for one database
    dialect       "sqlite" or "postgresql"
    on_commit     called after each transaction of `transact`
    connections   how many it has opened to write, so far: behind a new one may be another state of the database
    """

    def __init__(
        self,
        writer: AsyncEngine,
        reader: AsyncEngine,
        file: "OpenFile | None" = None,
        *,
        threaded: ThreadedTransactions | None = None,
        asking: ThreadedTransactions | None = None,
        address: str,
        migration_waits: int = MIGRATION_WAITS,
    ) -> None:
        self.address = address
        self._migration_waits = migration_waits
        self._writer = writer
        self._reader = reader
        self._file = file
        self._threaded = threaded
        self._asking = asking
        # Its own: with a disk that hangs, these threads hang, and no others.
        self._threads = Threads(1 + READERS_MAX, name="ledger")
        # Both of SQLite's connections that write take turns here: who waits for its lock looks at it again and again, with pauses.
        self._turn: AbstractAsyncContextManager[object] = nullcontext() if threaded is None else asyncio.Lock()
        self.dialect = writer.dialect.name
        self._expects_tables = False
        self.on_commit: Callable[[], None] = _nobody
        self.connections = 0
        for engine in (writer.sync_engine, *([] if threaded is None else [threaded.engine])):
            event.listen(engine, "connect", self._count_connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, undone by an exception. Raises LedgerUnavailableError, UnstorableError."""
        with translated():
            self._require_file()
            async with self._turn, self._writer.begin() as connection:
                await self._require_tables(connection)
                yield connection

    async def transact(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do `work` in a transaction, committed at its end, undone by an exception. Raises LedgerUnavailableError, UnstorableError.

        For work of many statements. With SQLite all of it is done in one turn of a thread: each way there and back costs more than
        most statements. Whoever is cancelled here does not know whether it was committed.
        """
        with translated():
            self._require_file()
            if self._threaded is None or self._expects_tables:
                async with self._turn, self._writer.begin() as connection:
                    await self._require_tables(connection)
                    done = await connection.run_sync(work)
            else:
                async with self._turn:
                    done = await self._threads.do(partial(self._threaded.do, work))
        self.on_commit()
        return done

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view of committed data. Raises LedgerUnavailableError."""
        with translated():
            self._require_file()
            async with self._reader.connect() as connection:
                await self._require_tables(connection)
                yield connection

    async def ask(self, work: Callable[[Connection], _Result]) -> _Result:
        """The answer of `work`, which only reads. For what is asked again and again. Raises LedgerUnavailableError.

        With SQLite it is one turn of a thread, as `transact`.
        """
        if self._asking is None or self._expects_tables:
            async with self.read() as connection:
                return await connection.run_sync(work)
        with translated():
            self._require_file()
            return await self._threads.do(partial(self._asking.do, work))

    def question(self, statement: Select[Any]) -> Question:
        """The rows of a statement that is asked again and again, made once. For `ask`."""
        return question_in_sqlite(statement) if self.dialect == "sqlite" else partial(rows_of, statement)

    def expect_tables(self) -> None:
        """Read and write nothing before the tables are those of this version, which another process makes them by `migrate`."""
        self._expects_tables = True

    async def check_writes(self) -> None:
        """Write something small and commit it. Raises LedgerUnavailableError, whose `obstacle` says why no writes are taken.

        The row of the version is as it was: PostgreSQL writes it all the same, and SQLite a number of its header that nobody reads.
        """
        version = table(VERSION_TABLE, column("version_num"))
        same = update(version).values(version_num=version.c.version_num)
        statement = text("PRAGMA user_version = 1") if self.dialect == "sqlite" else same

        def write(connection: Connection) -> None:
            connection.execute(statement)

        await self.transact(write)

    def _count_connection(self, _connection: Any, _record: Any) -> None:
        self.connections += 1

    def _require_file(self) -> None:
        """The same, and while another process is to make the tables also without a file: to connect would make an empty one."""
        self._require_same_file()
        if self._expects_tables and self._file is not None and self._file.is_missing():
            raise LedgerUnavailableError(f"{self._file.path} {MISSING.text}", MISSING)

    def _require_same_file(self) -> None:
        """Raises LedgerUnavailableError if the file was deleted or replaced: whatever is written there would be lost."""
        if self._file is not None and self._file.is_gone():
            raise LedgerUnavailableError(f"{self._file.path} {GONE.text}", GONE)

    async def _require_tables(self, connection: AsyncConnection) -> None:
        """Raises LedgerUnavailableError while the tables are of another version. Nobody looks again once they are right."""
        if not self._expects_tables:
            return
        version = await connection.run_sync(version_of)
        if version != newest_version():
            obstacle = NEW_TABLES if version_problem(version) else OLD_TABLES
            raise LedgerUnavailableError(f"version {version or 'none'}, and this tallygate needs {newest_version()}", obstacle)
        self._expects_tables = False

    async def wait_for_turn(self, connection: AsyncConnection, name: str) -> None:
        """Wait for a named lock, held until this transaction ends. SQLite has one writer anyway."""
        if self.dialect == "postgresql":
            await connection.run_sync(self.take_turn, name)

    def take_turn(self, connection: Connection, name: str) -> None:
        """The same within `transact`."""
        if self.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    def among(self, column: ColumnElement[str], name: str) -> ColumnElement[bool]:
        """Whether a column is one of the values of a parameter, given by `as_list`. SQLAlchemy writes its IN anew each time."""
        if self.dialect == "postgresql":
            return column == any_(bindparam(name, type_=postgresql.ARRAY(column.type)))
        return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))

    def as_list(self, values: Sequence[str]) -> list[str] | str:
        return list(values) if self.dialect == "postgresql" else json.dumps(values)

    def insert(self, table: Table) -> Any:
        """INSERT with this database's ON CONFLICT."""
        return (postgresql.insert if self.dialect == "postgresql" else sqlite.insert)(table)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> list[bool]:
        """Insert rows whose keys are not there; return of each whether it is new.

        rows   in the order of the table's columns, each with a key of its own, and sorted, so that two writers never deadlock
        """
        if not rows:
            return []
        if self.dialect == "postgresql":
            key = tuple(table.primary_key.columns)
            new = set(map(tuple, connection.execute(insertion_of_arrays(table), arrays(table.columns, rows))))
            places = [list(table.columns).index(column) for column in key]
            return [tuple(row[place] for place in places) in new for row in rows]
        cursor, statement = connection.connection.cursor(), insertion_of_rows(table)
        return [cursor.execute(statement, row).rowcount > 0 for row in rows]

    def insert_numbered(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """Insert rows that the database numbers, `id`, and that are not there; return the numbers of those that are new.

        rows   in the order of the table's columns after its number, and sorted, so that two writers never deadlock
        """
        if not rows:
            return {}
        if self.dialect == "postgresql":
            columns = [column for column in table.columns if column.name != "id"]
            found = connection.execute(numbered_insertion_of_arrays(table), arrays(columns, rows))
            return {tuple(row[1:]): row[0] for row in found}
        cursor, statement, made = connection.connection.cursor(), numbered_insertion_of_rows(table), dict[tuple[Any, ...], int]()
        for row in rows:
            cursor.execute(statement, row)
            if (number := cursor.fetchone()) is not None:
                made[row] = number[0]
        return made

    def add_to_rows(self, connection: Connection, table: Table, amounts: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Add to existing rows, create missing ones.

        rows   in the order of the table's columns, and sorted, so that two writers never deadlock
        """
        if not rows:
            return
        if self.dialect == "postgresql":  # one statement, not one for each row: it looks up a table's partitions once
            connection.execute(addition_of_arrays(table, amounts), arrays(table.columns, rows))
        else:
            run_in_sqlite(connection, addition_of_rows(table, amounts), rows)

    async def migrate(self) -> None:
        """Migrate the tables to this version; several processes may do so at once.

        Raises LedgerUnavailableError, and ConfigError for tables of a version that is not known.
        """
        first, reached = await self._migrated()
        before = first
        while reached != newest_version():
            before, reached = await self._migrated()
        if before != reached:  # and not another process, meanwhile
            _log.info("the ledger's tables were brought to version %s", reached, extra={"fields": {"before": first}})

    async def carry_over(self) -> None:
        """Write what SQLite's log has into its file now, as far as nobody reads it. Raises LedgerUnavailableError."""
        if self.dialect == "sqlite":
            with translated():
                async with self._turn, self._writer.connect() as connection:
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    await driver.execute_fetchall("PRAGMA wal_checkpoint")

    async def _migrated(self) -> tuple[str | None, str]:
        """The version that the tables had, and the one that they were brought to: the newest, or a milestone on the way there."""
        for waits_left in reversed(range(self._migration_waits)):
            try:
                async with self.write() as connection:
                    if self.dialect == "postgresql":
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                    return await connection.run_sync(upgrade)
            except LedgerUnavailableError as error:
                if not waits_left or not is_locked(error):
                    raise
        raise AssertionError("unreachable")

    async def version(self) -> str | None:
        """The version of the tables; None without any, or without a file. Raises LedgerUnavailableError."""
        if self._file is not None and self._file.is_missing():
            return None
        with translated():
            self._require_same_file()
            async with self._reader.connect() as connection:
                return await connection.run_sync(version_of)

    async def position(self) -> LogPosition:
        """Where a PostgreSQL server is, over a connection that no reader has. Raises LedgerUnavailableError."""
        with translated():
            async with self._writer.connect() as connection:
                return await log_position(connection)

    async def close_idle(self) -> None:
        """Close the connections that nobody uses now; the next ones are new. Nothing of SQLite, whose cost nothing."""
        if self.dialect != "postgresql":
            return
        for engine in (self._writer, self._reader):
            pool = engine.sync_engine.pool
            if isinstance(pool, QueuePool) and pool.checkedin() and not pool.checkedout():
                await engine.dispose(close=False)  # replaces the pool, so that nobody takes a connection that is about to close
                await greenlet_spawn(pool.dispose)

    async def close(self) -> None:
        self._threads.close()
        for threaded in (self._threaded, self._asking):
            if threaded is not None:
                threaded.close()
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()


class OpenFile:
    """The file of a SQLite ledger, as it was when it was first opened here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def note_opened(self) -> None:
        self._identity = self._identity or self._found()

    def is_gone(self) -> bool:
        """Return whether the path leads elsewhere than at first; a microsecond."""
        return self._identity is not None and self._found() != self._identity

    def is_missing(self) -> bool:
        """Return whether nothing is there, and nothing was ever opened."""
        return self._identity is None and self._found() is None

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


async def log_position(connection: AsyncConnection) -> LogPosition:
    """Where the PostgreSQL server of a connection is in its log."""
    system, database, is_standby, lsn = (await connection.execute(_LOG_POSITION)).one()
    return LogPosition((system, database), is_standby, lsn)


def _nobody() -> None:
    """Nobody wants to know."""
