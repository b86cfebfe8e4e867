"""What the ledger's writer costs an event: from an entry of the limiter's stream, as it is read, to a committed transaction.

python -m bench.ledger_writer [--batches 1,50,250,1000] [--database postgresql://...] [--python ../other/.venv/bin/python ...]

Events are chat requests of 100 organizations in turn, as in the other benches. CPU of the whole process is told, that of
PostgreSQL's server apart. Several interpreters, each of another checkout, are measured in turn within each round. A database of
PostgreSQL is one of one's own: its ledger is filled.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench import procfs
from bench.samples import spread
from bench.tallygate import ORGANIZATIONS
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.event_stream import StreamEntry
from tallygate.ledger.opening import open_database
from tallygate.ledger.writer import Writer

FIRST_MS = time.time_ns() // 1_000_000
EVENTS_MIN = 2_000  # of a round
BATCHES_MIN = 4


def stream_fields(number: int) -> dict[bytes, bytes]:
    """The fields of a stream entry, as a settlement of an ordinary chat request makes them."""
    at_ms = FIRST_MS + number
    event_id = f"{at_ms:012x}{number:020x}"
    org = f"limited-{number % ORGANIZATIONS}"
    event = (
        f'{{"event_id":"{event_id}","org":"{org}","credential":"{org}-main","capability":"chat","endpoint":"/v1/chat/completions",'
        '"method":"POST","request_model":"gpt-4o-mini","response_model":"gpt-4o-mini-2024-07-18","upstream":"default","status":200,'
        f'"outcome":"success","started_at_ms":{at_ms},"duration_ms":12,"first_byte_ms":11,"prompt_tokens":64,"completion_tokens":18,'
        '"input_nano_usd":9600,"output_nano_usd":10800,"usage_source":"upstream","price_version":"gpt-4o-mini@2024-07-18.deadbeef",'
        '"cost_nano_usd":20400,"request_bytes":490,"response_bytes":671}'
    )
    words = {"event_id": event_id, "kind": "settled", "settled_at_ms": at_ms, "cost_nano_usd": 20400, "posted_nano_usd": 20400}
    words |= {"prompt_tokens": 64, "completion_tokens": 18, "flags": "", "event": event}
    return {name.encode(): str(value).encode() for name, value in words.items()}


class ReadStreams:
    """Streams that have been read already: a batch for each step of the writer."""

    def __init__(self, size: int, count: int) -> None:
        numbers = range(size * count)
        entries = [StreamEntry(number % 64, b"%d-0" % (FIRST_MS + number), stream_fields(number)) for number in numbers]
        self._batches = iter([entries[start : start + size] for start in range(0, len(entries), size)])

    async def unfinished(self, _most: int) -> list:
        return []

    async def claim(self, _most: int, **_told: object) -> list:
        return []

    async def fresh(self, _most: int) -> list:
        return next(self._batches)

    async def finish(self, _entries: object) -> None: ...


async def cost_of(size: int, database_url: str) -> tuple[float, float]:
    """CPU µs an event of this process, and of PostgreSQL's."""

    async def never(_partition: int) -> None: ...

    count = max(BATCHES_MIN, EVENTS_MIN // size)
    warm = max(2, -(-2 * ORGANIZATIONS // size))  # every series has its number
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
        database = open_database(database_url, Path(directory))
        await database.migrate()
        writer = Writer(
            ReadStreams(size, warm + count),  # type: ignore[arg-type]
            Book(database),
            now_ms=lambda: FIRST_MS,
            loop_time=time.monotonic,
            on_posted_again=never,
        )
        for _ in range(warm):
            await writer.step()
        servers, before = await _servers(database) if database_url else (), time.process_time()
        server_before = procfs.cpu_seconds(servers)
        for _ in range(count):
            await writer.step()
        own, server = time.process_time() - before, procfs.cpu_seconds(servers) - server_before
        if writer.counts.stored != size * (warm + count):
            raise SystemExit(f"stored {writer.counts} of {size * (warm + count)}")
        await database.close()
    return own / (size * count) * 1e6, server / (size * count) * 1e6


async def _servers(database: Database) -> tuple[int, ...]:
    """The processes of the PostgreSQL server, which is on this machine."""
    async with database.read() as connection:
        backend = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return procfs.family(procfs.parse_parent((procfs.PROC / str(backend) / "stat").read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,50,250,1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", default="", help="a PostgreSQL URL; without it SQLite")
    parser.add_argument("--python", action="append", type=os.path.abspath, help="the interpreter of a checkout; may be repeated")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(asyncio.run(cost_of(options.once, options.database))))
        return 0
    pythons = options.python or [sys.executable]
    table = Table(title="CPU µs an event: median (lowest to highest)", title_justify="left")
    table.add_column("events at once")
    for python in pythons:
        table.add_column(python, justify="right")
    table.add_column("last ÷ first", justify="right")
    for size in map(int, options.batches.split(",")):
        figures: dict[str, list[tuple[float, float]]] = {python: [] for python in pythons}
        for _ in range(options.rounds):
            for python in pythons:
                command = [python, "-m", "bench.ledger_writer", "--once", str(size), "--database", options.database]
                figures[python].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        spreads = [spread([own for own, _ in rounds]) for rounds in figures.values()]
        shown = [f"{each.median:.0f} ({each.low:.0f} to {each.high:.0f})" for each in spreads]
        if options.database:
            servers = [spread([server for _, server in rounds]).median for rounds in figures.values()]
            shown = [f"{own} + server {server:.0f}" for own, server in zip(shown, servers, strict=True)]
        table.add_row(str(size), *shown, f"{spreads[-1].median / spreads[0].median:.2f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
