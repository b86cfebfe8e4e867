"""Whether docs/scaling.md is right: its arithmetic beside what a deployment of that size takes.

PYTHONPATH=tests python -m bench.scaling [--organizations 100000] [--active 10000] [--requests 6000]

Three masters of a Redis Cluster, PostgreSQL, and a gateway, a console and a ledger by themselves, on loopback, in the tests'
harness. The organizations are in the directory, with every kind of limit. For a minute nobody asks; then those that are active ask
once each, and then so many requests more come from all of them in turn. CPU is that of processes, from the kernel's clock, beside
a naive proxy's; a rate is neither wanted nor told. It is counted over whole minutes, between what the ledger does once in each, and
up to a minute after the last request, when leases are over. Exits with 1 if a figure is further than a fifth from the page's.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import yaml
from cluster_processes import Cluster, running_cluster
from postgres_process import PostgresProcess, running_postgres
from rich.console import Console
from rich.table import Table

from bench import procfs
from bench.contenders import PROJECT, Contender, Stage, free_port, start_naive, start_upstream
from bench.directory_scale import make, name_of
from bench.pinning import Pinning
from bench.stepped import ask, serves
from bench.tallygate import ADMIN_TOKEN, configuration
from bench.workload import Target
from tallygate.ledger.book import Book
from tallygate.ledger.opening import open_database
from tallygate.ledger.upkeep import FOLD_EVERY_SECONDS

PLAN: Final = "pay_as_you_go"  # of the directory's organizations
CHUNK: Final = 2_000  # requests at once
START_SECONDS: Final = 600.0  # a directory of 100,000 takes a busy machine a while
REST_SECONDS: Final = 5.0
MINUTE_SECONDS: Final = FOLD_EVERY_SECONDS
QUIET_AT_SECONDS: Final = 40.0  # of a minute on the monotonic clock: what the ledger does at its begin has ended
QUARTER_SECONDS: Final = 900.0  # when one begins, sums get new rows
RUN_SECONDS: Final = 480.0  # of all periods, at most
NAIVE_US: Final = 147  # of a request through bench/naive_proxy.py on the machine of the page's figures
TOLERANCE: Final = 0.2
ROWS_OF_A_FIRST_REQUEST: Final = 13  # of rollups: one of every level


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU of a part, in µs.

    first_us         for the first request that an organization ever makes
    request_us       for any other
    series_us        in a minute, for each series of which others came
    clock_us         in a second
    organization_us  in a second, for each organization
    """

    first_us: int
    request_us: int
    series_us: int
    clock_us: int
    organization_us: float

    def of(self, period: "Period", organizations: int) -> float:
        """What this part takes in a period, in µs."""
        by_the_clock = period.seconds * (self.clock_us + self.organization_us * organizations)
        return by_the_clock + period.first * self.first_us + period.requests * self.request_us + period.series * self.series_us


CPU: Final = {  # what the page reckons with, as all that follows; tests/bench holds the page to it
    "gateway": Cpu(first_us=560, request_us=490, series_us=0, clock_us=4_300, organization_us=0),
    "store": Cpu(first_us=510, request_us=270, series_us=320, clock_us=10_500, organization_us=0.02),
    "ledger": Cpu(first_us=820, request_us=60, series_us=230, clock_us=7_500, organization_us=0.27),
    "database": Cpu(first_us=430, request_us=55, series_us=440, clock_us=4_000, organization_us=0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Some whole minutes, and the requests that came.

    first   those that are the first of their organizations; requests: all others
    series  those of which others came, as often as in different minutes
    cpu     in seconds, of each part and of the naive proxy, through which as many requests went
    """

    name: str
    seconds: float
    first: int = 0
    requests: int = 0
    series: int = 0
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Bytes, and connections of one process of each role."""

    master_bytes: int = 1_000_000
    limit_bytes: int = 440
    store_active_bytes: int = 750
    answer_bytes: int = 250
    append_only_bytes: int = 4_400
    worker_bytes: int = 160_000_000
    worker_organization_bytes: int = 1_300
    worker_active_bytes: int = 7_000
    directory_bytes: int = 610
    entry_bytes: int = 765
    rollup_bytes: int = 400
    other_bytes: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, and what the page says."""

    name: str
    measured: float
    reckoned: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.measured / self.reckoned

    @property
    def is_off(self) -> bool:
        return not 1 - TOLERANCE <= self.ratio <= 1 + TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What runs. roles: the first process of each."""

    target: Target
    naive: Contender
    cluster: Cluster
    postgres: PostgresProcess
    roles: dict[str, int]

    @property
    def worker(self) -> int:
        return next(pid for pid in procfs.family(self.roles["gateway"]) if "tallygate.processes.worker" in procfs.command_line(pid))

    def cpu_seconds(self) -> dict[str, float]:
        """Of everything so far. gateway: the worker, and what else runs on its machine."""
        postmaster = int((self.postgres.data / "postmaster.pid").read_text().split()[0])
        return {
            "naive": procfs.cpu_seconds(self.naive.measured),
            "gateway": procfs.cpu_seconds_of_family(self.roles["gateway"]),
            "store": procfs.cpu_seconds(server.pid for server in self.cluster.masters),
            "ledger": procfs.cpu_seconds_of_family(self.roles["ledger"]),
            "database": procfs.cpu_seconds_of_family(postmaster),
        }

    def append_only_bytes(self) -> int:
        return sum(file.stat().st_size for server in self.cluster.masters for file in server.directory.rglob("*.aof"))

    def connections(self) -> tuple[int, int]:
        """To the store and to the database, of all roles."""
        store, found = {server.port for server in self.cluster.masters}, Counter[str]()
        for root in self.roles.values():
            for pid in procfs.family(root):
                for connection in psutil.Process(pid).net_connections("tcp"):
                    port = connection.raddr.port if connection.raddr and connection.status == psutil.CONN_ESTABLISHED else 0
                    found["store"] += port in store
                    found["database"] += port == self.postgres.port
        return found["store"], found["database"]


async def measured(options: argparse.Namespace) -> tuple[list[Figure], int]:
    """The figures, and the number of requests."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-bench-")))
        cluster = stack.enter_context(running_cluster(append_only=True))
        postgres = stack.enter_context(running_postgres())
        await _fill(postgres.url(), options.organizations)
        stage = Stage(directory, Pinning(load_core=None, proxy_core=None))
        stack.callback(stage.stop)
        empty = _store_bytes(cluster)
        deployment = await _started(stage, cluster, postgres, options.active)
        return await _asked(deployment, options, empty)


async def _asked(deployment: Deployment, options: argparse.Namespace, empty_store: int) -> tuple[list[Figure], int]:
    page, masters = Constants(), len(deployment.cluster.masters)
    active, requests = options.active, options.active + options.requests
    await _rested(deployment, 1)
    await _quarter_has_begun()
    periods = [await _period(deployment, "a minute at rest", range(0))]
    store_at_rest, worker_at_rest = _store_bytes(deployment.cluster), procfs.pss_bytes([deployment.worker])
    written, empty = deployment.append_only_bytes(), await _database_bytes(deployment.postgres.url())
    periods.append(await _period(deployment, "first requests", range(active), first=active - 1))
    store, worker = _store_bytes(deployment.cluster), procfs.pss_bytes([deployment.worker])
    periods.append(await _period(deployment, "requests", range(active, requests), series=min(options.requests, active)))
    appended = deployment.append_only_bytes() - written
    to_store, to_database = deployment.connections()
    print(f"{to_database} connections to the database")
    full, entries, rows = await _at_the_end(deployment.postgres.url())

    def figure(name: str, value: float, reckoned: float, unit: str) -> Figure:
        return Figure(name=name, measured=value, reckoned=reckoned, unit=unit)

    reckoned_store = masters * page.master_bytes + options.organizations * page.limit_bytes
    reckoned_active = active * (page.store_active_bytes + page.answer_bytes)  # nothing is forgotten before others settle
    reckoned_worker = page.worker_bytes + options.organizations * page.worker_organization_bytes
    return [
        *_cpu_figures(periods, options.organizations),
        figure("store: memory of all organizations", store_at_rest - empty_store, reckoned_store, "B"),
        figure("store: memory of those that are active", store - store_at_rest, reckoned_active, "B"),
        figure("store: append-only files", appended, requests * page.append_only_bytes, "B"),
        figure("worker: memory of all organizations", worker_at_rest, reckoned_worker, "B"),
        figure("worker: memory of those that are active", worker - worker_at_rest, active * page.worker_active_bytes, "B"),
        figure("database: directory", empty["directory"], options.organizations * page.directory_bytes, "B"),
        figure("database: entries", full["entries"] - empty["entries"], entries * page.entry_bytes, "B"),
        figure("database: rows of rollups", rows, active * ROWS_OF_A_FIRST_REQUEST, ""),
        figure("database: rollups", full["rollups"] - empty["rollups"], rows * page.rollup_bytes, "B"),
        figure("database: other sums", full["other"] - empty["other"], active * page.other_bytes, "B"),
        figure("connections to the store", to_store, (masters + 1) + len(deployment.roles) * (2 * masters + 1), ""),
    ], requests


async def _period(deployment: Deployment, name: str, numbers: range, *, first: int = 0, series: int = 0) -> Period:
    """Whole minutes in which these requests come, each of another organization: here, and as many through the naive proxy."""
    await _quiet()
    before, began = deployment.cpu_seconds(), time.monotonic()
    for chunk in _chunks(numbers, CHUNK):
        await _ask(deployment.target, chunk)
        await ask(deployment.naive.target, requests=len(chunk), seed=-chunk.start)
    await _rested(deployment, numbers.stop + 1)
    if numbers:
        await asyncio.sleep(MINUTE_SECONDS)
    await _quiet()
    seconds, after = time.monotonic() - began, deployment.cpu_seconds()
    print(f"{name}: {len(numbers):,} in {seconds:,.0f} s")
    return Period(
        name=name,
        seconds=seconds,
        first=first,
        requests=len(numbers) - first,
        series=series,
        cpu={part: after[part] - before[part] for part in after},
    )


async def _quiet() -> None:
    """Until the ledger has done what it does at the begin of a minute. Its ticks are those of the machine's monotonic clock."""
    await asyncio.sleep((QUIET_AT_SECONDS - time.monotonic()) % MINUTE_SECONDS)


async def _quarter_has_begun() -> None:
    """Until no quarter of an hour begins before the end: the rows that all organizations' sums get then are of no one period."""
    left = QUARTER_SECONDS - time.time() % QUARTER_SECONDS
    if left < RUN_SECONDS:
        print(f"the next quarter of an hour begins in {left:,.0f} s, and the run then")
        await asyncio.sleep(left + 1)


def _cpu_figures(periods: Sequence[Period], organizations: int) -> Iterator[Figure]:
    """CPU of each part in each period, in ms of the page's machine: what the naive proxy takes more or less, this one does."""
    asked = sum(period.first + period.requests for period in periods)
    naive_us = sum(period.cpu["naive"] for period in periods) / asked * 1e6
    print(f"a request took the naive proxy {naive_us:,.0f} µs")
    for period in periods:
        for part, each in CPU.items():
            yield Figure(
                name=f"CPU of the {part}, {period.name}",
                measured=period.cpu[part] * 1e3 * NAIVE_US / naive_us,
                reckoned=each.of(period, organizations) / 1e3,
                unit="ms",
            )


def _store_bytes(cluster: Cluster) -> int:
    """Memory that the store has given out."""
    found = 0
    for server in cluster.masters:
        with server.client() as client:
            found += int(client.info("memory")["used_memory"])
    return found


async def _fill(url: str, organizations: int) -> None:
    database = open_database(url, Path())
    await database.migrate()
    await make(database, organizations, 1, 0)
    await database.close()


async def _started(stage: Stage, cluster: Cluster, postgres: PostgresProcess, active: int) -> Deployment:
    upstream = (await start_upstream(stage)).target.port
    config = stage.directory / "config"
    config.mkdir()
    files = configuration(upstream)
    files["plans.yaml"] = {"plans": {PLAN: files["plans.yaml"]["plans"]["limited"]}}  # type: ignore[index]
    files["organizations.yaml"] = {"organizations": []}
    for name, value in files.items():
        (config / name).write_text(yaml.safe_dump(value, sort_keys=False))
    port, consoles, roles = free_port(), {role: free_port() for role in ("ledger", "gateway", "console")}, {}
    for role, console in consoles.items():
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
            "PYTHONPATH": str(PROJECT),
            "TALLYGATE_LISTEN": f"127.0.0.1:{port}",
            "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{console}",
            "TALLYGATE_REDIS_URL": cluster.url,
            "TALLYGATE_DATABASE_URL": postgres.url(),
            "TALLYGATE_UPSTREAM_API_KEY": "sk-upstream",
            "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
            "TALLYGATE_DATA_DIR": str(stage.directory / role),
            "TALLYGATE_CONFIG_DIR": str(config),
            "TALLYGATE_LOG_LEVEL": "warning",
        }
        roles[role] = stage.start(role, [sys.executable, "-m", "tallygate", role], environment=environment).pid
    for role, console in consoles.items():
        await _ready(role, console, stage.directory / f"{role}.log")
    target = Target(port=port, keys=tuple(_key(number) for number in range(active)))
    await serves(Target(port=port, keys=target.keys[-1:]))
    naive = await start_naive(stage, upstream)
    return Deployment(target=target, naive=naive, cluster=cluster, postgres=postgres, roles=roles)


async def _ready(role: str, port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/readyz", timeout=10)
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() > until:
                raise SystemExit(f"the {role} is not ready: {log}") from None
            await asyncio.sleep(0.5)
        else:
            return


async def _ask(target: Target, numbers: range) -> None:
    """A request of each of these organizations, which begin anew after the last."""
    for chunk in _chunks(numbers, CHUNK):
        keys = tuple(target.keys[number % len(target.keys)] for number in chunk)
        await ask(Target(port=target.port, keys=keys), requests=len(chunk), seed=chunk.start)


def _chunks(numbers: range, size: int) -> Iterator[range]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


async def _rested(deployment: Deployment, requests: int) -> None:
    """Until the ledger has all of these. A scrape would tell, and would ask the store about thousands of organizations."""
    while await _count(deployment.postgres.url(), "entries") < requests:  # noqa: ASYNC110 - another process stores them
        await asyncio.sleep(0.5)
    await asyncio.sleep(REST_SECONDS)


def _key(number: int) -> str:
    return f"tg_{name_of(number)}-key_{name_of(number)}"


_TABLES: Final = """
SELECT CASE WHEN relname ~ '^entries' THEN 'entries' WHEN relname ~ '^rollups' THEN 'rollups'
            WHEN relname ~ '^(organizations|credentials)' THEN 'directory' ELSE 'other' END AS part,
       sum(pg_total_relation_size(oid))::bigint
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY part
"""


async def _database_bytes(url: str) -> dict[str, int]:
    """Tables with their indexes, by what they are for."""
    connection = await asyncpg.connect(url)
    found = {part: int(size) for part, size in await connection.fetch(_TABLES)}
    await connection.close()
    return found


async def _at_the_end(url: str) -> tuple[dict[str, int], int, int]:
    """Bytes without what was updated or deleted, and the numbers of entries and of rows of rollups."""
    database = open_database(url, Path())
    await Book(database).fold()
    await database.close()
    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM FULL")
    await connection.close()
    return await _database_bytes(url), await _count(url, "entries"), await _count(url, "rollups")


async def _count(url: str, table: str) -> int:
    connection = await asyncpg.connect(url)
    found = int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    await connection.close()
    return found


def show(figures: Sequence[Figure], title: str) -> None:
    table = Table("", "measured", "by the page", "measured ÷ page", title=title, title_justify="left")
    for each in figures:
        style = "red" if each.is_off else None
        table.add_row(each.name, _text(each.measured, each.unit), _text(each.reckoned, each.unit), f"{each.ratio:.2f}", style=style)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _text(value: float, unit: str) -> str:
    return f"{value / 1e6:,.1f} MB" if unit == "B" else f"{value:,.0f} {unit}".strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organizations", type=int, default=100_000)
    parser.add_argument("--active", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=6_000)
    options = parser.parse_args()
    if options.active > options.organizations:
        parser.error("more are active than there are")
    figures, requests = asyncio.run(measured(options))
    show(figures, f"{options.organizations:,} organizations, {options.active:,} active, 3 masters; {requests:,} requests")
    return int(any(each.is_off for each in figures))


if __name__ == "__main__":
    sys.exit(main())
