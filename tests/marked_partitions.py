"""A store as after a first start: nothing was spent, so every partition admits."""

import asyncio

from tallygate.limiter.generation import mark_partition
from tallygate.limiter.keys import PARTITIONS
from tallygate.limiter.script import ScriptStore


async def mark_all(store: ScriptStore, generation: str) -> None:
    await asyncio.gather(*(mark_partition(store, partition, generation) for partition in range(PARTITIONS)))
