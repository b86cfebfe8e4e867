"""The console's Store over the limiter's Redis."""

from collections.abc import Awaitable, Callable, Sequence

from tallygate.domain.admission import LimitQuestion
from tallygate.domain.errors import LimiterWipedError
from tallygate.limiter.backlog import Backlog, read_backlog
from tallygate.limiter.commands import check_commands, check_writes
from tallygate.limiter.generation import unmarked_partitions
from tallygate.limiter.limit_reading import LimitReading
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import Store
from tallygate.limiter.sweep import Sweeper


class LimiterStore:
    """Implements `Store`."""

    def __init__(
        self,
        store: Store,
        limiter: RedisLimiter,
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

    def limit_reading(self, asked: Sequence[LimitQuestion]) -> LimitReading:
        return self._limiter.limit_reading(asked)

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
