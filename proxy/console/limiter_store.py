"""The console's Store over the limiter's Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from proxy.console.ports import Lag
from proxy.domain.admission import SpendDemand, WindowReading
from proxy.domain.errors import LimiterWipedError
from proxy.limiter.generation import unmarked_partitions
from proxy.limiter.keys import PARTITIONS, partition_keys
from proxy.limiter.port import Limiter
from proxy.limiter.script import ScriptStore
from proxy.limiter.sweep import Sweeper


class LimiterStore:
    """Implements `Store`."""

    def __init__(self, store: ScriptStore, limiter: Limiter, sweeper: Sweeper, *, close: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._limiter = limiter
        self._sweeper = sweeper
        self._close = close

    async def lag(self) -> Lag:
        streams = [partition_keys(number).events for number in range(PARTITIONS)]
        lengths = await asyncio.gather(*(self._store.command(b"XLEN", stream) for stream in streams))
        waiting = [stream for stream, length in zip(streams, lengths, strict=True) if length]
        return Lag(events=sum(lengths), ms=await self._lag_ms(waiting))

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
