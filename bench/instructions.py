"""What a request costs in instructions and calls, which hardly depend on the machine, beside what is kept: the ratchet.

    python -m bench.instructions [--keep] [--python PATH]

Prints user instructions (counted by Valgrind's callgrind) and Python and C calls of tallygate's worker and of the naive proxy, for
a chat request and for a chunk of a stream. What the worker does by the clock is measured while it rests, and taken off, since it
falls on fewer requests the slower the machine is. If a figure is above the kept one by more than the margin, all are measured once
more, since a worker that is late does other work by the clock; the exit status is 1 if the lower figure is above it, too.
--keep writes the figures to instructions.json. --python measures the checkout that this interpreter has installed, and compares
nothing.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import uvloop

from bench import call_counts
from bench.contenders import Stage, UnavailableError, free_port, program, start_naive
from bench.pinning import Pinning
from bench.stepped import Step, ask, serves, start_stepped_upstream, stream
from bench.tallygate import ORGANIZATIONS, start_tallygate
from bench.workload import Target

KEPT = Path(__file__).with_name("instructions.json")
MARGIN = 0.04  # two runs of the same code lie within two per cent, or four for a chunk: the lower of two within three
AT_REST = "worker at rest, a second"  # not compared: how often a worker polls depends on how often it gets to run
REST_SECONDS = 6.0
REQUESTS = 192
WARM_UP_REQUESTS = ORGANIZATIONS  # one of each: the first of a caller makes what its others use
STREAMS = 4
CHUNKS_FEW, CHUNKS_MANY = 10, 510
CONTROL_SECONDS = 60.0
# A worker under Valgrind on a busy machine is late; and what it does by the clock should not depend on how late.
PATIENT = {
    "TALLYGATE_STORE_DEADLINE_MS": "30000",
    "TALLYGATE_CHECKPOINT_SECONDS": "600",
    "TALLYGATE_LEASE_SECONDS": "3600",
}
NAIVE = {"chat request": "naive proxy, chat request", "stream chunk": "naive proxy, stream chunk"}
_WRAPPER = """#!/bin/sh
export PYTHONHASHSEED=0
case "$*" in
  *tallygate.processes.worker*|*bench.naive_proxy*) exec {instrument} "$@";;
  *) exec {python} "$@";;
esac
"""

Counts = dict[str, float]


class Instrument(Protocol):
    """Counts what a process does during a load. command: what takes the place of the interpreter, whose arguments follow."""

    def __init__(self, directory: Path) -> None: ...
    def command(self, python: str) -> str: ...
    def begin(self, pid: int) -> None: ...
    async def end(self, pid: int) -> Counts: ...


class Callgrind:
    """User instructions. The process starts without counting, which is several times faster."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: set[Path] = set()
        self._on: set[int] = set()

    def command(self, python: str) -> str:
        output = self._directory / "callgrind.%p"
        return f"{program('valgrind')} --tool=callgrind --instr-atstart=no --callgrind-out-file={output} {python}"

    def begin(self, pid: int) -> None:
        if pid not in self._on:
            self._on.add(pid)
            self._control("-i", "on", str(pid))
        self._control("-z", str(pid))

    async def end(self, pid: int) -> Counts:
        self._control("-d", str(pid))
        (dump,) = set(self._directory.glob(f"callgrind.{pid}.*")) - self._seen
        self._seen.add(dump)
        (total, *_) = (line for line in dump.read_text(errors="replace").splitlines() if line.startswith(("summary:", "totals:")))
        return {"instructions": float(total.split()[1])}

    @staticmethod
    def _control(*arguments: str) -> None:
        command = (program("callgrind_control"), *arguments)
        subprocess.run(command, check=True, capture_output=True, timeout=CONTROL_SECONDS)


class CallProfile:
    """Calls of Python functions, and of C functions by Python ones."""

    def __init__(self, directory: Path) -> None:
        self._counts = directory / "calls"

    def command(self, python: str) -> str:
        return f"{python} -m bench.call_counts {self._counts}"

    def begin(self, pid: int) -> None:
        self._counts.unlink(missing_ok=True)
        os.kill(pid, call_counts.BEGIN)

    async def end(self, pid: int) -> Counts:
        os.kill(pid, call_counts.END)
        async with asyncio.timeout(CONTROL_SECONDS):
            while not self._counts.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)
        python, c = self._counts.read_text().split()
        return {"python calls": float(python), "c calls": float(c)}


class Measurement:
    """One instrument over tallygate and the naive proxy. figures: by what was done, by what was counted."""

    def __init__(self, instrument: Instrument, figures: dict[str, Counts]) -> None:
        self._instrument = instrument
        self._figures = figures
        self._seed = 0
        self._at_rest: dict[int, Counts] = {}  # a second, by process

    async def run(self, stage: Stage, python: str) -> None:
        wrapper = stage.directory / "python"
        wrapper.write_text(_WRAPPER.format(instrument=self._instrument.command(python), python=python))
        wrapper.chmod(0o755)
        upstream_port = free_port()
        step = await start_stepped_upstream(upstream_port)
        naive = await start_naive(stage, upstream_port, python=str(wrapper))
        tallygate = await start_tallygate(stage, upstream_port, python=python, children=str(wrapper), settings=PATIENT)
        everything, unlimited, unmetered = tallygate.contenders
        await self._requests(NAIVE["chat request"], naive.measured[0], naive.target)
        await self._chunks(NAIVE["stream chunk"], naive.measured[0], naive.target, step)
        (worker,) = everything.measured
        await serves(everything.target)
        await self._rest(worker)
        await self._requests("chat request", worker, everything.target)
        await self._chunks("stream chunk", worker, everything.target, step)
        await self._requests("chat request without limits", worker, unlimited.target)
        await self._requests("unmetered request", worker, unmetered.target)

    async def _rest(self, pid: int) -> None:
        found = await self._counted(pid, lambda: asyncio.sleep(REST_SECONDS))
        self._at_rest[pid] = {unit: count / REST_SECONDS for unit, count in found.items()}
        self._note(AT_REST, self._at_rest[pid])

    async def _requests(self, name: str, pid: int, target: Target) -> None:
        await ask(target, requests=WARM_UP_REQUESTS, seed=self._next())
        found = await self._counted(pid, lambda: ask(target, requests=REQUESTS, seed=self._next()))
        self._note(name, {unit: count / REQUESTS for unit, count in found.items()})

    async def _chunks(self, name: str, pid: int, target: Target, step: Step) -> None:
        async def streams(chunks: int) -> None:
            await stream(target, step, streams=STREAMS, chunks=chunks, seed=self._next())

        await streams(CHUNKS_FEW)
        few = await self._counted(pid, lambda: streams(CHUNKS_FEW))
        many = await self._counted(pid, lambda: streams(CHUNKS_MANY))
        between = STREAMS * (CHUNKS_MANY - CHUNKS_FEW)
        self._note(name, {unit: (many[unit] - few[unit]) / between for unit in many})

    async def _counted(self, pid: int, load: Callable[[], Awaitable[None]]) -> Counts:
        """What a load makes a process do, without what it does by the clock."""
        self._instrument.begin(pid)
        begun = time.monotonic()
        await load()
        seconds = time.monotonic() - begun
        found, at_rest = await self._instrument.end(pid), self._at_rest.get(pid, {})
        return {unit: count - at_rest.get(unit, 0.0) * seconds for unit, count in found.items()}

    def _note(self, name: str, counts: Counts) -> None:
        self._figures.setdefault(name, {}).update({unit: round(count, 1) for unit, count in counts.items()})

    def _next(self) -> int:
        self._seed += 1
        return self._seed


async def measure(python: str) -> dict[str, Counts]:
    figures: dict[str, Counts] = {}
    for instrument in (Callgrind, CallProfile):
        with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
            stage = Stage(Path(directory), Pinning(load_core=None, proxy_core=None))
            try:
                await Measurement(instrument(stage.directory), figures).run(stage, python)
            except (OSError, RuntimeError, TimeoutError) as error:
                logs = "\n".join(log.read_text(errors="replace")[-2_000:] for log in stage.directory.glob("*.log"))
                raise UnavailableError(f"{error!r}\n{logs}") from error
            finally:
                stage.stop()
    return figures


def excesses(kept: dict[str, Counts], found: dict[str, Counts]) -> list[str]:
    """A sentence for each figure that is above the kept one by more than MARGIN.

    Instructions depend on how Python itself was compiled, and so are compared after scaling by what the naive proxy takes here.
    """
    sentences = []
    for name in kept.keys() - NAIVE.values() - {AT_REST}:
        naive = NAIVE.get(name, NAIVE["chat request"])
        scale = found[naive]["instructions"] / kept[naive]["instructions"]
        for unit, before in kept[name].items():
            most = before * (scale if unit == "instructions" else 1.0) * (1 + MARGIN)
            if found[name][unit] > most:
                sentences.append(f"{name}: {found[name][unit]:,.1f} {unit}, and at most {most:,.1f} are kept")
    return sorted(sentences)


def lower(first: dict[str, Counts], second: dict[str, Counts]) -> dict[str, Counts]:
    """Of two measurements, the lower of each figure."""
    return {name: {unit: min(count, second[name][unit]) for unit, count in counts.items()} for name, counts in first.items()}


def table(found: dict[str, Counts]) -> str:
    """The figures as Markdown."""
    rows = ["| | instructions | × naive | Python calls | C calls |", "|---|---:|---:|---:|---:|"]  # noqa: RUF001
    for name, counts in found.items():
        naive = found[NAIVE.get(name, name if name in NAIVE.values() else NAIVE["chat request"])]
        ratio = counts["instructions"] / naive["instructions"]
        rows.append(
            f"| {name} | {counts['instructions']:,.0f} | {ratio:.2f} | {counts['python calls']:,.1f} | {counts['c calls']:,.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="write the figures to bench/instructions.json")
    parser.add_argument("--python", help="measure the checkout that this interpreter has installed, and compare nothing")
    options = parser.parse_args()
    found = uvloop.run(measure(str(Path(options.python or sys.executable).absolute())))
    print(table(found))
    if options.python:
        return
    version = "Python {}.{}".format(*sys.version_info)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if options.keep:
        KEPT.write_text(json.dumps(kept | {version: found}, indent=2) + "\n")
    elif version not in kept:
        print(f"{KEPT.name} has no figures of {version}: nothing to compare with")
    elif excesses(kept[version], found):
        print("Dearer than what is kept: measured once more", flush=True)
        found = lower(found, uvloop.run(measure(sys.executable)))
        print(table(found))
        if not (sentences := excesses(kept[version], found)):
            return
        sys.exit("Dearer than what bench/instructions.json keeps:\n" + "\n".join(sentences))


if __name__ == "__main__":
    main()
