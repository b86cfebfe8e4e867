"""The composition root: settings in, the objects of one process out. Nothing else builds a client, pool, store or clock."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Protocol

from proxy.config.check import check
from proxy.config.holder import ConfigHolder
from proxy.config.load import ConfigSource
from proxy.config.settings import Settings
from proxy.config.shipped import shipped_directory
from proxy.console.console import Console
from proxy.console.ports import Store
from proxy.console.readiness import Readiness
from proxy.console.scrape import Scrape
from proxy.console.server import ConsoleServer
from proxy.console.workers import Workers
from proxy.dialects.registry import dialects
from proxy.telemetry.count_file import CountFile


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
    """One worker's data plane. Raises ConfigError."""
    raise NotImplementedError


async def build_console(settings: Settings) -> Console:
    """The console process. Raises ConfigError."""
    return console_over(settings, await build_store(settings), monotonic_ms=monotonic_ms)


async def build_store(settings: Settings) -> Store:
    """The console's view of the limiter's store."""
    raise NotImplementedError


def console_over(settings: Settings, store: Store, *, monotonic_ms: Callable[[], int]) -> Console:
    """A console over any store."""
    holder = config_holder(settings)
    workers = Workers(settings.data_dir / "metrics", workers=settings.workers, now_ms=monotonic_ms)
    readiness = Readiness(store=store, workers=workers)
    scrape = Scrape(workers=workers, store=store, config=lambda: holder.current, version=product_version(), now_ms=now_ms)
    server = ConsoleServer(scrape=scrape, readiness=readiness, token_sha256=admin_token_sha256(settings))
    return Console(server=server, readiness=readiness, store=store, holder=holder)


def admin_token_sha256(settings: Settings) -> bytes | None:
    """Digest of the admin token that /metrics asks for; None on loopback, where it asks for none."""
    host = settings.console_listen.rpartition(":")[0]
    if host in {"127.0.0.1", "localhost", "[::1]"}:
        return None
    token = settings.admin_token.get_secret_value()
    if token:
        return hashlib.sha256(token.encode()).digest()
    return bytes.fromhex((settings.data_dir / "admin_token.sha256").read_text(encoding="ascii"))
