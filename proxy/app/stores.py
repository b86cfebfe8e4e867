"""The stores of a process: the limiter's, and the ledger's database."""

import logging
import secrets
from typing import Final

from proxy.config.holder import ConfigHolder
from proxy.config.settings import Settings
from proxy.domain.errors import StoreError
from proxy.ledger.database import Database, LedgerUnavailableError, open_database
from proxy.ledger.directory.replica import DirectoryReplica
from proxy.limiter.address import parse_address
from proxy.limiter.connection import RedisConnection
from proxy.limiter.generation import mark_all, read_generation, reopen, unmarked_partitions
from proxy.limiter.keys import PARTITIONS
from proxy.limiter.probe import probe_server

LEDGER_DEADLINE_MS: Final = 5_000  # the ledger reads many events at once, and nobody waits for them
_log = logging.getLogger(__name__)


async def open_store(settings: Settings) -> RedisConnection:
    """The limiter's store, connected, probed, and marked as complete if this deployment has never spent anything.

    A store without marks beside a data directory that remembers some has lost its data: it stays closed for spending.
    """
    address = parse_address(settings.redis_url.get_secret_value())
    store = RedisConnection(address, timeout_ms=settings.store_deadline_ms)
    await store.open()
    facts = await probe_server(store)
    for warning in facts.warnings:
        _log.warning("store %s: %s", address, warning)
    remembered = settings.data_dir / "generation"
    if not remembered.exists() and len(await unmarked_partitions(store)) == PARTITIONS:
        await mark_all(store, secrets.token_hex(16))
    elif unmarked := await unmarked_partitions(store):
        _log.critical("store %s has lost the spend of %d partitions: it admits none until it is rebuilt", address, len(unmarked))
    if not remembered.exists():
        remembered.write_text((await read_generation(store, 0)) or "", encoding="ascii")
    return store


async def open_ledger_link(settings: Settings) -> RedisConnection:
    """The ledger's own connection to the limiter's store. Raises StoreError."""
    address = parse_address(settings.redis_url.get_secret_value())
    link = RedisConnection(address, timeout_ms=LEDGER_DEADLINE_MS, name="tallygate-ledger")
    await link.open()
    return link


async def lost_partitions(settings: Settings) -> int:
    """How many partitions of the running store have lost their spend. Raises StoreError."""
    store = await _running_store(settings)
    try:
        return len(await unmarked_partitions(store))
    finally:
        await store.close()


async def reopen_limiter(settings: Settings) -> int:
    """Let those partitions admit again, their spend forgotten; returns how many there were. Raises StoreError."""
    store = await _running_store(settings)
    try:
        return await reopen(store, secrets.token_hex(16))
    finally:
        await store.close()


async def _running_store(settings: Settings) -> RedisConnection:
    """A command's own connection to the store that serves now."""
    store = RedisConnection(parse_address(settings.redis_url.get_secret_value()), timeout_ms=settings.store_deadline_ms)
    await store.open()
    return store


async def open_ledger(settings: Settings) -> Database:
    """The SQL database, at this version's tables. Raises ConfigError, and StoreError if it cannot be used now."""
    database = open_database(settings.database_url.get_secret_value(), settings.data_dir)
    try:
        await database.migrate()
    except LedgerUnavailableError as error:
        await database.close()
        raise StoreError(f"the ledger's database cannot be used: {error}") from error
    return database


async def read_directory(database: Database, holder: ConfigHolder) -> DirectoryReplica:
    """The organizations of the database, read once; to be kept up to date by its owner. Raises StoreError."""
    replica = DirectoryReplica(database, lambda: holder.current)
    try:
        await replica.refresh()
    except LedgerUnavailableError as error:
        raise StoreError(f"the directory cannot be read: {error}") from error
    return replica
