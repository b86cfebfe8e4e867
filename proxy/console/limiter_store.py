"""The console's Store over the limiter's Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from proxy.console.ports import Totals
from proxy.domain.admission import SpendDemand, WindowReading
from proxy.domain.errors import LimiterWipedError
from proxy.limiter.generation import unmarked_partitions
from proxy.limiter.keys import PARTITIONS, org_keys, partition_keys
from proxy.limiter.port import Limiter
from proxy.limiter.script import ScriptStore
from proxy.limiter.sweep import Sweeper
from proxy.telemetry import metrics
from proxy.telemetry.exposition import Labels
from proxy.telemetry.metrics import Metric

READS_AT_ONCE: Final = 200  # so that a scrape does not crowd out admissions

_BY_EXCHANGE: Final = {
    "cost_nano_usd": (metrics.SPEND, ()),
    "credited_nano_usd": (metrics.SPEND_CREDITED, ()),
    "prompt_tokens": (metrics.TOKENS, ("prompt",)),
    "completion_tokens": (metrics.TOKENS, ("completion",)),
    "credited_prompt_tokens": (metrics.TOKENS_CREDITED, ("prompt",)),
    "credited_completion_tokens": (metrics.TOKENS_CREDITED, ("completion",)),
    "cached_tokens": (metrics.CACHED_TOKENS, ()),
    "reasoning_tokens": (metrics.REASONING_TOKENS, ()),
}
_SUMMED: Final = {
    "expired_holds": (metrics.HOLDS_EXPIRED, ()),
    "overruns": (metrics.ODD_SETTLEMENTS, ("overrun",)),
    "late_settlements": (metrics.ODD_SETTLEMENTS, ("late",)),
    "unheld_settlements": (metrics.ODD_SETTLEMENTS, ("unheld",)),
}


class LimiterStore:
    """Implements `Store`."""

    def __init__(self, store: ScriptStore, limiter: Limiter, sweeper: Sweeper, *, close: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._limiter = limiter
        self._sweeper = sweeper
        self._close = close

    async def totals(self, orgs: Sequence[str]) -> Totals:
        values: dict[Metric, dict[Labels, int]] = {metric: {labels: 0} for metric, labels in _SUMMED.values()}
        for start in range(0, len(orgs), READS_AT_ONCE):
            part = orgs[start : start + READS_AT_ONCE]
            fields = await asyncio.gather(*(self._store.command(b"HGETALL", org_keys(org).totals) for org in part))
            for org, flat in zip(part, fields, strict=True):
                for metric, labels, count in _counts(org, flat):
                    of_metric = values.setdefault(metric, {})
                    of_metric[labels] = of_metric.get(labels, 0) + count
        events = await asyncio.gather(
            *(self._store.command(b"XLEN", partition_keys(number).events) for number in range(PARTITIONS))
        )
        return Totals(values=values, lag_events=sum(events))

    async def windows(self, org: str, spend: tuple[SpendDemand, ...]) -> tuple[WindowReading, ...]:
        return await self._limiter.read_windows(org, spend)

    async def check(self) -> None:
        if await unmarked_partitions(self._store):
            raise LimiterWipedError("partitions of the store are not marked as complete")

    async def sweep(self) -> int:
        return await self._sweeper.step()

    async def close(self) -> None:
        await self._close()


def _counts(org: str, flat: Sequence[bytes]) -> Iterator[tuple[Metric, Labels, int]]:
    """Fields of one organization's totals, `credential|capability|name` and a count, as samples."""
    for field, count in zip(flat[::2], flat[1::2], strict=True):
        credential, capability, name = field.decode().split("|")
        exchange = (org, credential, capability)
        kind, _, value = name.partition(".")
        if kind == "requests":
            yield metrics.REQUESTS, (*exchange, value), int(count)
        elif kind == "usage_source":
            yield metrics.USAGE_SOURCE, (value,), int(count)
        elif name in _BY_EXCHANGE:
            metric, labels = _BY_EXCHANGE[name]
            yield metric, (*exchange, *labels), int(count)
        elif name in _SUMMED:
            metric, labels = _SUMMED[name]
            yield metric, labels, int(count)
