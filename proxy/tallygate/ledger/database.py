"""The ledger's database: SQLite in the data directory, or PostgreSQL. All differences between the two are here.

SQLite: write-ahead log, synchronous=FULL, one connection that writes, others that only read.
PostgreSQL: entries are partitioned by month (`entry_months`).
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from threading import Semaphore
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Select,
    any_,
    bindparam,
    column,
    create_engine,
    event,
    func,
    inspect,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import Table
from sqlalchemy.util import greenlet_spawn

from tallygate.domain.errors import ConfigError
from tallygate.domain.obstacle import Obstacle
from tallygate.ledger.postgres_url import CONNECT_SECONDS, READ_REPLICA, PostgresUrl, parse_postgres_url
from tallygate.shares.threads import Threads

READERS_MAX: Final = 4
# Of a file that is new. Events of many organizations change a row each on many pages, which are written whole; half a page of the
# default is still more than an entry.
PAGE_BYTES: Final = 2_048
WAL_BYTES_MAX: Final = 4_194_304  # of SQLite's log, which is carried over when it has as many, and then begins anew, cut to this
WRITERS_MAX: Final = 4  # PostgreSQL; SQLite has one
READER_MEMORY: Final = "32MB"  # PostgreSQL, for a sort or sums: with its default, 4 MB, sums of 90 days were sorted on disk
BUSY_MS: Final = 5_000  # the time for which SQLite waits for another process's write
COMMAND_BUSY_MS: Final = 30_000  # the same of a command: it stands in no queue, and finds a gap between a busy ledger's writes
TURN_SECONDS: Final = 30.0  # for which a transaction in a thread waits for others of this process
MIGRATION_WAITS: Final = 6  # times BUSY_MS: the time for which a starting process waits for another's migration in SQLite
STATEMENT_SECONDS: Final = 60  # PostgreSQL ends a query that takes longer
_SQLITE: Final = "sqlite+aiosqlite"
_PLAIN_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = "postgresql+asyncpg://"
_POSTGRESQL_NAMES: Final = ("postgresql", "postgres")
_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_FOR_WRITING: Final = "BEGIN IMMEDIATE"
_FOR_READING: Final = "BEGIN"
Question = Callable[[Connection, Mapping[str, Any]], Sequence[tuple[Any, ...]]]  # the rows for these parameters
VERSION_TABLE: Final = "ledger_version"
# Versions that are committed by themselves: what follows takes long, and writers of the version before go on meanwhile.
MILESTONES: Final = ("0024",)
_MIGRATION_LOCK: Final = 0x7467_6C65  # any number that only the ledger's migrations use


_LOG_POSITION: Final = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()), "
    "(SELECT oid::bigint FROM pg_database WHERE datname = current_database()), pg_is_in_recovery(), "
    "pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0')"
    "::bigint"
)


# Why a database that answers does not do what it is asked, by SQLite's primary result code (sqlite.org/rescode.html) or
# PostgreSQL's SQLSTATE ("PostgreSQL Error Codes" of its manual).
_FULL: Final = Obstacle("disk", "takes no writes: its disk is full")
_READ_ONLY: Final = Obstacle("read_only", "takes no writes: it is read-only, or a standby")
_MEMORY: Final = Obstacle("memory", "takes no writes: it is out of memory")
LOCKED: Final = Obstacle("locked", "takes no writes: another process keeps it locked")
_DAMAGED: Final = Obstacle("damaged", "takes no writes: its file is damaged, or is no SQLite database")
_PERMISSION: Final = Obstacle("permission", "takes no writes: its user lacks a privilege on the ledger's tables")
_OBSTACLES: Final[Mapping[int | str, Obstacle]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: Obstacle("disk", "takes no writes: its disk fails, or is full"),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Obstacle("permission", "takes no writes: its file cannot be opened"),
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_NOMEM: _MEMORY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    "53100": _FULL,
    "25006": _READ_ONLY,
    "53200": _MEMORY,
    "55P03": LOCKED,  # after a lock_timeout
    "42501": _PERMISSION,
    "53300": Obstacle("connections", "takes no writes: it has no connection left (max_connections)"),
    "57P03": Obstacle("loading", "takes no writes yet: it is starting, or recovers"),
    "28P01": Obstacle("password", "does not accept the user or the password"),
    "28000": Obstacle("password", "does not accept the user"),
}


GONE: Final = Obstacle("gone", "was deleted or replaced while it is in use: put back what was there, or restart")
MISSING: Final = Obstacle("missing", "is not there: put its file back, or start `tallygate serve` to make a new one")
OLD_TABLES: Final = Obstacle("tables", "does not have the tables of this version yet: `tallygate ledger`, or `serve`, makes them")
NEW_TABLES: Final = Obstacle("tables", "has tables of a newer version: run the newer tallygate that wrote them")


class LedgerUnavailableError(Exception):
    """The database is away, locked, full or too slow: the operation did not happen, and may be retried.

    obstacle   why, where the database says so; None if it did not answer
    """

    def __init__(self, message: str, obstacle: Obstacle | None = None) -> None:
        super().__init__(message)
        self.obstacle = obstacle

    @property
    def reason(self) -> str:
        """The rest of a sentence that begins with the database."""
        return f"does not answer: {self}" if self.obstacle is None else f"{self.obstacle.text} ({self})"


class LogPosition(NamedTuple):
    """Where a PostgreSQL server is in its log.

    server       of which cluster of servers, and which database there: the same at a primary and its standbys
    is_standby   follows another server
    lsn          how far the log is written, or at a standby replayed
    """

    server: tuple[int, int]
    is_standby: bool
    lsn: int


class UnstorableError(Exception):
    """The database will never accept the values: text or numbers that do not fit."""


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
        threaded: "_Threaded | None" = None,
        asking: "_Threaded | None" = None,
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
        with _translated():
            self._require_file()
            async with self._turn, self._writer.begin() as connection:
                await self._require_tables(connection)
                yield connection

    async def transact(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do `work` in a transaction, committed at its end, undone by an exception. Raises LedgerUnavailableError, UnstorableError.

        For work of many statements. With SQLite all of it is done in one turn of a thread: each way there and back costs more than
        most statements. Whoever is cancelled here does not know whether it was committed.
        """
        with _translated():
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
        with _translated():
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
        with _translated():
            self._require_file()
            return await self._threads.do(partial(self._asking.do, work))

    def question(self, statement: Select[Any]) -> "Question":
        """The rows of a statement that is asked again and again, made once. For `ask`."""
        return _question_in_sqlite(statement) if self.dialect == "sqlite" else partial(_rows_of, statement)

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
        version = await connection.run_sync(_version)
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
            new = set(map(tuple, connection.execute(_insertion_of_arrays(table), _arrays(table.columns, rows))))
            places = [list(table.columns).index(column) for column in key]
            return [tuple(row[place] for place in places) in new for row in rows]
        cursor, statement = connection.connection.cursor(), _insertion_of_rows(table)
        return [cursor.execute(statement, row).rowcount > 0 for row in rows]

    def insert_numbered(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """Insert rows that the database numbers, `id`, and that are not there; return the numbers of those that are new.

        rows   in the order of the table's columns after its number, and sorted, so that two writers never deadlock
        """
        if not rows:
            return {}
        if self.dialect == "postgresql":
            columns = [column for column in table.columns if column.name != "id"]
            found = connection.execute(_numbered_insertion_of_arrays(table), _arrays(columns, rows))
            return {tuple(row[1:]): row[0] for row in found}
        cursor, statement, made = connection.connection.cursor(), _numbered_insertion_of_rows(table), dict[tuple[Any, ...], int]()
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
            connection.execute(_addition_of_arrays(table, amounts), _arrays(table.columns, rows))
        else:
            run_in_sqlite(connection, _addition_of_rows(table, amounts), rows)

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
            with _translated():
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
                    return await connection.run_sync(_upgrade)
            except LedgerUnavailableError as error:
                if not waits_left or not _is_locked(error):
                    raise
        raise AssertionError("unreachable")

    async def version(self) -> str | None:
        """The version of the tables; None without any, or without a file. Raises LedgerUnavailableError."""
        if self._file is not None and self._file.is_missing():
            return None
        with _translated():
            self._require_same_file()
            async with self._reader.connect() as connection:
                return await connection.run_sync(_version)

    async def position(self) -> LogPosition:
        """Where a PostgreSQL server is, over a connection that no reader has. Raises LedgerUnavailableError."""
        with _translated():
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


def open_read_replica(url: str) -> Database:
    """A standby of the ledger's PostgreSQL, which another process migrates. Raises ConfigError, as open_database."""
    if url.partition(":")[0].partition("+")[0] not in _POSTGRESQL_NAMES:
        raise ConfigError(("TALLYGATE_DATABASE_READ_URL must begin with postgresql://",))
    database = _open_postgresql(parse_postgres_url(url, READ_REPLICA), STATEMENT_SECONDS)
    database.expect_tables()
    return database


def open_database(url: str, data_dir: Path, *, statement_seconds: int = STATEMENT_SECONDS, is_command: bool = False) -> Database:
    """The database of a URL such as postgresql://user:password@host/name or sqlite:////path; empty: SQLite in the data directory.

    is_command   wait longer for others that write to a SQLite file

    Connects on first use. Raises ConfigError, which never quotes the URL, since it may contain a password.
    """
    match url.partition(":")[0].partition("+")[0]:
        case "":
            return _open_sqlite(URL.create(_SQLITE, database=str(data_dir / "ledger.db")), is_command=is_command)
        case name if name in _POSTGRESQL_NAMES:
            return _open_postgresql(parse_postgres_url(url), statement_seconds)
        case "sqlite" if (file := url.partition(":///")[2]) and file != ":memory:":
            return _open_sqlite(make_url(url).set(drivername=_SQLITE), is_command=is_command)
    raise ConfigError(("TALLYGATE_DATABASE_URL must begin with postgresql:// or sqlite:/// and a path",))


async def log_position(connection: AsyncConnection) -> LogPosition:
    """Where the PostgreSQL server of a connection is in its log."""
    system, database, is_standby, lsn = (await connection.execute(_LOG_POSITION)).one()
    return LogPosition((system, database), is_standby, lsn)


def _open_sqlite(url: URL, *, is_command: bool) -> Database:
    file = OpenFile(Path(url.database or ""))
    waits = {"timeout": (COMMAND_BUSY_MS if is_command else BUSY_MS) / 1000}
    writer = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=waits)
    threaded = create_engine(url.set(drivername=_PLAIN_SQLITE), pool_size=1, max_overflow=0, connect_args=waits)
    reader = create_async_engine(url, pool_size=READERS_MAX, max_overflow=0, connect_args=waits)
    asking = create_engine(url.set(drivername=_PLAIN_SQLITE), pool_size=READERS_MAX, max_overflow=0, connect_args=waits)
    for_writing = (
        f"page_size={PAGE_BYTES}",
        "journal_mode=WAL",
        f"journal_size_limit={WAL_BYTES_MAX}",
        f"wal_autocheckpoint={WAL_BYTES_MAX // PAGE_BYTES}",
        "synchronous=FULL",
        "cache_size=-65536",
    )
    for_reading = ("query_only=ON", "cache_size=-65536", "mmap_size=1073741824", "temp_store=MEMORY")
    for engine in (writer.sync_engine, threaded):
        _prepare_sqlite(engine, for_writing, file)
    for engine in (reader.sync_engine, asking):
        _prepare_sqlite(engine, for_reading, file)
    _begin_with(writer.sync_engine, _FOR_WRITING)
    _begin_with(reader.sync_engine, _FOR_READING)
    return Database(
        writer,
        reader,
        file,
        threaded=_Threaded(threaded, _FOR_WRITING, most=1),
        asking=_Threaded(asking, _FOR_READING, most=READERS_MAX),
        address=str(file.path.absolute()),
        migration_waits=1 if is_command else MIGRATION_WAITS,
    )


def _prepare_sqlite(engine: Engine, pragmas: tuple[str, ...], file: OpenFile) -> None:
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        file.note_opened()

    event.listen(engine, "connect", connected)


def _begin_with(engine: Engine, begin: str) -> None:
    """Begin transactions explicitly: the driver's begin too late, so a read that becomes a write fails if another process wrote."""

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", begun)


def _open_postgresql(url: PostgresUrl, statement_seconds: int) -> Database:
    options: dict[str, Any] = {
        "pool_pre_ping": True,
        "max_overflow": 0,
        "pool_timeout": CONNECT_SECONDS,
        "connect_args": {
            "async_creator_fn": url.connect,
            "command_timeout": statement_seconds,
        },
    }
    writer = create_async_engine(_POSTGRESQL, pool_size=WRITERS_MAX, **options)
    reader = create_async_engine(
        _POSTGRESQL,
        pool_size=READERS_MAX,
        isolation_level="REPEATABLE READ",  # one snapshot
        execution_options={"postgresql_readonly": True},
        **options,
    )
    event.listen(reader.sync_engine, "begin", _set_for_reading)
    for engine in (writer, reader):
        event.listen(engine.sync_engine, "handle_error", _drop_a_standby)
    return Database(writer, reader, address=url.address)


def _set_for_reading(connection: Connection) -> None:
    """No compiling, which takes longer than answering, and room for sums.

    For this transaction alone: a pooler's sessions are others' too.
    """
    connection.exec_driver_sql(f"SELECT set_config('jit', 'off', true), set_config('work_mem', '{READER_MEMORY}', true)")


def _drop_a_standby(context: ExceptionContext) -> None:
    """A server that became a standby answers, and takes no writes: another connection finds the one that does."""
    if _OBSTACLES.get(getattr(context.original_exception, "sqlstate", "")) is _READ_ONLY:
        context.is_disconnect = True


def versions() -> list[str]:
    """The versions of the migrations, in their order: the number of each file, such as "0010" of v0010_retired_by_whom.py."""
    names = (file.name for file in files("tallygate.ledger.migrations.versions").iterdir())
    return sorted(name[1:5] for name in names if name.startswith("v") and name.endswith(".py"))


def newest_version() -> str:
    return versions()[-1]


def version_problem(version: str | None) -> str | None:
    """Why tables of this version cannot be used; None if they can, migrated or not."""
    if version is None or version in versions():
        return None
    return (
        f"the ledger's tables are of version {version}, and this tallygate knows versions up to {newest_version()}: "
        "run the newer tallygate that wrote them, or restore a backup from before it"
    )


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    """Migrate up to the next milestone; the versions before and after. Each start looks at least, and importing alembic is slow."""
    before = _version(connection)
    if before == newest_version():
        return before, before
    if problem := version_problem(before):
        raise ConfigError((problem,))
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces its plugins, and each step of the way
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "tallygate.ledger:migrations")
    config.attributes["connection"] = connection
    reached = next((version for version in MILESTONES if before is None or before < version), newest_version())
    command.upgrade(config, reached)
    return before, reached


def _version(connection: Connection) -> str | None:
    """The version of the tables; None for a database without any."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar_one_or_none()
    return found


def _is_locked(error: LedgerUnavailableError) -> bool:
    """Return whether another process was writing to the SQLite file for all of BUSY_MS."""
    return getattr(_driver_error(error.__cause__), "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _nobody() -> None:
    """Nobody wants to know."""


class _Threaded:
    """Transactions of SQLite, each in one turn of a thread.

    Connections stay open, and the driver itself begins and ends: where it is done once in a while, SQLAlchemy's way there and back
    takes 0.3 ms, since none of its code is in the processor's memory any more.

    begin   the statement
    most    of them at once; others wait, as for one whose caller was cancelled
    """

    def __init__(self, engine: Engine, begin: str, *, most: int) -> None:
        self.engine = engine
        self._begin = begin
        self._places = Semaphore(most)
        self._idle: list[Connection] = []

    def do(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do work in a transaction: committed at its end, undone by an exception."""
        if not self._places.acquire(timeout=TURN_SECONDS):
            raise TimeoutError("others keep the database busy")
        try:
            return self._do(work)
        finally:
            self._places.release()

    def _do(self, work: Callable[[Connection], _Result]) -> _Result:
        connection = self._idle_one() or self.engine.connect()
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(self._begin)
            done = work(connection)
            driver.commit()
        except BaseException:
            driver.rollback()
            self._give_back(connection)
            raise
        self._give_back(connection)
        return done

    def _idle_one(self) -> Connection | None:
        try:
            return self._idle.pop()  # two threads may ask at once
        except IndexError:
            return None

    def _give_back(self, connection: Connection) -> None:
        if connection.in_transaction():
            connection.rollback()  # SQLAlchemy's own account of what is over
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()


def _rows_of(statement: Select[Any], connection: Connection, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    return list(map(tuple, connection.execute(statement, parameters)))


def _question_in_sqlite(statement: Select[Any]) -> Question:
    """By the driver itself: SQLAlchemy's way to a statement that it knows, and to its rows, takes as long as most answers."""
    compiled = statement.compile(dialect=sqlite.dialect())
    text, names, own = str(compiled), compiled.positiontup or (), compiled.params

    def rows(connection: Connection, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        values = [parameters[name] if name in parameters else own[name] for name in names]
        cursor = connection.connection.cursor()
        cursor.execute(text, values)
        return cursor.fetchall()

    return rows


def run_in_sqlite(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run a statement for each row, by the driver itself."""
    connection.connection.cursor().executemany(statement, rows)


def sqlite_text(statement: Any, **told: Any) -> str:
    """The text of a statement with a mark for each value: SQLAlchemy's way to it, row by row, takes longer than the driver."""
    return str(statement.compile(dialect=sqlite.dialect(), **told))


@cache
def _insertion_of_arrays(table: Table) -> Executable:
    return _insert_of_arrays(table, table.columns).on_conflict_do_nothing().returning(*table.primary_key.columns)


@cache
def _insertion_of_rows(table: Table) -> str:
    return sqlite_text(sqlite.insert(table).on_conflict_do_nothing())


@cache
def _addition_of_arrays(table: Table, amounts: tuple[str, ...]) -> Executable:
    statement: Executable = _adding(_insert_of_arrays(table, table.columns), table, amounts)
    return statement


@cache
def _addition_of_rows(table: Table, amounts: tuple[str, ...]) -> str:
    return sqlite_text(_adding(sqlite.insert(table), table, amounts))


@cache
def _numbered_insertion_of_arrays(table: Table) -> Executable:
    columns = [column for column in table.columns if column.name != "id"]
    return _insert_of_arrays(table, columns).on_conflict_do_nothing().returning(*table.columns)


@cache
def _numbered_insertion_of_rows(table: Table) -> str:
    statement = sqlite.insert(table).on_conflict_do_nothing().returning(table.c.id)
    return sqlite_text(statement, column_keys=[column.name for column in table.columns if column.name != "id"])


def _insert_of_arrays(table: Table, columns: Iterable[Column[Any]]) -> postgresql.Insert:
    """An insert of many rows whose parameters are these columns of theirs, each as an array."""
    names = [column.name for column in columns]
    arrays = (bindparam(name, type_=postgresql.ARRAY(table.c[name].type)) for name in names)
    return postgresql.insert(table).from_select(names, select(func.unnest(*arrays).table_valued(*names).render_derived()))


def _arrays(columns: Iterable[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip((column.name for column in columns), map(list, zip(*rows, strict=True)), strict=True))


def _adding(statement: Any, table: Table, amounts: Sequence[str]) -> Any:
    sums = {name: table.c[name] + statement.excluded[name] for name in amounts}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=sums)


@contextmanager
def _translated() -> Iterator[None]:
    """Translate drivers' errors. Errors that are not about the data may pass with time, and are never blamed on an event."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        orig = _driver_error(error)
        if _is_about_data(error):
            raise UnstorableError(f"{type(orig).__name__}: {orig}") from error
        raise LedgerUnavailableError(str(orig), _obstacle_of(orig)) from error
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise LedgerUnavailableError(str(error) or type(error).__name__) from error


def _driver_error(error: BaseException | None) -> object:
    """What the driver raised, whether SQLAlchemy has wrapped it or not."""
    return getattr(error, "orig", error)


def _obstacle_of(error: object) -> Obstacle | None:
    state, code = getattr(error, "sqlstate", None), getattr(error, "sqlite_errorcode", None)
    key = state if code is None else code & 0xFF  # the primary code is the last byte of an extended one
    return None if key is None else _OBSTACLES.get(key)


def _is_about_data(error: DBAPIError | sqlite3.Error) -> bool:
    """Return whether the database refuses the values themselves (SQLSTATE class 22 and 23), however often it is tried."""
    orig = _driver_error(error)
    state = getattr(orig, "sqlstate", None)
    return (
        isinstance(error, (DataError, IntegrityError, sqlite3.DataError, sqlite3.IntegrityError))
        or isinstance(getattr(orig, "__cause__", None), (ValueError, OverflowError))  # the driver could not encode it
        or (state is not None and state[:2] in {"22", "23"})
    )
