"""One run: every contender in turn, round after round, so that a drifting machine disturbs all alike."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import procfs
from bench.contenders import Contender
from bench.samples import micros_per_unit, percentile
from bench.steady import SteadyLoad
from bench.streams import HeldStreams, run_streams
from bench.workload import chat_bodies
from bench.wrk import Wrk

SETTLE_SECONDS = 0.3  # between two measurements, for what is still under way
BODIES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long a run is. streams are paced: `chunks` events each, every_ms apart."""

    rounds: int
    load_seconds: int
    streams: int
    chunks: int
    every_ms: int
    steady_per_second: int
    steady_seconds: float
    held_streams: int


FULL = Plan(
    rounds=5, load_seconds=2, streams=400, chunks=150, every_ms=20, steady_per_second=300, steady_seconds=4, held_streams=2_000
)
QUICK = Plan(
    rounds=1, load_seconds=1, streams=100, chunks=100, every_ms=10, steady_per_second=200, steady_seconds=1, held_streams=400
)


@dataclass(slots=True, kw_only=True)
class Figures:
    """What the rounds measured of one contender, one value a round. CPU in µs, of `others` by their names."""

    request_cpu: list[float] = field(default_factory=list)
    request_cpu_others: dict[str, list[float]] = field(default_factory=dict)
    requests_per_second: list[float] = field(default_factory=list)
    chunk_cpu: list[float] = field(default_factory=list)
    chunk_cpu_others: dict[str, list[float]] = field(default_factory=dict)
    chunk_delay_p50_ms: list[float] = field(default_factory=list)
    chunk_delay_p99_ms: list[float] = field(default_factory=list)
    first_byte_p50_ms: list[float] = field(default_factory=list)
    latency_p50_ms: list[float] = field(default_factory=list)
    latency_p99_ms: list[float] = field(default_factory=list)
    idle_bytes: int = 0
    stream_bytes: list[float] = field(default_factory=list)
    answered: int = 0
    failed: int = 0


class Run:
    """The measurements. Figures are by the contender's name."""

    def __init__(self, contenders: Sequence[Contender], plan: Plan, wrk: Wrk, say: Callable[[str], None]) -> None:
        self._contenders = contenders
        self._plan = plan
        self._wrk = wrk
        self._say = say
        self._bodies = chat_bodies(BODIES, seed=1)
        self.figures = {contender.name: Figures() for contender in contenders}

    async def all(self) -> None:
        """Memory first, while no heap has grown yet; then the rounds, after one that is thrown away."""
        for contender in self._contenders:
            self._wrk.prepare(contender.name, contender.target, self._bodies)
            self._say(f"warming {contender.name}")
            load = SteadyLoad(contender.target, self._bodies)
            await load.run(per_second=200, seconds=0.5)
            self._note(contender, len(load.latencies_ms), load.failed)
        for contender in self._contenders:
            if contender.memory:
                self._say(f"memory: {contender.name}")
                await self._memory(contender)
        for number in range(self._plan.rounds):
            for label, measure in (("requests", self._requests), ("streams", self._streams), ("latency", self._latency)):
                for contender in self._contenders:
                    if label != "streams" or contender.streams:
                        self._say(f"round {number + 1} of {self._plan.rounds}, {label}: {contender.name}")
                        await measure(contender)
                        await asyncio.sleep(SETTLE_SECONDS)

    async def _requests(self, contender: Contender) -> None:
        figures, before = self.figures[contender.name], _cpu(contender)
        result = await self._wrk.run(contender.name, contender.target, self._plan.load_seconds)
        own, others = _since(contender, before)
        figures.request_cpu.append(micros_per_unit(own, result.requests))
        for name, seconds in others.items():
            figures.request_cpu_others.setdefault(name, []).append(micros_per_unit(seconds, result.requests))
        figures.requests_per_second.append(result.requests / result.seconds)
        self._note(contender, result.requests, result.failed)

    async def _streams(self, contender: Contender) -> None:
        """What a stream costs as a request, measured just before, is taken off: what is left is the relaying of its events."""
        plan, figures, before = self._plan, self.figures[contender.name], _cpu(contender)
        times = await run_streams(contender.target, streams=plan.streams, chunks=plan.chunks, every_ms=plan.every_ms)
        own, others = _since(contender, before)
        chunks = plan.streams * plan.chunks
        figures.chunk_cpu.append(micros_per_unit(own, chunks) - figures.request_cpu[-1] / plan.chunks)
        for name, seconds in others.items():
            as_request = figures.request_cpu_others[name][-1] / plan.chunks
            figures.chunk_cpu_others.setdefault(name, []).append(micros_per_unit(seconds, chunks) - as_request)
        figures.chunk_delay_p50_ms.append(percentile(times.delay_ms, 0.5))
        figures.chunk_delay_p99_ms.append(percentile(times.delay_ms, 0.99))
        figures.first_byte_p50_ms.append(percentile(times.first_byte_ms, 0.5))
        is_exact = times.events == chunks + plan.streams  # every event and each [DONE], no more and no less
        self._note(contender, plan.streams, plan.streams - times.complete if is_exact else plan.streams)

    async def _latency(self, contender: Contender) -> None:
        figures, load = self.figures[contender.name], SteadyLoad(contender.target, self._bodies)
        await load.run(per_second=self._plan.steady_per_second, seconds=self._plan.steady_seconds)
        figures.latency_p50_ms.append(percentile(load.latencies_ms, 0.5))
        figures.latency_p99_ms.append(percentile(load.latencies_ms, 0.99))
        self._note(contender, len(load.latencies_ms), load.failed)

    async def _memory(self, contender: Contender) -> None:
        """Growth of the proportional set size by so many open streams, after one tenth of them have come and gone."""
        figures, plan = self.figures[contender.name], self._plan
        await run_streams(contender.target, streams=plan.held_streams // 10, chunks=3, every_ms=50)
        await asyncio.sleep(1.0)
        figures.idle_bytes = procfs.pss_bytes(contender.measured)
        held = HeldStreams(contender.target)
        await held.hold(plan.held_streams, every_ms=2_000)
        await asyncio.sleep(1.0)
        figures.stream_bytes.append((procfs.pss_bytes(contender.measured) - figures.idle_bytes) / plan.held_streams)
        self._note(contender, plan.held_streams + plan.held_streams // 10, await held.release())
        await asyncio.sleep(1.0)

    def _note(self, contender: Contender, answered: int, failed: int) -> None:
        self.figures[contender.name].answered += answered
        self.figures[contender.name].failed += failed


def _cpu(contender: Contender) -> dict[str, float]:
    groups = {"": contender.measured, **contender.others}
    return {name: procfs.cpu_seconds(pids) for name, pids in groups.items()}


def _since(contender: Contender, before: dict[str, float]) -> tuple[float, dict[str, float]]:
    now = _cpu(contender)
    spent = {name: now[name] - before[name] for name in now}
    return spent.pop(""), spent
