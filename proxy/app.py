"""The composition root: settings in, the objects of one process out. Nothing else builds a client, pool, store or clock."""

import hashlib
import logging
import os
import secrets
import socket
import time
from collections import ChainMap
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from random import Random
from typing import Final, Protocol

from aiohttp import ClientSession

from proxy.config.check import check
from proxy.config.holder import ConfigHolder, with_stored
from proxy.config.load import ConfigSource
from proxy.config.model import GatewayConfig
from proxy.config.settings import Settings
from proxy.config.shipped import shipped_directory
from proxy.console.api_access import PlatformToken
from proxy.console.api_audit import audit_routes
from proxy.console.api_credentials import credential_routes
from proxy.console.api_document import DocumentApi
from proxy.console.api_organizations import organization_routes
from proxy.console.api_routes import Api, ApiRoute
from proxy.console.api_tokens import token_routes
from proxy.console.console import Console
from proxy.console.directory_access import DirectoryTokens
from proxy.console.export_api import export_routes
from proxy.console.last_used import write_last_used_forever
from proxy.console.limiter_store import LimiterStore
from proxy.console.ports import Store
from proxy.console.readiness import Readiness
from proxy.console.scrape import Scrape
from proxy.console.server import ConsoleServer
from proxy.console.spend_windows import LimiterSpendWindows
from proxy.console.usage_api import UsageSources, scopes_over, usage_routes
from proxy.console.workers import Workers
from proxy.dialects.registry import dialects
from proxy.domain.errors import StoreError
from proxy.domain.organization import Organization
from proxy.gateway.assembly import Gateway, Parts
from proxy.gateway.client_connection import ClientTimeouts
from proxy.gateway.event_ids import event_id_source
from proxy.gateway.services import GatewayLimits
from proxy.gateway.spool import Spool
from proxy.ledger.audit import LimiterAudit
from proxy.ledger.book import Book
from proxy.ledger.database import Database, LedgerUnavailableError, open_database
from proxy.ledger.directory.book import DirectoryBook, directory_book
from proxy.ledger.directory.replica import DirectoryReplica
from proxy.ledger.event_stream import EventStreams
from proxy.ledger.finished_events import finished_events
from proxy.ledger.rebuild import Rebuild
from proxy.ledger.retention import Retention
from proxy.ledger.upkeep import LedgerTerms, Upkeep
from proxy.ledger.worker_refusals import read_refusals
from proxy.ledger.writer import Writer
from proxy.limiter.address import parse_address
from proxy.limiter.connection import RedisConnection
from proxy.limiter.directory_channel import listen_forever, tell
from proxy.limiter.generation import mark_all, read_generation, reopen, unmarked_partitions
from proxy.limiter.keys import PARTITIONS
from proxy.limiter.last_used import note_last_used
from proxy.limiter.local_fallback import FailurePolicy, LocalFallback
from proxy.limiter.probe import probe_server
from proxy.limiter.redis_limiter import RedisLimiter
from proxy.limiter.script import load_scripts
from proxy.limiter.sweep import Sweeper
from proxy.telemetry.count_file import CountFile
from proxy.telemetry.gateway_metrics import GatewayMetrics
from proxy.telemetry.labels import KnownLabels
from proxy.tokens.counter import TokenCounter

LEDGER_DEADLINE_MS: Final = 5_000  # the ledger reads many events at once, and nobody waits for them
_log = logging.getLogger(__name__)


class WorkerGateway(Protocol):
    """What a worker process runs."""

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket, which is ours to close."""

    async def drain(self, grace_seconds: float) -> None:
        """Take no new connection; return when the open requests are finished, or are cut off after the grace."""

    async def close(self) -> None:
        """End now; what is open is settled as it stands."""

    def reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""


def now_ms() -> int:
    """Unix time, for reports and prices; limits use the store's clock."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """The machine's monotonic clock, which all its processes share."""
    return time.monotonic_ns() // 1_000_000


def product_version() -> str:
    return version("tallygate")


def config_source(settings: Settings, environ: Mapping[str, str]) -> ConfigSource:
    """Where this process reads its reviewed configuration."""
    return ConfigSource(
        directory=settings.config_dir,
        shipped_dir=shipped_directory(),
        known_dialects=frozenset(dialects()),
        default_url=settings.upstream_url,
        default_api_key=settings.upstream_api_key.get_secret_value(),
        environ=environ,
    )


def config_holder(settings: Settings) -> ConfigHolder:
    """The configuration in force, read now. Raises ConfigError."""
    source = config_source(settings, os.environ)
    return ConfigHolder(source.load(), source.load)


def config_problems(settings: Settings) -> tuple[str, ...]:
    """Every problem of the reviewed configuration, one "file:line: what, and the fix" each."""
    source = config_source(settings, os.environ)
    return check(
        source.directory,
        shipped_dir=source.shipped_dir,
        known_dialects=source.known_dialects,
        environ=source.environ,
        default_url=source.default_url,
        default_api_key=source.default_api_key,
    )


async def build_gateway(settings: Settings, counts: CountFile) -> WorkerGateway:
    """One worker's data plane. Raises ConfigError, and StoreError if a store cannot be reached at the start."""
    holder = config_holder(settings)
    store = await open_store(settings)
    database = await open_ledger(settings)
    directory = await read_directory(database, holder)
    metrics = GatewayMetrics(counts, KnownLabels.of(with_stored(holder.current, directory.organizations)), now_ms=now_ms)
    tokens = TokenCounter(inline_chars_max=settings.tokenizer_thread_bytes)
    await tokens.start()
    known_dialects = dialects()
    parts = Parts(
        holder=holder,
        limiter=RedisLimiter(store, load_scripts(), stream_max=settings.stream_events_max),
        fallback=LocalFallback(
            FailurePolicy(
                workers=settings.workers,
                grace_nano_usd=settings.spend_grace_nano_usd if settings.spend_fail_policy == "grace" else 0,
            ),
            monotonic_ms,
        ),
        spool=Spool(settings.data_dir / "spool" / f"{counts.owner}.spool", bytes_max=settings.spool_bytes_max),
        tokens=tokens,
        dialects=known_dialects,
        plain=known_dialects["openai_chat"],
        metrics=metrics,
        session=ClientSession(trust_env=False),
        limits=GatewayLimits(
            head_bytes_max=settings.header_bytes_max,
            body_bytes_max=settings.body_bytes_max,
            requests_open_max=settings.requests_open_max,
            lease_ms=settings.lease_seconds * 1000,
            checkpoint_seconds=settings.checkpoint_seconds,
        ),
        timeouts=ClientTimeouts(
            head=settings.header_timeout_seconds,
            idle=settings.idle_timeout_seconds,
            body_grace=settings.body_timeout_seconds,
            body_bytes_per_second=settings.body_bytes_per_second_min,
            write=settings.write_timeout_seconds,
        ),
        connections_max=settings.connections_max,
        oauth_timeout_ms=settings.oauth_timeout_ms,
        now_ms=now_ms,
        finished=partial(finished_events, database),
        new_id=event_id_source(now_ms, Random(int.from_bytes(os.urandom(32)))),
        stored=directory,
        note_used=partial(note_last_used, store),
        beside=(partial(listen_forever, settings.redis_url.get_secret_value(), directory.wake),),
        on_config=lambda config: metrics.know(KnownLabels.of(config)),
        on_directory=metrics.follow,
        on_close=partial(_close_all, store.close, database.close),
    )
    return Gateway(parts)


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


async def _close_all(*closes: Callable[[], Awaitable[None]]) -> None:
    for close in closes:
        await close()


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


async def build_console(settings: Settings) -> Console:
    """The console process. Raises ConfigError, and StoreError if a store cannot be reached at the start."""
    holder = config_holder(settings)
    store = await build_store(settings)
    database = await open_ledger(settings)
    directory = await read_directory(database, holder)
    link = await open_ledger_link(settings)

    def config() -> GatewayConfig:
        return with_stored(holder.current, directory.organizations)

    upkeep = build_upkeep(settings, database, link, config)
    book = open_directory(settings, database, lambda: holder.current)
    return console_over(
        settings,
        store,
        monotonic_ms=monotonic_ms,
        holder=holder,
        config=config,
        ledger=upkeep,
        api=build_api(settings, book, usage_sources(database, link, holder, directory)),
        beside=(
            upkeep.run,
            partial(directory.follow_forever, lambda _changed: None),
            partial(listen_forever, settings.redis_url.get_secret_value(), directory.wake),
            partial(write_last_used_forever, link, book.credentials),
        ),
        on_close=partial(_close_all, link.close, database.close),
    )


def build_api(settings: Settings, book: DirectoryBook, sources: UsageSources) -> Api:
    """Every route of the API, and the document that describes them all."""
    exports = export_routes(scopes_over(sources), sources.database, now_ms=sources.now_ms)
    routes = (*usage_routes(sources), *exports, *directory_routes(book))
    described = DocumentApi(routes, version=product_version()).routes()
    return Api((*routes, *described), DirectoryTokens(PlatformToken(platform_token_sha256(settings)), book.tokens))


def usage_sources(database: Database, link: RedisConnection, holder: ConfigHolder, directory: DirectoryReplica) -> UsageSources:
    """What the usage API reads: the ledger, the limiter, and the organizations and routes in force."""
    scripts = load_scripts()

    def organizations() -> Mapping[str, Organization]:
        in_file = {organization.id: organization for organization in holder.current.organizations}
        return ChainMap(in_file, directory.organizations)  # where both have one, the file's holds

    return UsageSources(
        database=database,
        windows=LimiterSpendWindows(link, scripts, RedisLimiter(link, scripts)),
        organizations=organizations,
        routes=lambda: holder.current.routes,
        now_ms=now_ms,
    )


def open_directory(settings: Settings, database: Database, config: Callable[[], GatewayConfig]) -> DirectoryBook:
    """What changes organizations, credentials and admin tokens, and tells the running processes of it."""
    url = settings.redis_url.get_secret_value()
    return directory_book(
        database, config, now_ms=now_ms, random_bytes=secrets.token_bytes, on_committed=partial(tell, url) if url else _tell_nobody
    )


async def _tell_nobody() -> None:
    """No store is known: whoever holds a copy finds the change at its next poll."""


def directory_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    return (*organization_routes(book), *credential_routes(book), *token_routes(book), *audit_routes(book))


async def open_ledger_link(settings: Settings) -> RedisConnection:
    """The ledger's own connection to the limiter's store. Raises StoreError."""
    address = parse_address(settings.redis_url.get_secret_value())
    link = RedisConnection(address, timeout_ms=LEDGER_DEADLINE_MS, name="tallygate-ledger")
    await link.open()
    return link


def build_upkeep(settings: Settings, database: Database, store: RedisConnection, config: Callable[[], GatewayConfig]) -> Upkeep:
    """What keeps the ledger: writer, rebuild of the limiter, retention, audit. store: a connection of its own."""
    scripts, book = load_scripts(), Book(database)
    streams = EventStreams(store, f"console-{socket.gethostname()}")
    rebuild = Rebuild(
        database,
        store,
        scripts,
        organizations=lambda: config().organizations,
        now_ms=now_ms,
        new_generation=partial(secrets.token_hex, 16),
    )
    return Upkeep(
        database=database,
        book=book,
        writer=Writer(streams, book, now_ms=now_ms, loop_time=time.monotonic, on_posted_again=rebuild.repair),
        rebuild=rebuild,
        retention=Retention(database),
        limiter_audit=LimiterAudit(database, store, scripts),
        store=store,
        terms=LedgerTerms(organizations=lambda: config().organizations, prices=lambda: tuple(config().prices.rows())),
        refusals=partial(read_refusals, settings.data_dir / "metrics"),
        now_ms=now_ms,
        store_run=settings.data_dir / "store_run",
    )


async def build_store(settings: Settings) -> Store:
    """The console's view of the limiter's store, on a connection of its own."""
    store, scripts = await open_store(settings), load_scripts()
    return LimiterStore(store, RedisLimiter(store, scripts), Sweeper(store, scripts), close=store.close)


def console_over(
    settings: Settings,
    store: Store,
    *,
    monotonic_ms: Callable[[], int],
    holder: ConfigHolder | None = None,
    config: Callable[[], GatewayConfig] | None = None,
    ledger: Upkeep | None = None,
    api: Api | None = None,
    beside: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
    on_close: Callable[[], Awaitable[None]] | None = None,
) -> Console:
    """A console over any store. config: with the organizations that do not lie in a file."""
    holder = holder or config_holder(settings)
    in_force = holder
    workers = Workers(settings.data_dir / "metrics", workers=settings.workers, now_ms=monotonic_ms)
    readiness = Readiness(store=store, workers=workers)
    scrape = Scrape(
        workers=workers,
        store=store,
        config=config or (lambda: in_force.current),
        version=product_version(),
        now_ms=now_ms,
        ledger=ledger,
    )
    server = ConsoleServer(scrape=scrape, readiness=readiness, token_sha256=admin_token_sha256(settings), api=api)
    return Console(server=server, readiness=readiness, store=store, holder=holder, beside=beside, on_close=on_close)


def admin_token_sha256(settings: Settings) -> bytes | None:
    """Digest of the admin token that /metrics asks for; None on loopback, where it asks for none."""
    host = settings.console_listen.rpartition(":")[0]
    return None if host in {"127.0.0.1", "localhost", "[::1]"} else platform_token_sha256(settings)


def platform_token_sha256(settings: Settings) -> bytes:
    """Digest of the token of the settings, or of the one made at the first start: it may do everything."""
    token = settings.admin_token.get_secret_value()
    if token:
        return hashlib.sha256(token.encode()).digest()
    return bytes.fromhex((settings.data_dir / "admin_token.sha256").read_text(encoding="ascii"))
