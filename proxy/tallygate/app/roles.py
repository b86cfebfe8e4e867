"""The parts of the process behind the console's port, for each role."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from tallygate.app.access import asked_token_sha256, known_hosts
from tallygate.app.clients import client_timeouts
from tallygate.app.clocks import monotonic_ms, now_ms
from tallygate.app.console_part import admin_tokens, console_part, open_directory
from tallygate.app.ledger_part import ledger_part
from tallygate.app.machine import connections_within
from tallygate.app.part import Part
from tallygate.app.product import product_version
from tallygate.app.resources import Resources, open_resources
from tallygate.app.role import Role
from tallygate.app.stores import sqlite_file
from tallygate.config.holder import ConfigHolder
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.console.api_access import AdminTokens
from tallygate.console.console import Console
from tallygate.console.limiter_store import LimiterStore
from tallygate.console.own_files import OwnFiles
from tallygate.console.page_files import PageFiles
from tallygate.console.readiness import (
    Readiness,
    backlog_probe,
    database_probe,
    directory_probe,
    lag_probe,
    spool_probe,
    store_probe,
    workers_probe,
)
from tallygate.console.scrape import Scrape
from tallygate.console.server import CONNECTIONS_MAX, ConsoleServer
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck
from tallygate.console.wrong_tokens import WrongTokens
from tallygate.ledger.book import Book
from tallygate.ledger.refusal_intake import RefusalIntake, WorkerRefusals
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper
from tallygate.telemetry import refusal_file
from tallygate.telemetry.log import console_samples
from tallygate.telemetry.refusal_file import RefusalFiles

_Found = TypeVar("_Found")


async def build_console(role: Role, settings: Settings) -> Console:
    """Build the process behind the console's port. Raises ConfigError, and StoreError if the limiter's store cannot be reached."""
    resources = await open_resources(settings, has_workers=role.has_workers, keeps_ledger=role.keeps_ledger, signs_in=role.has_api)
    parts = (*_parts(role, resources), Part(beside=(resources.follow_directory, resources.listen_to_directory)))
    book = open_directory(settings, resources.database, lambda: resources.holder.current)
    return console_of(
        parts,
        settings=settings,
        holder=resources.holder,
        config=resources.config,
        tokens=admin_tokens(settings, book),
        closing=(resources.close,),
    )


def _parts(role: Role, resources: Resources) -> tuple[Part, ...]:
    """The parts of a role. A gateway keeps serving without the database and is ready without it; roles that need it are not."""
    store = limiter_store(resources)
    workers = Workers(resources.settings.data_dir / "metrics", workers=resources.settings.workers, now_ms=monotonic_ms)
    status = (workers_part(workers), refusals_part(resources), directory_part(resources, workers))
    files = files_part(role, resources.settings)
    store_writes = WriteCheck("store", store.check_writes, thorough=store.check_commands, now_ms=monotonic_ms)
    database_writes = WriteCheck("database", resources.database.check_writes, now_ms=monotonic_ms)
    resources.database.on_commit = database_writes.was_taken
    admits = Part(probes=(store_probe(store, store_writes, needs_data=True), backlog_probe(store)), writes=(store_writes,))
    needs_database = Part(probes=(database_probe(database_writes, is_needed=True),), writes=(database_writes,))
    match role:
        case Role.SERVE:
            shows_database = Part(probes=(database_probe(database_writes, is_needed=False),), writes=(database_writes,))
            return admits, *status, files, shows_database, console_part(resources, store), ledger_part(resources, store)
        case Role.GATEWAY:
            return admits, *status, files
        case Role.CONSOLE:
            needs_store = Part(probes=(store_probe(store, store_writes, needs_data=False),), writes=(store_writes,))
            return needs_store, needs_database, files, console_part(resources, store)
        case Role.LEDGER:
            lags = Part(probes=(lag_probe(store),), writes=(store_writes,))
            return needs_database, lags, files, ledger_part(resources, store)


def workers_part(workers: Workers) -> Part:
    """The part that shows the workers. Ready if at least one worker is up, and one has room for what it would settle."""
    return Part(workers=workers, probes=(workers_probe(workers), spool_probe(workers)))


def directory_part(resources: Resources, workers: Workers) -> Part:
    """The part that watches what the workers know of the organizations of the database, and keeps the snapshot of them."""
    snapshots = resources.snapshots
    return Part(
        probes=(directory_probe(workers, has_others=lambda: bool(resources.holder.current.organizations)),),
        samples=() if snapshots is None else (snapshots.samples,),
        beside=() if snapshots is None else (snapshots.keep_forever,),
        closing=() if snapshots is None else (snapshots.last,),
    )


def files_part(role: Role, settings: Settings) -> Part:
    """The part that watches what this machine's processes have open."""
    data_dir, store_url = settings.data_dir, settings.redis_url.get_secret_value()
    paths, needed = {"data directory": data_dir}, {"data directory"}
    counts: list[Path] = []
    if role.has_workers:
        counts = [data_dir / "metrics" / f"worker-{slot}.counts" for slot in range(settings.workers)]
        paths |= {"spool": data_dir / "spool", "refusals": data_dir / refusal_file.DIRECTORY}
        needed.add("spool")
    if str(data_dir / "valkey") in unquote(store_url):
        paths["valkey"] = data_dir / "valkey"
        needed.add("valkey")
    if (ledger := sqlite_file(settings)) is not None:
        paths["ledger.db"] = ledger
    files = OwnFiles(paths, needed=needed, remade=("metrics", counts))
    return Part(probes=(files.probe(),), samples=(files.samples,), beside=(files.look_forever,))


def refusals_part(resources: Resources) -> Part:
    """The part that stores refusals by this machine's workers, whose files are on no other machine."""
    data_dir, database = resources.settings.data_dir, resources.database
    refusals = WorkerRefusals(data_dir / "metrics")
    intake = RefusalIntake(
        Book(database),
        refusals.counts,
        log=RefusedRequests(database),
        files=RefusalFiles(data_dir / refusal_file.DIRECTORY),
        now_ms=now_ms,
        state=refusals.state,
    )
    return Part(beside=(intake.store_forever,), closing=(intake.last,))


def limiter_store(resources: Resources) -> LimiterStore:
    """The console's view of the limiter's store. Nobody waits for the sweep: it goes with all else that is asked by the clock."""
    connection, scripts = resources.store, load_scripts()
    return LimiterStore(
        connection,
        RedisLimiter(connection, scripts),
        Sweeper(resources.link, scripts),
        close=connection.close,
        stream_bytes_max=resources.settings.stream_bytes_max,
    )


def console_of(
    parts: Sequence[Part],
    *,
    settings: Settings,
    holder: ConfigHolder,
    config: Callable[[], GatewayConfig],
    tokens: AdminTokens | None = None,
    closing: Sequence[Callable[[], Awaitable[None]]] = (),
) -> Console:
    """Build one process from its parts.

    config    with the organizations of the database
    tokens    that /metrics accepts, beside the one of the settings
    closing   called at its end
    """
    wrong_tokens = WrongTokens(now_ms=monotonic_ms)
    readiness = Readiness([probe for part in parts for probe in part.probes])
    scrape = Scrape(
        workers=_only(part.workers for part in parts),
        store=_only(part.store for part in parts),
        totals=_only(part.totals for part in parts),
        config=config,
        version=product_version(),
        now_ms=now_ms,
        samples=[wrong_tokens.samples, console_samples, *(own for part in parts for own in part.samples)],
        write_checks=[check for part in parts for check in part.writes],
    )
    api = _only(part.api for part in parts)
    server = ConsoleServer(
        scrape=scrape,
        readiness=readiness,
        token_sha256=asked_token_sha256(settings),
        api=api,
        asked=[asked for part in parts for asked in part.asked],
        page=None if api is None else PageFiles.of_package(),
        openid=_only(part.openid for part in parts),
        tokens=tokens,
        hosts=known_hosts(settings),
        wrong_tokens=wrong_tokens,
        timeouts=client_timeouts(settings),
        connections_max=connections_within(CONNECTIONS_MAX, name="the console"),
    )
    return Console(
        server=server,
        readiness=readiness,
        holder=holder,
        opening=[open_ for part in parts for open_ in part.opening],
        beside=[work for part in parts for work in part.beside],
        closing=[scrape.close, *(close for part in parts for close in part.closing), *closing],
    )


def _only(found: Iterable[_Found | None]) -> _Found | None:
    """The contribution of the only part that has one."""
    return next((one for one in found if one is not None), None)
