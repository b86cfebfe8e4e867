"""What a directory of many organizations costs: starting a process on it, following a change, and each of the ledger's ticks.

python -m bench.directory_scale [--organizations 100000] [--active 100] [--postings 100000]

Makes a SQLite ledger and a store of its own in a temporary directory; needs redis-server. Organizations have one credential each,
every tenth a spend limit of its own. Those that are active have spent in the last days. CPU time is this process's; a stall is the
longest that the event loop was kept from other work, on the clock, so a busy machine makes it longer.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table as Printed
from sqlalchemy import insert, text, update

from bench.procfs import pss_bytes
from tallygate.config.directory import Directory
from tallygate.config.holder import with_stored
from tallygate.config.load import load_config
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.config.shipped import shipped_directory
from tallygate.console.limiter_store import LimiterStore
from tallygate.console.scrape import Scrape
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import StoreError
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.audit_turns import AuditTurns
from tallygate.ledger.database import Database
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.directory.schema import AUDIT_LOG, CREDENTIALS, DIRECTORY_VERSION, ORGANIZATIONS
from tallygate.ledger.opening import open_database
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import SPEND_BUCKETS
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.fence import Fence
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper
from tallygate.processes import collector
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metrics import SPEND_WINDOW

CHUNK: Final = 5_000
BUCKET_MS: Final = 300_000
LOOK_SECONDS: Final = 0.002
STORE_SECONDS: Final = 30.0


@dataclass(slots=True)
class Figures:
    """What was measured, in the order it was."""

    rows: list[tuple[str, float, float, str]] = field(default_factory=list)

    async def measure(
        self, name: str, work: Callable[[], Awaitable[Any]], *, told: Callable[[Any], str] = lambda _found: ""
    ) -> Any:
        longest = Stall()
        watching = asyncio.create_task(longest.watch())
        await asyncio.sleep(0.05)
        longest.seconds, cpu = 0.0, time.process_time()
        found = await work()
        cpu = time.process_time() - cpu
        await asyncio.sleep(0.01)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        self.rows.append((name, cpu, longest.seconds, told(found)))
        return found


@dataclass(slots=True)
class Stall:
    """The longest that a turn of the event loop was late. Looks every LOOK_SECONDS, so that looking costs nothing much."""

    seconds: float = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(LOOK_SECONDS)
            self.seconds = max(self.seconds, time.perf_counter() - before - LOOK_SECONDS)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def configuration(directory: Path) -> GatewayConfig:
    return load_config(
        directory,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="https://up.example",
    )


def make_in(directory: Path, arguments: argparse.Namespace) -> None:
    async def made() -> None:
        database = open_database("", directory)
        await database.migrate()
        await make(database, arguments.organizations, arguments.active, arguments.postings)
        await database.close()

    asyncio.run(made())


async def make(database: Database, organizations: int, active: int, postings: int) -> None:
    """The rows as the directory's own functions write them."""
    own = json.dumps({"spend_limit": {"usd": "25"}})
    async with database.write() as connection:
        for start in range(0, organizations, CHUNK):
            numbers = range(start, min(start + CHUNK, organizations))
            await connection.execute(insert(ORGANIZATIONS), [_organization(number, own) for number in numbers])
            await connection.execute(insert(CREDENTIALS), [_credential(number) for number in numbers])
        await connection.execute(update(DIRECTORY_VERSION).values(version=1))
        newest = now_ms() // BUCKET_MS * BUCKET_MS
        rows = [
            {
                "org": name_of(index % active),
                "credential": f"{name_of(index % active)}-key",
                "bucket_ms": newest - index // active * BUCKET_MS,
                "posted_nano_usd": 1_000 + index,
            }
            for index in range(postings)
        ]
        for start in range(0, len(rows), CHUNK):
            await connection.execute(insert(SPEND_BUCKETS), rows[start : start + CHUNK])


def name_of(number: int) -> str:
    return f"organization-{number:07d}"


def _organization(number: int, own: str) -> dict[str, Any]:
    return {
        "id": name_of(number),
        "name": f"Organization {number}",
        "plan": "pay_as_you_go",
        "time_zone": "UTC",
        "limits": "{}" if number % 10 else own,
        "created_at_ms": 0,
        "changed_at_ms": 0,
    }


def _credential(number: int) -> dict[str, Any]:
    return {
        "id": f"{name_of(number)}-key",
        "org": name_of(number),
        "name": "",
        "environment": "production",
        "key_sha256": hashlib.sha256(name_of(number).encode()).hexdigest(),
        "enabled": True,
        "limits": "{}",
        "created_at_ms": 0,
        "changed_at_ms": 0,
    }


async def change_one(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(update(DIRECTORY_VERSION).values(version=DIRECTORY_VERSION.c.version + 1))
        version = (await connection.execute(text("SELECT version FROM directory_version"))).scalar_one()
        await connection.execute(update(ORGANIZATIONS).where(ORGANIZATIONS.c.id == name_of(0)).values(name="Another name"))
        entry = {"version": version, "at_ms": 0, "actor": "bench", "action": "change", "org": name_of(0), "subject": name_of(0)}
        await connection.execute(insert(AUDIT_LOG), entry)


async def at_start(figures: Figures, database: Database, config: GatewayConfig, organizations: int) -> DirectoryReplica:
    before = pss_bytes([os.getpid()])
    replica = DirectoryReplica(database, lambda: config)
    await figures.measure("start: organizations read", replica.refresh, told=lambda found: f"{len(found):,} read")
    whole = with_stored(config, replica.organizations)

    async def ready() -> tuple[Directory, KnownLabels]:
        return Directory(whole.organizations), KnownLabels.of(whole)

    kept = await figures.measure("start: keys and labels made ready", ready)
    figures.rows.append(
        ("start: memory for each organization", 0, 0, f"{(pss_bytes([os.getpid()]) - before) / organizations:,.0f} bytes")
    )
    await figures.measure("poll, nothing changed", replica.refresh, told=lambda found: f"{len(found):,} read")
    await change_one(database)
    await figures.measure("one organization changed", replica.refresh, told=lambda found: f"{len(found):,} read")
    del kept
    return replica


async def ticks(figures: Figures, database: Database, config: Callable[[], GatewayConfig], store: RedisConnection) -> None:
    scripts = load_scripts()
    limiter = LimiterStore(
        store,
        RedisLimiter(store, scripts),
        Sweeper(store, scripts),
        stream_bytes_max=Settings().stream_bytes_max,
        close=store.close,
    )
    rebuild = Rebuild(database, store, scripts, organizations=lambda: config().organizations, now_ms=now_ms)

    async def open_closed() -> int:
        return await rebuild.open(await rebuild.closed())

    await figures.measure("rebuild of the limiter", open_closed, told=lambda found: f"{found} partitions")
    await figures.measure("rebuild, nothing closed", open_closed)
    scrape = Scrape(config=config, version="bench", now_ms=now_ms, store=limiter)
    await figures.measure(
        "scrape, the limiter's windows", scrape.gather, told=lambda found: f"{len(found.samples[SPEND_WINDOW]):,} shown"
    )
    retention = Retention(database)
    await figures.measure(
        "retention (hourly)", lambda: retention.purge(config().organizations, now_ms()), told=lambda found: f"{found} rows removed"
    )
    audit, turns = LimiterAudit(database, store, scripts), AuditTurns(database)

    async def audited() -> int:
        chosen = await turns.next(config().organizations, now_ms(), differing=())
        return sum([1 async for _ in audit.windows(chosen, now_ms())])

    await figures.measure("audit (every minute)", audited, told=lambda found: f"{found:,} windows")
    fence = Fence(scripts.fence)

    async def healed() -> bool:
        return await fence.check_run_id(store.command, await store.command(b"INFO", b"server"))

    await figures.measure("look for a restarted store, the first time", healed)
    await figures.measure("look for a restarted store (5 a second)", healed)


async def main(arguments: argparse.Namespace) -> None:
    figures = Figures()
    collector.spare_the_start()  # as workers do
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as name:
        directory = Path(name)
        config = configuration(directory)
        making = multiprocessing.Process(target=make_in, args=(directory, arguments))  # its memory is not to be counted
        making.start()
        await asyncio.to_thread(making.join)
        database = open_database("", directory)
        server, url = start_store(directory)
        try:
            replica = await at_start(figures, database, config, arguments.organizations)
            store = RedisConnection(parse_address(url), timeout_ms=5_000)
            await opened(store)
            await ticks(figures, database, lambda: with_stored(config, replica.organizations), store)
            await store.close()
        finally:
            server.terminate()
            server.wait()
            await database.close()
    title = f"{arguments.organizations:,} organizations, {arguments.active:,} active, {arguments.postings:,} rows of spend"
    table = Printed("what", "CPU s", "longest stall ms", "", title=title)
    for what, cpu, stall, told in figures.rows:
        table.add_row(what, f"{cpu:.2f}", f"{stall * 1000:.0f}", told)
    Console(width=120).print(table)


def start_store(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("needs redis-server or valkey-server")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory))
    return subprocess.Popen([program, *options], stdout=subprocess.DEVNULL), f"redis://127.0.0.1:{port}/0"


async def opened(store: RedisConnection) -> None:
    async with asyncio.timeout(STORE_SECONDS):
        while True:
            with suppress(StoreError):
                return await store.open()
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organizations", type=int, default=100_000)
    parser.add_argument("--active", type=int, default=100)
    parser.add_argument("--postings", type=int, default=100_000)
    asyncio.run(main(parser.parse_args()))
