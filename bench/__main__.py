"""`make bench`: tallygate beside nginx, Envoy, a naive proxy and its rivals, and over each topology of its store, all in one run.

    make bench BENCH="[--quick] [--only nginx --only tallygate] [--rounds N]"

Prints what each does, CPU per request and per stream chunk, added latency, memory per open stream, and what becomes of money;
writes bench/out/<time>.json and .md. `make rivals` installs LiteLLM, TensorZero and Portkey, which are left out otherwise.
docs/performance.md tells how to read it.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console

from bench import report
from bench.contenders import Contender, Stage, UnavailableError, program, start_envoy, start_naive, start_nginx, start_upstream
from bench.pinning import pinning
from bench.rival_gateways import start_litellm, start_portkey, start_tensorzero
from bench.run import FULL, QUICK, Plan, Run
from bench.tallygate import Tallygate, requests_counted, start_tallygate
from bench.topologies import TOPOLOGIES, started
from bench.wrk import Wrk

OUT = Path(__file__).resolve().parent / "out"
WIDTH = 140  # of the tables in a file
NAMES = ("nginx", "envoy", "naive", "litellm", "tensorzero", "portkey", "tallygate", "topologies")


async def compare(plan: Plan, only: set[str], console: Console) -> int:
    """Start all, measure all, show it; the exit status: 1 if tallygate was asked for and did not run, or anything failed."""
    skipped: dict[str, str] = {}
    pins = pinning()
    pins.pin_load()
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
        stage, stores = Stage(Path(directory), pins), AsyncExitStack()
        try:
            program("wrk")
            direct = await start_upstream(stage)
            contenders, tallygate = await start_all(stage, stores, direct, only, skipped)
            if "topologies" in only:
                contenders += await start_topologies(stage, direct.target.port, stores, skipped)
            with console.status("starting") as status:
                run = Run(contenders, plan, Wrk(stage.directory, pins), status.update)
                await run.all()
            now = datetime.now(UTC)
            conditions = report.conditions(plan, contenders, pins, skipped, now)
            if tallygate is not None:
                conditions |= reconciled(run, tallygate)
            report.show(console, run.figures, conditions=conditions)
            console.print(f"written: {report.save(OUT, run.figures, plan=plan, conditions=conditions, now=now)}")
        finally:
            stage.stop()
            await stores.aclose()
    failed = sum(figures.failed for figures in run.figures.values())
    return 1 if failed or "tallygate" in skipped else 0


async def start_all(
    stage: Stage, stores: AsyncExitStack, direct: Contender, only: set[str], skipped: dict[str, str]
) -> tuple[list[Contender], Tallygate | None]:
    """Everything that is wanted and can be had; what cannot be had is noted with its reason."""
    contenders, port = [direct], direct.target.port
    starts: tuple[tuple[str, str, Callable[[], Awaitable[Contender]]], ...] = (
        ("nginx", "nginx", lambda: start_nginx(stage, port)),
        ("envoy", "envoy", lambda: start_envoy(stage, port, limited=False)),
        ("envoy", "envoy, rate limit", lambda: start_envoy(stage, port, limited=True)),
        ("naive", "naive aiohttp", lambda: start_naive(stage, port)),
        ("litellm", "LiteLLM", lambda: start_litellm(stage, stores, port)),
        ("tensorzero", "TensorZero", lambda: start_tensorzero(stage, stores, port)),
        ("portkey", "Portkey", lambda: start_portkey(stage, port)),
    )
    for name, label, start in starts:
        if name in only:
            try:
                contenders.append(await start())
            except UnavailableError as error:
                skipped[label] = str(error)
    if "tallygate" not in only:
        return contenders, None
    try:
        tallygate = await start_tallygate(stage, port)
    except UnavailableError as error:
        skipped["tallygate"] = str(error)
        return contenders, None
    return [*contenders, *tallygate.contenders], tallygate


async def start_topologies(stage: Stage, upstream_port: int, stores: AsyncExitStack, skipped: dict[str, str]) -> list[Contender]:
    """A gateway over each topology of the store; what cannot be had is noted with its reason."""
    contenders = []
    for name in TOPOLOGIES:
        try:
            contenders.append(await stores.enter_async_context(started(name, stage, upstream_port)))
        except UnavailableError as error:
            skipped[f"tallygate, {name}"] = str(error)
    return contenders


def reconciled(run: Run, tallygate: Tallygate) -> dict[str, str]:
    """Requests sent beside requests counted. wrk hangs up on what is under way at its end: these are counted, not answered."""
    answered = sum(run.figures[contender.name].answered for contender in tallygate.contenders)
    counted = requests_counted(tallygate.console_port)
    return {"tallygate's own count": f"{counted:,} requests; {answered:,} were answered to the load generators"}


def terminal() -> Console:
    """Standard output; wide enough for the tables where it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round: under a minute, and rough")
    parser.add_argument("--rounds", type=int, help="rounds in place of the usual number")
    parser.add_argument("--only", action="append", choices=NAMES, help="only these, besides the upstream itself; may be repeated")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=options.rounds)
    if not os.path.exists("/proc/self/smaps_rollup"):  # noqa: PTH110 - asked once, of the kernel
        sys.exit("the benchmark reads /proc and runs on Linux only")
    sys.exit(uvloop.run(compare(plan, set(options.only or NAMES), terminal())))


if __name__ == "__main__":
    main()
