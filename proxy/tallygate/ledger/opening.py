"""Opens the ledger's database as its URL names it: SQLite, PostgreSQL, or a standby of that to read from.

SQLite: write-ahead log, synchronous=FULL, one connection that writes, others that only read.
PostgreSQL: sessions that read have one snapshot; entries are partitioned by month (`entry_months`).
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tallygate.domain.errors import ConfigError
from tallygate.ledger.database import MIGRATION_WAITS, READERS_MAX, Database, OpenFile
from tallygate.ledger.database_errors import takes_no_writes
from tallygate.ledger.postgres_url import CONNECT_SECONDS, READ_REPLICA, PostgresUrl, parse_postgres_url
from tallygate.ledger.threaded_transactions import ThreadedTransactions

# Of a file that is new. Events of many organizations change a row each on many pages, which are written whole; half a page of the
# default is still more than an entry.
PAGE_BYTES: Final = 2_048
# Of SQLite's log, which is carried over when it has as many, and then begins anew, cut to this. Most of its pages are there many
# times, and are carried over once.
WAL_BYTES_MAX: Final = 16_777_216
WRITERS_MAX: Final = 4  # PostgreSQL; SQLite has one
READER_MEMORY: Final = "32MB"  # PostgreSQL, for a sort or sums: with its default, 4 MB, sums of 90 days were sorted on disk
BUSY_MS: Final = 5_000  # the time for which SQLite waits for another process's write
COMMAND_BUSY_MS: Final = 30_000  # the same of a command: it stands in no queue, and finds a gap between a busy ledger's writes
STATEMENT_SECONDS: Final = 60  # PostgreSQL ends a query that takes longer
_SQLITE: Final = "sqlite+aiosqlite"
_PLAIN_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = "postgresql+asyncpg://"
_POSTGRESQL_NAMES: Final = ("postgresql", "postgres")
_FOR_WRITING: Final = "BEGIN IMMEDIATE"
_FOR_READING: Final = "BEGIN"


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
            if make_url(url).query:
                raise ConfigError(("TALLYGATE_DATABASE_URL takes no parameters behind the path of a SQLite file",))
            return _open_sqlite(make_url(url).set(drivername=_SQLITE), is_command=is_command)
    raise ConfigError(("TALLYGATE_DATABASE_URL must begin with postgresql:// or sqlite:/// and a path",))


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
        threaded=ThreadedTransactions(threaded, _FOR_WRITING, most=1),
        asking=ThreadedTransactions(asking, _FOR_READING, most=READERS_MAX),
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
    if takes_no_writes(context.original_exception):
        context.is_disconnect = True
