"""What `tallygate doctor` finds of the store and the database, over the connections that serving uses."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

from tallygate.app.stores import file_problem, read_replica, snapshot_file, sqlite_file
from tallygate.config.settings import Settings
from tallygate.doctor.finding import Finding
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.domain.obstacle import Obstacle
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.snapshot import SnapshotUnusableError
from tallygate.ledger.opening import open_database
from tallygate.ledger.read_replica import LAG_MS_MAX, NO_STANDBY
from tallygate.ledger.spool_copies import waiting_copies
from tallygate.ledger.table_version import newest_version, version_problem
from tallygate.limiter.address import RedisAddress, parse_address, place_text
from tallygate.limiter.backlog import Backlog, read_backlog
from tallygate.limiter.commands import access_list, check_commands, check_permissions, needed_commands
from tallygate.limiter.opening import store_connection
from tallygate.limiter.probe import UNHELD_MASTER, ServerFacts, check_scripts, server_facts
from tallygate.limiter.script import ScriptStore, Store
from tallygate.limiter.sentinel import SentinelLookup
from tallygate.limiter.writes import PERMISSION
from tallygate.processes.valkey import damaged_log

DEFAULT_USER: Final = "tallygate"
_REPAIR: Final = "see docs/operate.md#a-store-that-does-not-load"
TIMEOUT_MS: Final = 5_000
COPIES_AGE_MS_MAX: Final = 900_000
REPLICA_LOOK_SECONDS: Final = 0.05
CLOCK_SKEW_MS_MAX: Final = 5_000  # harmless to limits, which use the store's clock; misleading in logs


def least_access(settings: Settings) -> str:
    """The command that makes the store's user, under the name that the URL has. Raises ConfigError."""
    url = settings.redis_url.get_secret_value()
    address = parse_address(url) if url else RedisAddress()
    return access_list(address.username or DEFAULT_USER, is_cluster=bool(address.seeds))


async def examine_stores(settings: Settings) -> list[Finding]:
    """Examine the store, then the database."""
    store = [finding async for finding in _store(settings)]
    return [*store, *[finding async for finding in _database(settings)]]


async def _store(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.redis_url.get_secret_value()
    if not url:
        damaged = damaged_log(settings.data_dir / "valkey")
        text = "an embedded Valkey will be started" if damaged is None else f"{damaged}: {_REPAIR}"
        yield Finding("store", damaged is None, text)
        return
    try:
        address = parse_address(url)
        async for finding in _sentinels(address):
            yield finding
        store = store_connection(address, timeout_ms=TIMEOUT_MS, name="tallygate-doctor")
        await store.open()
    except (ConfigError, StoreError) as error:
        yield Finding("store", False, _reason(error))
        return
    try:
        async for finding in _store_findings(store, settings.stream_bytes_max):
            yield finding
    except StoreError as error:
        yield Finding("store", False, _reason(error))
    finally:
        await store.close()


async def _sentinels(address: RedisAddress) -> AsyncIterator[Finding]:
    """Whether every sentinel answers, and all name the same master."""
    if address.sentinels is None:
        return
    lookup = SentinelLookup(address, address.sentinels, timeout_s=TIMEOUT_MS / 1_000)
    views = await lookup.views()
    lookup.close()
    named = Counter(place_text(view.master) for view in views if view.master is not None)
    masters = ", ".join(f"{count} of {len(views)} name {master}" for master, count in named.most_common()) or "none knows it"
    silent = [f"{place_text(view.place)} {view.reason}" for view in views if view.master is None]
    yield Finding(
        "sentinels", len(named) == 1 and not silent, "; ".join((f"of the master of {address.sentinels.service} {masters}", *silent))
    )


async def _store_findings(store: Store, stream_bytes_max: int) -> AsyncIterator[Finding]:
    """Of each server by itself, then of all."""
    nodes = store.nodes()
    for node in nodes:
        async for finding in _server_findings(node.store):
            yield finding if len(nodes) == 1 else replace(finding, text=f"{node.name}: {finding.text}")
    yield _writes_finding("store writes", await _obstacle(check_commands, store))
    yield _backlog(await read_backlog(store, bytes_max=stream_bytes_max))
    refused = await _obstacle(check_permissions, store)
    needed = f"its user may run the {len(needed_commands(is_cluster=store.is_cluster))} commands that are needed"
    yield Finding("permissions", refused is None, needed if refused is None else refused.text)


async def _server_findings(server: ScriptStore) -> AsyncIterator[Finding]:
    facts = await server_facts(server)
    yield Finding("store", True, f"{facts.software.capitalize()} {'.'.join(map(str, facts.version))} answers")
    has_policy = facts.policy == "noeviction"
    yield Finding("eviction", has_policy, f"maxmemory-policy is {facts.policy}; any but noeviction can forget spend")
    persists = facts.persists
    yield Finding("durability", persists, f"the append-only file is {'on' if persists else 'off: a restart would forget spend'}")
    yield _memory(facts)
    if facts.replicas:
        text = f"{facts.replicas} follow, and writes wait for them (min-replicas-to-write)" if facts.is_held_back else UNHELD_MASTER
        yield Finding("replicas", facts.is_held_back, text)
    try:
        await check_scripts(server)
        yield Finding("scripts", True, "runs Lua scripts")
    except StoreError as error:
        yield Finding("scripts", False, f"does not run Lua scripts: {error}")
    seconds, micros = await server.command(b"TIME")
    skew_ms = abs(time.time_ns() // 1_000_000 - (int(seconds) * 1_000 + int(micros) // 1_000))
    yield Finding("clock", skew_ms <= CLOCK_SKEW_MS_MAX, f"the store's clock and ours differ by {skew_ms} ms")


async def _obstacle(check: Callable[[Store], Awaitable[None]], store: Store) -> Obstacle | None:
    try:
        await check(store)
    except StoreError as error:
        if error.obstacle is None:
            raise
        return error.obstacle
    return None


def _memory(facts: ServerFacts) -> Finding:
    used, most = facts.memory_bytes, facts.memory_max_bytes
    if not most:
        return Finding("memory", True, f"{used // 2**20} MiB used, without a bound of its own (maxmemory 0)")
    text = f"{used // 2**20} of {most // 2**20} MiB used (maxmemory)"
    has_room = used < most * 4 // 5
    return Finding("memory", has_room, text if has_room else f"{text}: at its bound it takes no writes")


def _backlog(found: Backlog) -> Finding:
    text = f"{found.waiting_bytes / 1e6:,.1f} of {found.waiting_max_bytes / 1e6:,.0f} MB of usage wait for the ledger"
    if found.is_full:
        return Finding("backlog", False, f"{text}: nothing is admitted until `tallygate ledger` has taken some")
    has_room = found.waiting_bytes * 2 < found.waiting_max_bytes
    return Finding(
        "backlog", has_room, text if has_room else f"{text}: at the bound nothing is admitted; does `tallygate ledger` run?"
    )


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    try:
        url = settings.database_url.get_secret_value()
        database, replica = open_database(url, settings.data_dir), read_replica(settings)
    except ConfigError as error:
        yield Finding("database", False, error.problems[0])
        return
    for finding in _snapshot(settings, database):
        yield finding
    if (problem := file_problem(settings)) is not None:
        yield Finding("database", False, problem)
        return
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        yield Finding("database", True, f"a SQLite database will be made: {file}")
        return
    try:
        async for finding in _database_findings(database, replica):
            yield finding
    except LedgerUnavailableError as error:
        yield Finding("database", False, error.obstacle.text if error.obstacle else f"does not answer: {error}")
    finally:
        await database.close()
        if replica is not None:
            await replica.close()


def _snapshot(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether workers could begin from the snapshot of the directory; nothing where none was written yet."""
    file = snapshot_file(settings, database)
    if not file.is_there:
        return
    try:
        found = file.read()
    except SnapshotUnusableError as error:
        yield Finding("snapshot", False, f"{file.path} would not be used while the database is away: {error}")
        return
    age = file.age_ms(found.at_ms) // 1_000
    yield Finding(
        "snapshot", True, f"of {len(found.lines)} organizations, {age} seconds old, for workers that start without the database"
    )


async def _database_findings(database: Database, replica: Database | None) -> AsyncIterator[Finding]:
    name = {"sqlite": "SQLite"}.get(database.dialect, "PostgreSQL")
    version, newest = await database.version(), newest_version()
    if version is None:
        yield Finding("database", True, f"{name} answers, and has no tables yet")
        return
    if problem := version_problem(version):
        yield Finding("database", False, problem)
        return
    knows = "is what this tallygate uses" if version == newest else f"will be brought to {newest} at the start"
    yield Finding("database", True, f"{name} answers; its version {version} {knows}")
    try:
        await database.check_writes()
        yield _writes_finding("database writes", None)
    except LedgerUnavailableError as error:
        if error.obstacle is None:
            raise
        yield _writes_finding("database writes", error.obstacle)
    if database.dialect != "sqlite" and version == newest:
        yield await _copies(database)
        if replica is not None:
            yield await _read_replica(database, replica)


async def _read_replica(primary: Database, replica: Database) -> Finding:
    """Check that the replica follows the primary, and how long it takes to have what the primary has now."""
    try:
        at_primary, began = await primary.position(), time.monotonic()
        while True:
            found = await replica.position()
            if not found.is_standby or found.server != at_primary.server:
                return Finding("read replica", False, f"{NO_STANDBY}; questions about the past go to the database itself")
            behind_ms = round((time.monotonic() - began) * 1_000)
            if found.lsn >= at_primary.lsn:
                break
            if behind_ms > LAG_MS_MAX:
                text = f"is more than {LAG_MS_MAX // 1_000} seconds behind; questions about the past go to the database itself"
                return Finding("read replica", False, text)
            await asyncio.sleep(REPLICA_LOOK_SECONDS)
        async with replica.read():  # whose tables are looked at
            return Finding("read replica", True, f"follows the database, at most {behind_ms} ms behind")
    except LedgerUnavailableError as error:
        return Finding("read replica", False, error.obstacle.text if error.obstacle else f"does not answer: {error}")


async def _copies(database: Database) -> Finding:
    """Check that no spooled settlement waits for a gateway that is lost, or for a ledger that does not settle it."""
    count, oldest_ms = await waiting_copies(database)
    if not count:
        return Finding("spool copies", True, "no spooled settlement waits")
    age_ms = time.time_ns() // 1_000_000 - oldest_ms
    text = f"{count} spooled settlements wait for their gateways or for a ledger, the oldest for {age_ms // 60_000} minutes"
    return Finding("spool copies", age_ms < COPIES_AGE_MS_MAX, text)


def _writes_finding(check: str, obstacle: Obstacle | None) -> Finding:
    return Finding(check, obstacle is None, "takes writes" if obstacle is None else obstacle.text)


def _reason(error: ConfigError | StoreError) -> str:
    if isinstance(error, ConfigError):
        return error.problems[0]
    if error.obstacle == PERMISSION:
        return str(error)  # which names the command, one of those that connecting takes
    return error.obstacle.text if error.obstacle else f"does not answer: {error}"
