"""The stores of a process: the limiter's, and the ledger's database."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from tallygate.app.clocks import now_ms
from tallygate.config.holder import ConfigHolder
from tallygate.config.settings import Settings
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.domain.obstacle import SILENT
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.directory.snapshot import SnapshotFile, SnapshotKeeper, SnapshotUnusableError
from tallygate.ledger.opening import open_database, open_read_replica
from tallygate.ledger.table_version import newest_version, version_problem
from tallygate.limiter.address import RedisAddress, parse_address
from tallygate.limiter.commands import check_commands
from tallygate.limiter.fence import Fence
from tallygate.limiter.generation import reopen, unmarked_partitions
from tallygate.limiter.opening import StoreConnection, store_connection
from tallygate.limiter.probe import probe_server
from tallygate.limiter.script import load_scripts
from tallygate.limiter.writes import LOADING, PERMISSION

LOADING_SECONDS: Final = 1.0  # between two looks at a store that is loading its data
TABLES_SECONDS: Final = 10.0  # for which a start waits for another process to make the tables
TABLES_EVERY_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 2.0  # at the database before serving: a start waits no longer for one that is away
LEDGER_DEADLINE_MS: Final = 5_000  # the ledger reads many events at once, and nobody waits for them
_log = logging.getLogger(__name__)


def store_problems(settings: Settings) -> tuple[str, ...]:
    """What is wrong with the addresses of the stores, before anything connects to them."""
    problems: list[str] = []
    redis_url = settings.redis_url.get_secret_value()
    try:
        if redis_url:
            parse_address(redis_url)
    except ConfigError as error:
        problems += error.problems
    try:
        open_database(settings.database_url.get_secret_value(), settings.data_dir)
        read_replica(settings)
    except ConfigError as error:
        problems += error.problems
    return tuple(problems)


def read_replica(settings: Settings) -> Database | None:
    """The read replica of the ledger's database; None without one. Connects on first use. Raises ConfigError."""
    url = settings.database_read_url.get_secret_value()
    if not url:
        return None
    if sqlite_file(settings) is not None:
        raise ConfigError(("TALLYGATE_DATABASE_READ_URL needs a PostgreSQL in TALLYGATE_DATABASE_URL: SQLite has no replicas",))
    return open_read_replica(url)


async def ledger_problem(settings: Settings) -> str | None:
    """Why the ledger's database can never be used as it is: its version, or a file that is damaged or may not be written.

    None too if it does not answer soon: that may pass.
    """
    file = sqlite_file(settings)
    if (problem := file_problem(settings)) is not None or (file is not None and not file.exists()):
        return problem
    database = open_database(settings.database_url.get_secret_value(), settings.data_dir)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return version_problem(await database.version())
    except LedgerUnavailableError as error:
        return None if file is None or error.obstacle is None else f"the ledger's database {file} {error.obstacle.text}"
    except TimeoutError:
        return None
    finally:
        await database.close()


def file_problem(settings: Settings) -> str | None:
    """Why the SQLite file of the ledger can neither be opened nor made; None if it can, or for another database."""
    file = sqlite_file(settings)
    if file is None:
        return None
    try:
        if file.exists():
            file.open("rb").close()
            return None
    except OSError as error:
        return f"the ledger's database {file} cannot be opened: {error.strerror}"
    directory = file.parent
    if settings.database_url.get_secret_value() and not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        return f"the ledger's database {file} cannot be made: {directory} is no directory that this user may write"
    return None


def sqlite_file(settings: Settings) -> Path | None:
    """The file of a ledger in SQLite; None for another database."""
    url = settings.database_url.get_secret_value()
    if not url:
        return settings.data_dir / "ledger.db"
    return Path(make_url(url).database or "") if url.startswith("sqlite") else None  # libpq's addresses have several hosts


async def open_store(settings: Settings, fence: Fence | None = None) -> StoreConnection:
    """Open the limiter's store, connected and probed. Raises StoreError.

    A store without marks is new or has lost its data. Only a ledger can tell which: the store is closed for spending until then.
    fence   for callers that need the run of the store to which the connection belongs
    """
    address = parse_address(settings.redis_url.get_secret_value())
    fence = fence or Fence(load_scripts().fence)
    store = store_connection(address, timeout_ms=settings.store_deadline_ms, fence=fence)
    await _open_once_loaded(store)
    try:
        await _need_permissions(store, address)
        facts = {node.name: await probe_server(node.store) for node in store.nodes()}
        unmarked = await unmarked_partitions(store)
    except BaseException:
        await store.close()
        raise
    for server, found in facts.items():
        for warning in found.warnings:
            _log.warning("store %s: %s", server, warning)
    if unmarked:
        _log.debug("store %s admits no spending in %d partitions until a ledger has opened them", address, len(unmarked))
    return store


async def _open_once_loaded(store: StoreConnection) -> None:
    """Open a connection, and wait while the server loads its data, which may take minutes. Raises StoreError for all else."""
    while True:
        try:
            await store.open()
        except StoreError as error:
            if error.obstacle != LOADING:
                raise
            await asyncio.sleep(LOADING_SECONDS)
        else:
            return


async def _need_permissions(store: StoreConnection, address: RedisAddress) -> None:
    """Raise ConfigError that names the commands which the store's user may not run. Any other obstacle may pass by itself."""
    try:
        await check_commands(store)
    except StoreError as error:
        if error.obstacle is not None and error.obstacle.name == PERMISSION.name:
            raise ConfigError((f"Redis at {address} {error.obstacle.text}",)) from error


async def open_ledger_link(settings: Settings) -> StoreConnection:
    """Open the ledger's own connection to the limiter's store. Raises StoreError."""
    address = parse_address(settings.redis_url.get_secret_value())
    link = store_connection(address, timeout_ms=LEDGER_DEADLINE_MS, name="tallygate-ledger")
    await link.open()
    return link


async def lost_partitions(settings: Settings) -> int:
    """The number of partitions of the running store that have lost their spend. Raises StoreError."""
    store = await _running_store(settings)
    try:
        return len(await unmarked_partitions(store))
    finally:
        await store.close()


async def reopen_limiter(settings: Settings) -> int:
    """Let those partitions admit again with a spend of zero; returns their number. Raises StoreError."""
    store = await _running_store(settings)
    try:
        return await reopen(store)
    finally:
        await store.close()


async def _running_store(settings: Settings) -> StoreConnection:
    """Open a command's own connection to the running store."""
    store = store_connection(parse_address(settings.redis_url.get_secret_value()), timeout_ms=settings.store_deadline_ms)
    await store.open()
    return store


async def open_ledger(settings: Settings, *, is_command: bool = False) -> Database:
    """Open the SQL database, migrated to this version. Raises ConfigError, and StoreError if it cannot be used now."""
    database = open_database(settings.database_url.get_secret_value(), settings.data_dir, is_command=is_command)
    try:
        await database.migrate()
    except (LedgerUnavailableError, ConfigError) as error:
        await database.close()
        if isinstance(error, ConfigError):
            raise
        raise StoreError(f"the ledger's database {error.reason}") from error
    return database


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLedger:
    """The database of a process that serves. keeper: of the snapshot, if this process keeps it."""

    database: Database
    directory: DirectoryReplica
    keeper: SnapshotKeeper | None


async def open_served_ledger(
    settings: Settings,
    holder: ConfigHolder,
    *,
    migrates: bool,
    is_announced: Callable[[], bool],
    keeps_snapshot: bool = False,
) -> ServedLedger:
    """Open the SQL database of a process that serves, and read its organizations, which the process then follows.

    It may be away: whoever uses it tries again, and the organizations are those of the snapshot, or unread.

    migrates         whether this process keeps the ledger, and so its tables. Any other one waits for them a while, since a ledger
                     that was started with it may be making them; not if it can serve from a snapshot.
    keeps_snapshot   whether this process keeps the snapshot, for all of this machine

    Raises ConfigError for tables of a version that is not known.
    """
    database = open_database(settings.database_url.get_secret_value(), settings.data_dir)
    snapshot = snapshot_file(settings, database)
    keeper = SnapshotKeeper(snapshot, clock=time.monotonic, now_ms=now_ms) if keeps_snapshot and snapshot.age_ms_max else None
    replica = DirectoryReplica(database, lambda: holder.current, is_announced=is_announced, keeper=keeper)
    try:
        if migrates:
            await database.migrate()
        else:
            database.expect_tables()
            await _wait_for_tables(database, seconds=0.0 if snapshot.is_there else TABLES_SECONDS)
        await replica.read()
    except (LedgerUnavailableError, TimeoutError) as error:
        await _use_snapshot(replica, snapshot, error.reason if isinstance(error, LedgerUnavailableError) else SILENT.text)
    except BaseException:
        await database.close()
        raise
    return ServedLedger(database=database, directory=replica, keeper=keeper)


def snapshot_file(settings: Settings, database: Database) -> SnapshotFile:
    """The snapshot of the directory in the data directory."""
    age_ms_max = settings.directory_snapshot_seconds_max * 1_000
    return SnapshotFile(settings.data_dir, database=database.address, age_ms_max=age_ms_max, now_ms=now_ms)


async def _use_snapshot(replica: DirectoryReplica, file: SnapshotFile, reason: str) -> None:
    try:
        if not file.age_ms_max:
            raise SnapshotUnusableError("the setting directory_snapshot_seconds_max is 0")  # noqa: TRY301 - one reason of several
        snapshot = await asyncio.to_thread(file.read)
        await replica.use(snapshot, is_too_old=lambda: file.is_too_old(snapshot.at_ms))
    except SnapshotUnusableError as error:
        _log.warning(
            "the ledger's database %s. Keys that are not in organizations.yaml get 503 until it can be read; no snapshot is used",
            reason,
            extra={"fields": {"snapshot": str(error)}},
        )
        return
    _log.warning(
        "the ledger's database %s. Its organizations are served from the snapshot in the data directory until it can be read",
        reason,
        extra={"fields": {"age_seconds": file.age_ms(snapshot.at_ms) // 1_000, "organizations": len(snapshot.lines)}},
    )


async def _wait_for_tables(database: Database, *, seconds: float) -> None:
    """Wait until the tables are those of this version. seconds: at most.

    Raises ConfigError for those of a version that is not known, LedgerUnavailableError, and TimeoutError.
    """
    for looks_left in reversed(range(1 + round(seconds / TABLES_EVERY_SECONDS))):
        async with asyncio.timeout(LOOK_SECONDS):
            version = await database.version()
        if problem := version_problem(version):
            raise ConfigError((problem,))
        if version == newest_version():
            return
        if looks_left:
            await asyncio.sleep(TABLES_EVERY_SECONDS)


async def read_directory(database: Database, holder: ConfigHolder) -> DirectoryReplica:
    """Read the organizations of the database once, for a command. Raises StoreError."""
    replica = DirectoryReplica(database, lambda: holder.current)
    try:
        await replica.read()
    except LedgerUnavailableError as error:
        raise StoreError(f"the directory cannot be read: {error}") from error
    return replica
