"""The console's Store over the limiter's Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from proxy.console.ports import Totals
from proxy.domain.admission import SpendDemand, WindowReading
from proxy.domain.errors import LimiterWipedError
from proxy.limiter.generation import unmarked_partitions
from proxy.limiter.keys import PARTITIONS, partition_keys
from proxy.limiter.port import Limiter
from proxy.limiter.script import ScriptStore
from proxy.limiter.sweep import Sweeper
from proxy.limiter.totals import ExchangeTotals, read_totals
from proxy.telemetry import metrics
from proxy.telemetry.exposition import Labels
from proxy.telemetry.metrics import Metric

READS_AT_ONCE: Final = 200  # so that a scrape does not crowd out admissions


class LimiterStore:
    """Implements `Store`."""

    def __init__(self, store: ScriptStore, limiter: Limiter, sweeper: Sweeper, *, close: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._limiter = limiter
        self._sweeper = sweeper
        self._close = close

    async def totals(self, orgs: Sequence[str]) -> Totals:
        values: dict[Metric, dict[Labels, int]] = {}
        for start in range(0, len(orgs), READS_AT_ONCE):
            for totals in await read_totals(self._store, orgs[start : start + READS_AT_ONCE]):
                for metric, labels, count in _samples(totals):
                    of_metric = values.setdefault(metric, {})
                    of_metric[labels] = of_metric.get(labels, 0) + count
        streams = [partition_keys(number).events for number in range(PARTITIONS)]
        lengths = await asyncio.gather(*(self._store.command(b"XLEN", stream) for stream in streams))
        waiting = [stream for stream, length in zip(streams, lengths, strict=True) if length]
        return Totals(values=values, lag_events=sum(lengths), lag_ms=await self._lag_ms(waiting))

    async def _lag_ms(self, streams: Sequence[bytes]) -> int:
        """Age of the oldest entry of these streams: an id begins with the milliseconds of the server's clock."""
        if not streams:
            return 0
        first = await asyncio.gather(*(self._store.command(b"XRANGE", stream, b"-", b"+", b"COUNT", b"1") for stream in streams))
        seconds, microseconds = await self._store.command(b"TIME")
        entered = [int(entries[0][0].partition(b"-")[0]) for entries in first if entries]
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return max((now_ms - at_ms for at_ms in entered), default=0)

    async def windows(self, org: str, spend: tuple[SpendDemand, ...]) -> tuple[WindowReading, ...]:
        return await self._limiter.read_windows(org, spend)

    async def check(self) -> None:
        if await unmarked_partitions(self._store):
            raise LimiterWipedError("partitions of the store are not marked as complete")

    async def sweep(self) -> int:
        return await self._sweeper.step()

    async def close(self) -> None:
        await self._close()


def _samples(totals: ExchangeTotals) -> Iterator[tuple[Metric, Labels, int]]:
    """One (organization, credential, capability) as samples; equal labels of several are to be added up."""
    exchange = (totals.org, totals.credential, totals.capability)
    for outcome, count in totals.requests.items():
        yield metrics.REQUESTS, (*exchange, outcome), count
    for source, count in totals.usage_sources.items():
        yield metrics.USAGE_SOURCE, (source,), count
    yield metrics.TOKENS, (*exchange, "prompt"), totals.prompt_tokens
    yield metrics.TOKENS, (*exchange, "completion"), totals.completion_tokens
    yield metrics.CACHED_TOKENS, exchange, totals.cached_tokens
    yield metrics.REASONING_TOKENS, exchange, totals.reasoning_tokens
    yield metrics.TOKENS_CREDITED, (*exchange, "prompt"), totals.credited_prompt_tokens
    yield metrics.TOKENS_CREDITED, (*exchange, "completion"), totals.credited_completion_tokens
    yield metrics.SPEND, exchange, totals.cost_nano_usd
    yield metrics.SPEND_CREDITED, exchange, totals.credited_nano_usd
    yield metrics.HOLDS_EXPIRED, (), totals.expired_holds
    yield metrics.ODD_SETTLEMENTS, ("overrun",), totals.overruns
    yield metrics.ODD_SETTLEMENTS, ("late",), totals.late_settlements
    yield metrics.ODD_SETTLEMENTS, ("unheld",), totals.unheld_settlements
