"""What a scrape costs: a console over a filled ledger, limiter and workers' count files, scraped as Prometheus does.

python -m bench.scrape redis://127.0.0.1:6379/15 [--organizations 5000] — the database is filled with organizations bench-<n>.

Every organization has two credentials with two capabilities each, limits on spend, requests and tokens, and has been refused
something by every worker.
Told are the time of a scrape, its bytes and series, and how long the console's event loop stood still meanwhile at most.
"""

import argparse
import asyncio
import gzip
import itertools
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from sqlalchemy import insert

from tallygate.app.clients import client_timeouts
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.console.ledger_totals import LedgerTotals
from tallygate.console.limiter_store import LimiterStore
from tallygate.console.readiness import Readiness
from tallygate.console.scrape import Scrape
from tallygate.console.server import ConsoleServer
from tallygate.console.workers import Workers
from tallygate.domain.admission import Account, AdmissionRequest, RateDemand, SpendDemand
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.database import Database
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import LIFETIME_AMOUNTS, LIFETIME_TOTALS
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import mark_partition
from tallygate.limiter.keys import PARTITIONS
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.gateway_metrics import GatewayMetrics
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metrics import FIRST_BYTE_SECONDS, OVERHEAD_SECONDS, REFUSED, REQUEST_SECONDS

WORKERS = 4
SCRAPES = 7
SETTLED_AT_ONCE = 200
TICK_SECONDS = 0.001
CAPABILITIES = ("chat", "embeddings")
OUTCOMES = ("success", "client_error", "refused")
LIMIT = SpendLimit(name="spend_7d", limit_nano_usd=10**11)
RATES = (
    RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=60, refill_units=60, window_ms=60_000),
    RateLimit(name="tokens_per_1m", quantity=Quantity.TOKENS, capacity=100_000, refill_units=100_000, window_ms=60_000),
)
PLAN = Plan(id="bench", spend_limits=(LIMIT,), rate_limits=RATES)
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One scrape."""

    seconds: float
    cpu_seconds: float
    stalled_seconds: float
    body: bytes
    packed_bytes: int


def organizations(count: int) -> tuple[Organization, ...]:
    return tuple(
        Organization(
            id=f"bench-{number:05d}",
            name="Bench",
            plan=PLAN,
            credentials=tuple(
                Credential(id=f"bench-{number:05d}-{kind}", org=f"bench-{number:05d}", key_sha256=b"") for kind in "ab"
            ),
        )
        for number in range(count)
    )


def exchanges(orgs: Sequence[Organization]) -> Iterator[tuple[str, str, str]]:
    for org in orgs:
        for credential, capability in itertools.product(org.credentials, CAPABILITIES):
            yield org.id, credential.id, capability


async def fill_ledger(database: Database, orgs: Sequence[Organization]) -> None:
    await database.migrate()
    rows = [
        {"org": org, "credential": credential, "capability": capability, "outcome": outcome}
        | {"model": "" if outcome == "refused" else "gpt-4o-mini", "usage_source": "" if outcome == "refused" else "upstream"}
        | {name: 1_234_567 if outcome == "success" else int(name == "requests") for name in LIFETIME_AMOUNTS}
        for org, credential, capability in exchanges(orgs)
        for outcome in OUTCOMES
    ]
    async with database.write() as connection:
        await connection.execute(insert(LIFETIME_TOTALS), rows)


async def fill_limiter(limiter: RedisLimiter, orgs: Sequence[Organization]) -> None:
    async def spend(org: Organization) -> None:
        admission = AdmissionRequest(
            reservation_id=f"{org.id}-{time.time_ns():x}",
            org=org.id,
            rate=tuple(RateDemand(key=f"org:{limit.name}", limit=limit, units=1) for limit in RATES),
            spend=(SpendDemand(key=f"org:{LIMIT.name}", limit=LIMIT),),
            hold_nano_usd=1_000,
            hold_min_nano_usd=1_000,
            floor_nano_usd=0,
            lease_ms=60_000,
            event=b"{}",
        )
        await limiter.admit(admission)
        await limiter.settle(Account(admission=admission, cost_nano_usd=400, event=b"{}"))

    for start in range(0, len(orgs), SETTLED_AT_ONCE):
        await asyncio.gather(*map(spend, orgs[start : start + SETTLED_AT_ONCE]))


def fill_count_files(directory: Path, config: GatewayConfig) -> None:
    labels = KnownLabels.of(config)
    known = KnownLabels(
        organizations=labels.organizations,
        credentials=labels.credentials,
        capabilities=frozenset(CAPABILITIES),
        limits=labels.limits,
    )
    for slot in range(WORKERS):
        counts = CountFile(directory, f"worker-{slot}")
        metrics = GatewayMetrics(counts, known, now_ns=time.time_ns)
        for exchange in exchanges(config.organizations):
            metrics.inc(REFUSED, *exchange, LIMIT.name)
        for number, capability in itertools.product(range(1_000), CAPABILITIES):
            for metric, seconds in ((REQUEST_SECONDS, number / 500), (FIRST_BYTE_SECONDS, number / 1_000)):
                metrics.observe(metric, seconds, f"{number:032x}", capability)
            metrics.observe(OVERHEAD_SECONDS, number / 1e6, f"{number:032x}")
        counts.close()


async def scraped(port: int) -> Taken:
    """By curl, so that reading costs this process nothing."""
    stalled = 0.0

    async def watch() -> None:
        nonlocal stalled
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            stalled = max(stalled, time.perf_counter() - before - TICK_SECONDS)

    watching = asyncio.create_task(watch())
    started, cpu_started = time.perf_counter(), time.process_time()
    command = ("curl", "-sS", "-H", f"Accept: {ACCEPT}", "-H", "Accept-Encoding: gzip", f"http://127.0.0.1:{port}/metrics")
    curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    packed, _ = await curl.communicate()
    taken, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    watching.cancel()
    return Taken(seconds=taken, cpu_seconds=cpu, stalled_seconds=stalled, body=gzip.decompress(packed), packed_bytes=len(packed))


async def main(url: str, count: int) -> None:
    orgs = organizations(count)
    config = GatewayConfig(plans={}, routes=(), upstreams={}, prices=PriceCatalogue(()), organizations=orgs, version="bench")
    connection = RedisConnection(parse_address(url), timeout_ms=10_000)
    await connection.open()
    for partition in range(PARTITIONS):
        await mark_partition(connection, partition, "bench")
    scripts = load_scripts()
    limiter = RedisLimiter(connection, scripts)
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
        database = open_database("", Path(directory))
        await fill_ledger(database, orgs)
        await fill_limiter(limiter, orgs)
        fill_count_files(Path(directory) / "metrics", config)
        scrape = Scrape(
            config=lambda: config,
            version="bench",
            now_ms=lambda: time.time_ns() // 1_000_000,
            workers=Workers(Path(directory) / "metrics", workers=WORKERS, now_ms=lambda: time.monotonic_ns() // 1_000_000),
            store=LimiterStore(
                connection,
                limiter,
                Sweeper(connection, scripts),
                stream_bytes_max=Settings().stream_bytes_max,
                close=connection.close,
            ),
            totals=LedgerTotals(database),
        )
        server = ConsoleServer(timeouts=client_timeouts(Settings()), scrape=scrape, readiness=Readiness([]), token_sha256=None)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        await server.start(listening)
        taken = [await scraped(listening.getsockname()[1]) for _ in range(SCRAPES)]
        await server.close()
        await scrape.close()
        await database.close()
    await connection.close()
    report(count, taken)


def report(count: int, taken: Sequence[Taken]) -> None:
    last = taken[-1]
    series = sum(1 for line in last.body.splitlines() if not line.startswith(b"#"))
    median_ms = statistics.median(one.seconds for one in taken[1:]) * 1000
    cpu_ms = min(one.cpu_seconds for one in taken) * 1000
    stalled_ms = max(one.stalled_seconds for one in taken[1:]) * 1000
    print(f"{count} organizations, {series} series, {len(last.body) / 1e6:.1f} MB, {last.packed_bytes / 1e6:.2f} MB compressed")
    print(f"first scrape {taken[0].seconds * 1000:.0f} ms, then {median_ms:.0f} ms (median); at least {cpu_ms:.0f} ms of CPU time")
    print(f"event loop still for at most {stalled_ms:.0f} ms")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url")
    options.add_argument("--organizations", type=int, default=5_000)
    chosen = options.parse_args()
    uvloop.run(main(chosen.url, chosen.organizations))
