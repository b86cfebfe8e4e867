"""The console's Store over the limiter's Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any

from tallygate.console.ports import Lag
from tallygate.domain.admission import LimitStates, RateDemand, SpendDemand
from tallygate.domain.errors import LimiterWipedError
from tallygate.limiter.backlog import Backlog, read_backlog
from tallygate.limiter.commands import check_commands, check_writes
from tallygate.limiter.generation import unmarked_partitions
from tallygate.limiter.keys import PARTITIONS, partition_keys
from tallygate.limiter.port import Limiter
from tallygate.limiter.script import Store
from tallygate.limiter.sweep import Sweeper


class LimiterStore:
    """Implements `Store`."""

    def __init__(
        self,
        store: Store,
        limiter: Limiter,
        sweeper: Sweeper,
        *,
        close: Callable[[], Awaitable[None]],
        stream_bytes_max: int,
    ) -> None:
        self._store = store
        self._stream_bytes_max = stream_bytes_max
        self._limiter = limiter
        self._sweeper = sweeper
        self._close = close

    async def lag(self) -> Lag:
        streams = [partition_keys(number).events for number in range(PARTITIONS)]
        lengths = await asyncio.gather(*(self._store.command(b"XLEN", stream) for stream in streams))
        waiting = [stream for stream, length in zip(streams, lengths, strict=True) if length]
        return Lag(events=sum(lengths), ms=await self._lag_ms(waiting))

    async def _lag_ms(self, streams: Sequence[bytes]) -> int:
        """Age of the oldest entry of these streams."""
        if not streams:
            return 0
        first = await asyncio.gather(*(self._store.command(b"XRANGE", stream, b"-", b"+", b"COUNT", b"1") for stream in streams))
        seconds, microseconds = await self._store.command(b"TIME")
        entered = [_entered_ms(*entries[0]) for entries in first if entries]
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return max((now_ms - at_ms for at_ms in entered), default=0)

    async def limits(self, org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> LimitStates:
        return await self._limiter.read_limits(org, rate, spend)

    async def backlog(self) -> Backlog:
        return await read_backlog(self._store, bytes_max=self._stream_bytes_max)

    async def check_writes(self) -> None:
        await check_writes(self._store)

    async def check_commands(self) -> None:
        await check_commands(self._store)

    async def check(self) -> None:
        if await unmarked_partitions(self._store):
            raise LimiterWipedError("partitions of the store are not marked as complete")

    async def sweep(self) -> int:
        return await self._sweeper.step()

    async def close(self) -> None:
        await self._close()


def _entered_ms(entry_id: bytes, fields: Any) -> int:
    """The earlier of an entry's own time and its id's: ids never fall behind the latest time that the server's clock had."""
    flat = list(chain.from_iterable(fields.items())) if isinstance(fields, dict) else list(fields)
    named = dict(zip(flat[::2], flat[1::2], strict=True))
    id_ms = int(entry_id.partition(b"-")[0])
    settled_at = named.get(b"settled_at_ms", b"")
    return min(id_ms, int(settled_at)) if settled_at.isdigit() else id_ms
