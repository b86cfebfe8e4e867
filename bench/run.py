"""One run: every contender in turn, round after round, so that a drifting machine disturbs all alike."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import procfs
from bench.contenders import Contender
from bench.money import ROUNDS_MAX, Burst, Leaving, burst, leave
from bench.samples import micros_per_unit, percentile
from bench.steady import SteadyLoad
from bench.stepped import serves
from bench.streams import HeldStreams, run_streams
from bench.workload import chat_bodies
from bench.wrk import Wrk

SETTLE_SECONDS = 0.3  # between two measurements, for what is still under way
BODIES = 2_000
HELD_SECONDS = 60.0  # of the streams whose weight is measured; a gateway may read them to the end after their callers have left
SLOW_SHARE = 0.05  # of the streams and of the warm-up, for a slow contender
SLOW_LOADS = 5  # times as long a load


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
    latency_per_second: list[int] = field(default_factory=list)
    latency_p50_ms: list[float] = field(default_factory=list)
    latency_p99_ms: list[float] = field(default_factory=list)
    idle_bytes: int = 0
    stream_bytes: list[float] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    leavings: list[Leaving] = field(default_factory=list)
    answered: int = 0
    failed: int = 0


class Run:
    """The measurements. Figures are by the contender's name. The first contender is the upstream itself."""

    def __init__(self, contenders: Sequence[Contender], plan: Plan, wrk: Wrk, say: Callable[[str], None]) -> None:
        self._contenders = contenders
        self._plan = plan
        self._wrk = wrk
        self._say = say
        self._bodies = chat_bodies(BODIES, seed=1)
        self._held_until = 0.0
        self.figures = {contender.name: Figures() for contender in contenders}

    async def all(self) -> None:
        """Memory first, while no heap has grown yet; then the rounds, after one that is thrown away."""
        for contender in self._contenders:
            self._wrk.prepare(contender.name, contender.target, self._bodies)
            self._say(f"warming {contender.name}")
            await serves(contender.target)
            load = SteadyLoad(contender.target, self._bodies)
            await load.run(per_second=int(200 * _share(contender)), seconds=0.5)
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
            if number < ROUNDS_MAX:
                for contender in self._contenders:
                    if contender.budgets is not None:
                        self._say(f"round {number + 1} of {self._plan.rounds}, money: {contender.name}")
                        await self._money(contender, number)

    async def _requests(self, contender: Contender) -> None:
        figures, before = self.figures[contender.name], _cpu(contender)
        seconds = self._plan.load_seconds * (SLOW_LOADS if contender.is_slow else 1)
        result = await self._wrk.run(contender.name, contender.target, seconds)
        own, others = _since(contender, before)
        figures.request_cpu.append(micros_per_unit(own, result.requests))
        for name, seconds in others.items():
            figures.request_cpu_others.setdefault(name, []).append(micros_per_unit(seconds, result.requests))
        figures.requests_per_second.append(result.requests / result.seconds)
        self._note(contender, result.requests, result.failed)

    async def _streams(self, contender: Contender) -> None:
        """What a stream costs as a request, measured just before, is taken off: what is left is the relaying of its events."""
        plan, figures, before = self._plan, self.figures[contender.name], _cpu(contender)
        streams = round(plan.streams * _share(contender))
        times = await run_streams(contender.target, streams=streams, chunks=plan.chunks, every_ms=plan.every_ms)
        own, others = _since(contender, before)
        chunks = streams * plan.chunks
        figures.chunk_cpu.append(micros_per_unit(own, chunks) - figures.request_cpu[-1] / plan.chunks)
        for name, seconds in others.items():
            as_request = figures.request_cpu_others[name][-1] / plan.chunks
            figures.chunk_cpu_others.setdefault(name, []).append(micros_per_unit(seconds, chunks) - as_request)
        figures.chunk_delay_p50_ms.append(percentile(times.delay_ms, 0.5))
        figures.chunk_delay_p99_ms.append(percentile(times.delay_ms, 0.99))
        figures.first_byte_p50_ms.append(percentile(times.first_byte_ms, 0.5))
        is_exact = times.events == chunks + streams * (1 + contender.own_events)  # every event and each [DONE], no more and no less
        self._note(contender, streams, streams - times.complete if is_exact else streams)

    async def _latency(self, contender: Contender) -> None:
        """At the plan's rate, or at half of what the contender can at most."""
        figures, load = self.figures[contender.name], SteadyLoad(contender.target, self._bodies)
        per_second = min(self._plan.steady_per_second, int(figures.requests_per_second[-1] / 2) or 1)
        await load.run(per_second=per_second, seconds=self._plan.steady_seconds)
        figures.latency_per_second.append(per_second)
        figures.latency_p50_ms.append(percentile(load.latencies_ms, 0.5))
        figures.latency_p99_ms.append(percentile(load.latencies_ms, 0.99))
        self._note(contender, len(load.latencies_ms), load.failed)

    async def _memory(self, contender: Contender) -> None:
        """Growth of the proportional set size by so many open streams, after one tenth of them have come and gone."""
        figures, streams = self.figures[contender.name], round(self._plan.held_streams * _share(contender))
        await run_streams(contender.target, streams=streams // 10, chunks=3, every_ms=50)
        await asyncio.sleep(1.0)
        figures.idle_bytes = procfs.pss_bytes(contender.measured)
        held = HeldStreams(contender.target)
        await held.hold(streams, every_ms=2_000, seconds=HELD_SECONDS)
        self._held_until = asyncio.get_running_loop().time() + HELD_SECONDS
        await asyncio.sleep(1.0)
        figures.stream_bytes.append((procfs.pss_bytes(contender.measured) - figures.idle_bytes) / streams)
        self._note(contender, streams + streams // 10, await held.release())
        await asyncio.sleep(1.0)

    async def _money(self, contender: Contender, number: int) -> None:
        """A figure, and no failure, whatever becomes of it. No other stream is read on beside."""
        await asyncio.sleep(max(0.0, self._held_until - asyncio.get_running_loop().time()))
        figures, upstream = self.figures[contender.name], self._contenders[0].target
        figures.bursts.append(await burst(contender.budgets, upstream, number))
        figures.leavings.append(await leave(contender.budgets, upstream, number))
        self._note(contender, figures.bursts[-1].served, 0)

    def _note(self, contender: Contender, answered: int, failed: int) -> None:
        self.figures[contender.name].answered += answered
        self.figures[contender.name].failed += failed


def _share(contender: Contender) -> float:
    return SLOW_SHARE if contender.is_slow else 1.0


def _cpu(contender: Contender) -> dict[str, float]:
    groups = {"": contender.measured, **contender.others}
    return {name: procfs.cpu_seconds(pids) for name, pids in groups.items()}


def _since(contender: Contender, before: dict[str, float]) -> tuple[float, dict[str, float]]:
    now = _cpu(contender)
    spent = {name: now[name] - before[name] for name in now}
    return spent.pop(""), spent
