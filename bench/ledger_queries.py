"""How fast a ledger of ten million events answers: make one, then ask what a usage page asks.

python -m bench.ledger_queries --events 10000000 [--database postgresql://...] [--directory DIR]

A ledger that is in the directory already is used as it is. Makes events of 50 organizations over 90 days, the busy ones far
busier than the others, with the writer's own tables; rollups are made from the events in SQL, and compared at the end.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import astuple
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Printed
from sqlalchemy import text

from bench import procfs
from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.history import Dimension, EntriesQuery, OrgScope, UsageQuery
from tallygate.ledger.opening import open_database
from tallygate.ledger.rollups import FINEST, LEVELS
from tallygate.ledger.schema import AMOUNTS, ROLLUP_AMOUNTS
from tallygate.ledger.series import Detail
from tallygate.ledger.time_buckets import QUARTER_MS, Bucket
from tallygate.ledger.usage_queries import UsageQueries

DAY_MS = 86_400_000
START_MS = 1_780_000_000_000 // DAY_MS * DAY_MS
DAYS = 90
ORGS = 50
CHUNK = 20_000
CAPABILITIES = (
    ("chat", "/v1/chat/completions", ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5")),
    ("embeddings", "/v1/embeddings", ("text-embedding-3-small",)),
    ("search", "/v1/search", ("",)),
    ("models", "/v1/models", ("",)),
)
LABELS = "org, credential, capability, coalesce(response_model, ''), endpoint, status, outcome"
SUMS = ", ".join(f"sum({name})" for name in AMOUNTS)
ROLLED_UP = f"{SUMS}, sum(refused)"
INTO_ROLLUPS = f"INSERT INTO rollups (length_ms, detail, org, bucket_ms, series, {', '.join(ROLLUP_AMOUNTS)})"


def events(count: int) -> Iterator[tuple[Any, ...]]:
    """Rows of `entries` in the order of time, as tuples in the order of an Entry's fields."""
    source = random.Random(1)
    weights = [1 / (rank + 1) for rank in range(ORGS)]
    orgs = source.choices(range(ORGS), weights, k=1 << 16)
    for number in range(count):
        at = START_MS + number * DAYS * DAY_MS // count
        org = orgs[(number * 7919) & 0xFFFF]
        pick = source.getrandbits(24)
        capability, endpoint, models = CAPABILITIES[0 if pick & 7 < 5 else (pick & 7) - 4]
        model = models[(pick >> 3) % len(models)] or None
        status = 200 if (pick >> 5) % 50 else (400 if pick & 1 << 12 else 502)
        prompt, completion = ((pick & 0xFFF) + 20, (pick >> 12) & 0x3FF) if model and status == 200 else (0, 0)
        cost = prompt * 150 + completion * 600
        yield astuple(
            Entry(
                event_id=f"{at:012x}{number:020x}",
                org=f"org-{org:02d}",
                credential=f"org-{org:02d}-key-{pick % 3}",
                capability=capability,
                endpoint=endpoint,
                method="POST",
                request_model=model,
                response_model=model,
                upstream="default",
                status=status,
                outcome=Outcome.SUCCESS if status == 200 else Outcome.CLIENT_ERROR,
                started_at_ms=at - 900,
                duration_ms=900,
                first_byte_ms=200,
                prompt_tokens=prompt,
                completion_tokens=completion,
                cached_tokens=prompt // 3,
                reasoning_tokens=completion // 4,
                cost_nano_usd=cost,
                input_nano_usd=prompt * 150,
                output_nano_usd=completion * 600,
                usage_source=UsageSource.UPSTREAM,
                price_version="v1",
                request_bytes=800,
                response_bytes=2_000,
                sequence=0,
                kind=Kind.SETTLED,
                settled_at_ms=at,
                entered_at_ms=at,
                posted_at_ms=at,
                posted_nano_usd=cost,
                flags="",
            )
        )


async def make(database: Database, count: int) -> None:
    columns = ("[bold]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*(TextColumn(column) if isinstance(column, str) else column for column in columns)) as progress:
        made = progress.add_task("events", total=count)
        rows = events(count)
        await EntryMonths(database).make(START_MS, START_MS + DAYS * DAY_MS)
        while chunk := [row for _, row in zip(range(CHUNK), rows, strict=False)]:
            async with database.write() as connection:
                raw = (await connection.get_raw_connection()).driver_connection
                if database.dialect == "postgresql":
                    await raw.copy_records_to_table("entries", records=chunk, columns=list(Entry.__struct_fields__))
                else:
                    marks = ", ".join("?" * len(Entry.__struct_fields__))
                    await raw.executemany(f"INSERT INTO entries ({', '.join(Entry.__struct_fields__)}) VALUES ({marks})", chunk)
            progress.advance(made, len(chunk))
        statements = list(_rollups())
        steps = progress.add_task("rollups", total=len(statements))
        for statement in statements:
            async with database.write() as connection:
                await connection.execute(text(statement))
            progress.advance(steps)
    async with database.write() as connection:
        await connection.execute(text("ANALYZE"))


def _rollups() -> Iterator[str]:
    names = "org, credential, capability, model, endpoint, status, outcome"
    yield f"INSERT INTO series ({names}, refused_by) SELECT DISTINCT {LABELS}, '' FROM entries"
    same = " AND ".join(f"s.{name} = e.{name}" for name in ("org", "credential", "capability", "endpoint", "status", "outcome"))
    yield (
        f"{INTO_ROLLUPS} SELECT {QUARTER_MS}, 'series', e.org, e.settled_at_ms / {QUARTER_MS} * {QUARTER_MS}, s.id, {SUMS}, 0 "
        f"FROM entries e JOIN series s ON {same} AND s.model = coalesce(e.response_model, '') GROUP BY 3, 4, 5"
    )
    kind = "org, capability, model, endpoint, status, outcome, refused_by"
    yield f"INSERT INTO series (credential, {kind}) SELECT DISTINCT '', {kind} FROM series"
    nothing = "'', '', '', 0, '', ''"
    yield f"INSERT INTO series ({names}, refused_by) SELECT DISTINCT org, credential, {nothing} FROM series WHERE credential <> ''"
    alike = " AND ".join(f"k.{name} = s.{name}" for name in kind.split(", "))
    numbers = {
        Detail.SERIES: ("r.series", ""),
        Detail.KIND: ("k.id", f"JOIN series s ON s.id = r.series JOIN series k ON k.credential = '' AND {alike} "),
        Detail.CREDENTIAL: (
            "k.id",
            "JOIN series s ON s.id = r.series JOIN series k ON k.org = s.org AND k.credential = s.credential AND k.outcome = '' ",
        ),
        Detail.ORG: ("0", ""),
    }
    for detail, length in LEVELS:
        if (detail, length) != FINEST:
            number, joined = numbers[detail]
            yield (
                f"{INTO_ROLLUPS} SELECT {length}, '{detail}', r.org, r.bucket_ms / {length} * {length}, {number}, {ROLLED_UP} "
                f"FROM rollups r {joined}WHERE r.detail = 'series' AND r.length_ms = {QUARTER_MS} GROUP BY 3, 4, 5"
            )
    yield (
        "INSERT INTO spend_buckets (org, bucket_ms, credential, posted_nano_usd) "
        "SELECT org, posted_at_ms / 300000 * 300000, credential, sum(posted_nano_usd) "
        "FROM entries GROUP BY 1, 2, 3"
    )


def questions(queries: UsageQueries) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    everyone = tuple(OrgScope(org=f"org-{number:02d}") for number in range(ORGS))
    busiest = everyone[:1]
    ninety = {"from_ms": START_MS, "to_ms": START_MS + DAYS * DAY_MS}

    def usage(**asked: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: queries.usage(UsageQuery(**{**ninety, **asked}))

    for zone in ("UTC", "America/New_York", "Asia/Kolkata"):
        yield f"busiest organization, by day, {zone}", usage(scopes=busiest, bucket=Bucket.DAY, time_zone=zone)
        capability = (Dimension.CAPABILITY,)
        yield (
            f"busiest organization, by day and capability, {zone}",
            usage(scopes=busiest, bucket=Bucket.DAY, time_zone=zone, group_by=capability),
        )
        yield (
            f"busiest organization, by month and model, {zone}",
            usage(scopes=busiest, bucket=Bucket.MONTH, time_zone=zone, group_by=(Dimension.MODEL,)),
        )
        yield f"all organizations, by day, {zone}", usage(scopes=everyone, bucket=Bucket.DAY, time_zone=zone)
        yield (
            f"all organizations, by day and organization, {zone}",
            usage(scopes=everyone, bucket=Bucket.DAY, time_zone=zone, group_by=(Dimension.ORG,)),
        )
        yield (
            f"all organizations, by week and model, {zone}",
            usage(scopes=everyone, bucket=Bucket.WEEK, time_zone=zone, group_by=(Dimension.MODEL,)),
        )
        yield (
            f"all organizations, by day and model, {zone}",
            usage(scopes=everyone, bucket=Bucket.DAY, time_zone=zone, group_by=(Dimension.MODEL,)),
        )
    short = {**ninety, "to_ms": START_MS + 250 * 3_600_000}  # where a page of the API ends
    yield (
        "all organizations, 250 hours by model, Asia/Kolkata",
        lambda: queries.usage(
            UsageQuery(**short, scopes=everyone, bucket=Bucket.HOUR, time_zone="Asia/Kolkata", group_by=(Dimension.MODEL,))
        ),
    )
    everything = (Dimension.CREDENTIAL, Dimension.CAPABILITY, Dimension.MODEL, Dimension.STATUS)
    yield "busiest organization, whole range by everything", usage(scopes=busiest, group_by=everything)
    yield (
        "all organizations, whole range by organization and model",
        usage(scopes=everyone, group_by=(Dimension.ORG, Dimension.MODEL)),
    )
    yield (
        "busiest organization, one credential by hour",
        usage(scopes=busiest, bucket=Bucket.HOUR, filters={Dimension.CREDENTIAL: frozenset({"org-00-key-1"})}),
    )
    yield "busiest organization, newest 100 entries", lambda: queries.entries_page(EntriesQuery(scopes=busiest, **ninety))
    yield "all organizations, newest 100 entries", lambda: queries.entries_page(EntriesQuery(scopes=everyone, **ninety))
    for name, status in (("2 in 100", "502"), ("none", "418")):
        failed = {Dimension.STATUS: frozenset({status})}
        yield (
            f"all organizations, newest 100 entries of a status that {name} have",
            lambda failed=failed: queries.entries_page(EntriesQuery(scopes=everyone, filters=failed, **ninety)),
        )
    yield "busiest organization, spend of 7 days", lambda: queries.posted(busiest[0].org, START_MS + (DAYS - 7) * DAY_MS)
    month = {**ninety, "from_ms": START_MS + (DAYS - 30) * DAY_MS, "time_zone": "America/New_York"}
    for name in (Dimension.CAPABILITY, Dimension.MODEL, Dimension.CREDENTIAL):
        yield f"busiest organization, 30 days by {name}", usage(**month, scopes=busiest, group_by=(name,))
        yield f"all organizations, 30 days by {name}", usage(**month, scopes=everyone, group_by=(name,))
        yield f"all organizations, 30 days by day and {name}", usage(**month, scopes=everyone, bucket=Bucket.DAY, group_by=(name,))


async def server_of(database: Database) -> int | None:
    """The process id of PostgreSQL on this machine."""
    if database.dialect != "postgresql":
        return None
    async with database.read() as connection:
        backend = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return procfs.parse_parent((procfs.PROC / str(backend) / "stat").read_text())


def cpu_of(server: int | None) -> float:
    return 0.0 if server is None else procfs.cpu_seconds_of_family(server)


async def main(arguments: argparse.Namespace) -> None:
    arguments.directory.mkdir(parents=True, exist_ok=True)
    database = open_database(arguments.database, arguments.directory, statement_seconds=3_600)
    await database.migrate()
    async with database.read() as connection:
        is_empty = (await connection.execute(text("SELECT 1 FROM entries LIMIT 1"))).first() is None
    started = time.monotonic()
    if is_empty:
        await make(database, arguments.events)
        print(f"made in {time.monotonic() - started:.0f} s")
    async with database.read() as connection:
        for table in ("entries", "rollups", "spend_buckets"):
            count = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
            print(f"{table:14} {count:>12,} rows")
    server = await server_of(database)
    title = f"{database.dialect}, {DAYS} days; load {os.getloadavg()[0]:.1f}"
    table = Printed("Question", "rows", "median ms", "worst ms", "CPU ms", "server's CPU ms", title=title)
    for name, ask in questions(UsageQueries(database)):
        taken, worked, served, rows = [], [], [], 0
        for _ in range(arguments.repeat):
            begun, cpu, server_cpu = time.perf_counter(), time.process_time(), cpu_of(server)
            answer = await ask()
            taken.append((time.perf_counter() - begun) * 1000)
            worked.append((time.process_time() - cpu) * 1000)
            served.append((cpu_of(server) - server_cpu) * 1000)
            rows = len(answer if isinstance(answer, list) else answer.entries)
        middle = [f"{statistics.median(of):.0f}" for of in (taken, worked, served)]
        table.add_row(name, f"{rows:,}", middle[0], f"{max(taken):.0f}", middle[1], middle[2] if server else "")
    Console(width=120).print(table)
    await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--database", default="")
    parser.add_argument("--directory", type=Path, default=Path("bench/out/ledger"))
    parser.add_argument("--repeat", type=int, default=5)
    asyncio.run(main(parser.parse_args()))
