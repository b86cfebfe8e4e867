"""A worker's data plane, built from settings."""

import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from tallygate.app.clients import client_timeouts
from tallygate.app.clocks import event_id_source, monotonic_ms, new_file_identity, now_ms
from tallygate.app.configuration import process_way_out, served_config_holder
from tallygate.app.machine import connections_within, memory_bytes
from tallygate.app.stores import open_served_ledger, open_store, sqlite_file
from tallygate.config.holder import ConfigHolder, with_stored
from tallygate.config.settings import Settings
from tallygate.dialects.registry import dialects
from tallygate.gateway.assembly import Gateway, Parts
from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.object_owners import ObjectOwners
from tallygate.gateway.services import GatewayBounds
from tallygate.gateway.settling.spool import Spool, spools_without_worker
from tallygate.ledger.book import finished_events
from tallygate.ledger.jobs import Jobs
from tallygate.ledger.spool_copies import SpoolCopies
from tallygate.ledger.stored_objects import owned_objects
from tallygate.ledger.usage_queries import UsageQueries
from tallygate.limiter.backlog import watch_backlog
from tallygate.limiter.directory_channel import DirectoryChannel
from tallygate.limiter.fence import Fence
from tallygate.limiter.last_used import record_last_used
from tallygate.limiter.local_fallback import FailurePolicy, LocalFallback
from tallygate.limiter.object_marks import RedisObjectMarks
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.outbound.session import open_session
from tallygate.telemetry import refusal_file
from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.log import log_formatter
from tallygate.telemetry.refusal_file import RefusalFile
from tallygate.telemetry.unpriced_models import DIRECTORY, UnpricedModels
from tallygate.tokens.counter import TokenCounter

if TYPE_CHECKING:
    from tallygate.app.open_telemetry import OpenTelemetry


class WorkerGateway(Protocol):
    """The gateway of a worker process."""

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket, and own it: the gateway closes it."""

    def announce_leaving(self) -> None:
        """Keep serving, but close each connection after its next answer."""

    async def drain(self, grace_seconds: float) -> None:
        """Accept no new connection; return when open requests have finished, or are cut off after the grace."""

    async def close(self) -> None:
        """End now; open requests are settled as they stand."""

    def reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""


def are_announced(settings: Settings, channel: DirectoryChannel) -> bool:
    """Whether a worker hears of every change. Beside a SQLite file, a command may have no Redis by which to announce one."""
    return channel.is_heard and sqlite_file(settings) is None


async def build_gateway(settings: Settings, counts: CountFile) -> WorkerGateway:
    """Build one worker's data plane. Raises ConfigError, and StoreError if the limiter's store cannot be reached at the start."""
    holder = served_config_holder(settings, forwards=True)
    scripts = load_scripts()
    fence = Fence(scripts.fence)
    store = await open_store(settings, fence)
    channel = DirectoryChannel(settings.redis_url.get_secret_value())
    ledger = await open_served_ledger(settings, holder, migrates=False, is_announced=partial(are_announced, settings, channel))
    database, directory = ledger.database, ledger.directory
    metrics = GatewayMetrics(counts, KnownLabels.of(with_stored(holder.current, directory.organizations)), now_ns=time.time_ns)
    tokens = TokenCounter(inline_chars_max=settings.tokenizer_thread_bytes)
    await tokens.start()
    spool_path = settings.data_dir / "spool" / f"{counts.owner}.spool"
    spool = Spool(spool_path, bytes_max=settings.spool_bytes_max)
    slot = int(counts.owner.removeprefix("worker-"))
    for left in spools_without_worker(spool_path.parent, slot=slot, workers=settings.workers):
        spool.take_over(left)
    copies = SpoolCopies(database, gateway=f"{socket.gethostname()}/{counts.owner}", clock=time.monotonic)
    access_log = _access_log(settings, counts, metrics)
    telemetry = None if not settings.otlp_endpoint else _open_telemetry(settings, counts, metrics, holder)
    closes = [store.close, database.close]
    limiter = RedisLimiter(store, scripts)
    beside: list[Callable[[], Coroutine[Any, Any, None]]] = [
        partial(channel.listen_forever, directory.wake),
        partial(watch_backlog, store, bytes_max=settings.stream_bytes_max, on_change=limiter.close_for_backlog),
    ]
    if access_log is not None:
        closes.append(access_log.close)
    if telemetry is not None:
        closes.append(telemetry.exporter.close)
        beside.append(telemetry.exporter.export_forever)
    parts = Parts(
        holder=holder,
        limiter=limiter,
        fallback=LocalFallback(
            FailurePolicy(
                workers=settings.workers,
                grace_nano_usd=settings.spend_grace_nano_usd if settings.spend_fail_policy == "grace" else 0,
            ),
            monotonic_ms,
        ),
        spool=spool,
        tokens=tokens,
        dialects=dialects(),
        metrics=metrics,
        session=open_session(process_way_out(settings, os.environ)),
        bounds=GatewayBounds(
            head_bytes_max=settings.header_bytes_max,
            body_bytes_max=settings.body_bytes_max,
            requests_open_max=settings.requests_open_max,
            body_budget_bytes=settings.body_budget_bytes or memory_bytes() // 8 // settings.workers,
            lease_ms=settings.lease_seconds * 1000,
            checkpoint_seconds=settings.checkpoint_seconds,
            socket_idle_seconds=settings.socket_idle_seconds,
        ),
        timeouts=client_timeouts(settings),
        connections_max=connections_within(settings.connections_max, name="the gateway"),
        unpriced=UnpricedModels(settings.data_dir / DIRECTORY, counts.owner),
        cors=CorsPolicy(settings.cors_origin_names),
        oauth_timeout_ms=settings.oauth_timeout_ms,
        now_ms=now_ms,
        finished=partial(finished_events, database),
        owners=ObjectOwners(
            RedisObjectMarks(store.post, store.command),
            partial(owned_objects, database),
            clock=time.monotonic,
            now_ms=now_ms,
        ),
        store_run=lambda: fence.run_id,
        keep_copies=None if database.dialect == "sqlite" else copies.keep,
        new_id=event_id_source(now_ms, Random(int.from_bytes(os.urandom(32)))),
        stored=directory,
        record_used=partial(record_last_used, store),
        refusal_lines=RefusalFile(settings.data_dir / refusal_file.DIRECTORY, counts.owner, new_identity=new_file_identity),
        used_today=partial(UsageQueries(database).today, now_ms=now_ms),
        jobs=Jobs(database),
        beside=beside,
        on_config=lambda config: metrics.use_labels(KnownLabels.of(config)),
        on_directory=metrics.follow,
        on_close=partial(_close_all, *closes),
        access_log=access_log,
        observers=() if telemetry is None else (telemetry.exchanges,),
        on_job=None if telemetry is None else telemetry.exchanges.job_settled,
    )
    return Gateway(parts)


def _access_log(settings: Settings, counts: CountFile, metrics: GatewayMetrics) -> AccessLog | None:
    if settings.access_log == "off":
        return None
    every = settings.access_log_every if settings.access_log == "sampled" else 1
    return AccessLog(log_formatter(process=counts.owner, log_format=settings.log_format, stream=sys.stderr), metrics, every=every)


def _open_telemetry(settings: Settings, counts: CountFile, metrics: GatewayMetrics, holder: ConfigHolder) -> "OpenTelemetry":
    """What exports to a collector, whose code and packages nobody else loads."""
    module = import_module("tallygate.app.open_telemetry")
    return module.open_telemetry(  # type: ignore[no-any-return]
        settings, metrics, lambda: holder.current.upstreams, worker=counts.owner
    )


async def _close_all(*closes: Callable[[], Awaitable[None]]) -> None:
    for close in closes:
        await close()
