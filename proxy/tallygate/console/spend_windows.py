"""Spend windows as the limiter enforces them, and when spend leaves them: the figure shown is the figure enforced."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tallygate.domain.admission import SpendDemand
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from tallygate.limiter.generation import WindowPosted, read_generation, read_posted
from tallygate.limiter.keys import partition_of
from tallygate.limiter.port import Limiter
from tallygate.limiter.script import Scripts, ScriptStore


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOutlook:
    """One window now, by the limiter's clock.

    paused_until_ms   0 unless it refuses
    leaving           the amount that leaves at each instant; in order, spent_nano_usd in all
    """

    demand: SpendDemand
    now_ms: int
    spent_nano_usd: int
    held_nano_usd: int
    paused_until_ms: int
    leaving: Mapping[int, int]


class SpendWindows(Protocol):
    async def fetch(self, org: str, demands: Sequence[SpendDemand]) -> tuple[WindowOutlook, ...]:
        """Read windows. Raises StoreError if the limiter's store does not answer, LimiterWipedError while spend is unknown."""


class LimiterSpendWindows:
    """Implements `SpendWindows` over the limiter's Redis."""

    def __init__(self, store: ScriptStore, scripts: Scripts, limiter: Limiter) -> None:
        self._store = store
        self._scripts = scripts
        self._limiter = limiter

    async def fetch(self, org: str, demands: Sequence[SpendDemand]) -> tuple[WindowOutlook, ...]:
        if not demands:
            return ()
        if await read_generation(self._store, partition_of(org)) is None:
            raise LimiterWipedError(f"the limiter's store has lost the spend of {org}'s partition")
        posted = await asyncio.gather(*(read_posted(self._store, self._scripts, org, demand) for demand in demands))
        states = await self._limiter.read_windows(org, demands)
        return tuple(
            WindowOutlook(
                demand=demand,
                now_ms=window.now_ms,
                spent_nano_usd=window.spent_nano_usd,
                held_nano_usd=state.held_nano_usd,
                paused_until_ms=state.paused_until_ms,
                leaving=_leaving(demand, window),
            )
            for demand, state, window in zip(demands, states, posted, strict=True)
        )


def leaving_of(buckets: Mapping[int, int], window_ms: int) -> dict[int, int]:
    """The time at which each 5-minute bucket leaves a rolling window: a partly expired bucket counts in full."""
    return {start + window_ms + SPEND_BUCKET_MS: amount for start, amount in sorted(buckets.items())}


def _leaving(demand: SpendDemand, window: WindowPosted) -> dict[int, int]:
    if demand.limit.kind is WindowKind.ROLLING:
        return leaving_of(window.buckets, demand.limit.window_ms)
    end_ms = window.period[1] if window.period is not None else 0
    return {end_ms: window.spent_nano_usd} if end_ms > 0 and window.spent_nano_usd else {}
