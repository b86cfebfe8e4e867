"""What a request costs where few come: `tallygate serve` at a low and steady rate, scraped as Prometheus does.

python -m bench.low_rate [--per-second 10] [--seconds 30] [--rounds 3] [--python ../other/.venv/bin/python ...]

At a low rate most of the cost is what is done by the clock. Told are CPU and bytes written to disk of each process, in a second
without any request or scrape, and for each request while all of it goes on. Several interpreters, each of another checkout, are
measured in turn within each round. Each has a gateway of its own, in a directory on the disk that --directory is on: a file system
in memory counts no bytes. The first scrape of a process, which makes what others use, comes before anything is counted.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aiohttp import ClientSession
from rich.console import Console
from rich.table import Table

from bench import procfs
from bench.contenders import Contender, Stage, start_upstream
from bench.pinning import Pinning
from bench.samples import spread
from bench.steady import SteadyLoad
from bench.tallygate import Tallygate, start_tallygate
from bench.workload import chat_bodies

WARM_SECONDS = 3
LAST_SECONDS = 6.0  # for what the last requests leave behind: ledger, append-only file
ROLES = ("gateway", "console", "store", "supervisor")
Spent = dict[str, float]


async def measure(pythons: Sequence[str], options: argparse.Namespace) -> int:
    """Print the figures of each interpreter; 1 if a request failed."""
    idle: dict[str, list[Spent]] = {python: [] for python in pythons}
    busy: dict[str, list[Spent]] = {python: [] for python in pythons}
    failed = 0
    for _ in range(options.rounds):
        for python in pythons:
            with tempfile.TemporaryDirectory(prefix="tallygate-bench-", dir=options.directory) as directory:
                stage = Stage(Path(directory), Pinning(load_core=None, proxy_core=None))
                try:
                    direct = await start_upstream(stage)
                    settings = {"PYTHONPATH": ""}  # the checkout of the interpreter is measured, not this one
                    tallygate = await start_tallygate(stage, direct.target.port, python=python, settings=settings)
                    at_rest, at_work, more_failed = await _measured(tallygate, stage.directory, options)
                finally:
                    stage.stop()
            idle[python].append(at_rest)
            busy[python].append(at_work)
            failed += more_failed
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(f"Each second at rest, scraped by nobody ({options.seconds} s)", idle))
    told = f"Each request, of {options.per_second} a second for {options.seconds} s, scraped every {options.scrape_seconds} s"
    console.print(_table(told, busy))
    console.print(f"{options.rounds} rounds, {failed} requests failed")
    return int(failed > 0)


async def _measured(tallygate: Tallygate, directory: Path, options: argparse.Namespace) -> tuple[Spent, Spent, int]:
    """What is spent each second at rest and for each request at work, and how many requests failed."""
    contender, bodies = tallygate.contenders[0], chat_bodies(2_000, seed=1)
    while True:  # on a busy machine the worker takes a while until it serves
        warm = SteadyLoad(contender.target, bodies)
        await warm.run(per_second=options.per_second, seconds=WARM_SECONDS)
        if not warm.failed:
            break
    await asyncio.sleep(LAST_SECONDS)
    before = _spent(contender, directory)
    await asyncio.sleep(options.seconds)
    at_rest = _since(contender, directory, before, units=options.seconds)
    async with ClientSession() as session:
        await _scrape(session, tallygate.console_port)
    load, before = SteadyLoad(contender.target, bodies), _spent(contender, directory)
    scraping = asyncio.ensure_future(_scrape_forever(tallygate.console_port, options.scrape_seconds))
    await load.run(per_second=options.per_second, seconds=options.seconds)
    await asyncio.sleep(LAST_SECONDS)
    scraping.cancel()
    with suppress(asyncio.CancelledError):
        await scraping
    return at_rest, _since(contender, directory, before, units=len(load.latencies_ms)), load.failed


async def _scrape_forever(port: int, seconds: float) -> None:
    async with ClientSession() as session:
        while True:
            await _scrape(session, port)
            await asyncio.sleep(seconds)


async def _scrape(session: ClientSession, port: int) -> None:
    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        answer.raise_for_status()
        await answer.read()


def _spent(contender: Contender, directory: Path) -> Spent:
    """So far: CPU in µs and bytes by process, and what the bytes are that are easily told apart."""
    groups = {"gateway": contender.measured, **contender.others}
    found = {f"{role}: CPU, µs": procfs.cpu_seconds(groups.get(role, ())) * 1e6 for role in ROLES}
    found |= {f"{role}: bytes to disk": procfs.written_bytes(groups.get(role, ())) for role in ROLES}
    found["append-only file, bytes"] = sum(file.stat().st_size for file in (directory / "tallygate-data").rglob("*.aof"))
    found["log, bytes"] = (directory / "tallygate.log").stat().st_size
    return found


def _since(contender: Contender, directory: Path, before: Spent, *, units: float) -> Spent:
    now = _spent(contender, directory)
    spent = {name: (now[name] - before[name]) / units for name in now}
    for unit in ("CPU, µs", "bytes to disk"):
        spent[f"all: {unit}"] = sum(spent[f"{role}: {unit}"] for role in ROLES)
    return spent


def _table(title: str, figures: Mapping[str, Sequence[Spent]]) -> Table:
    """A row for each figure, its median over the rounds and the lowest and highest; the last column: the last ÷ the first."""
    table = Table(title=title, title_justify="left")
    table.add_column()
    for python in figures:
        table.add_column(python, justify="right")
    table.add_column("last ÷ first", justify="right")
    for name in sorted(next(iter(figures.values()))[0], key=lambda name: "CPU" not in name):
        spreads = [spread([spent[name] for spent in rounds]) for rounds in figures.values()]
        first, last = spreads[0].median, spreads[-1].median
        shown = [f"{each.median:,.0f} ({each.low:,.0f} to {each.high:,.0f})" for each in spreads]
        table.add_row(name, *shown, f"{last / first:.2f}" if first > 0 and len(spreads) > 1 else "")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-second", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--scrape-seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", type=os.path.abspath, help="the interpreter of a checkout; may be repeated")
    parser.add_argument("--directory", type=Path, help="where data directories are made")
    options = parser.parse_args()
    return asyncio.run(measure(options.python or [sys.executable], options))


if __name__ == "__main__":
    sys.exit(main())
