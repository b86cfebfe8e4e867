"""The mark by which a partition is known to hold its spend. A store that lost its data has no marks, and admits no spending."""

import asyncio
from collections.abc import Sequence

from proxy.domain.admission import SpendDemand
from proxy.limiter import wire
from proxy.limiter.keys import PARTITIONS, org_keys, partition_keys
from proxy.limiter.script import Scripts, ScriptStore


async def unmarked_partitions(store: ScriptStore) -> tuple[int, ...]:
    """Partitions that must be rebuilt from the ledger, then marked. All of them at the first start ever."""
    marks = await asyncio.gather(*(store.command(b"GET", partition_keys(p).generation) for p in range(PARTITIONS)))
    return tuple(partition for partition, mark in enumerate(marks) if mark is None)


async def mark_partition(store: ScriptStore, partition: int, generation: str) -> None:
    """The partition's spend is complete: it admits. A mark that is there stays, so that two rebuilds may race."""
    await store.command(b"SET", partition_keys(partition).generation, generation.encode(), b"NX")


async def mark_all(store: ScriptStore, generation: str) -> None:
    """The first start ever: nothing has been spent, so every partition is complete."""
    await asyncio.gather(*(mark_partition(store, partition, generation) for partition in range(PARTITIONS)))


async def reopen(store: ScriptStore, generation: str) -> int:
    """Admit again in every partition that has lost its spend, as if nothing had been spent there; returns how many those were."""
    lost = await unmarked_partitions(store)
    await asyncio.gather(*(mark_partition(store, partition, generation) for partition in lost))
    return len(lost)


async def read_generation(store: ScriptStore, partition: int) -> str | None:
    mark = await store.command(b"GET", partition_keys(partition).generation)
    return None if mark is None else mark.decode()


async def restore_window(
    store: ScriptStore,
    scripts: Scripts,
    org: str,
    demand: SpendDemand,
    posted: Sequence[tuple[int, int]],
    *,
    now_ms: int | None = None,
) -> int:
    """Replace a window's spend by (settled_at_ms, nano_usd) pairs out of the ledger; returns what counts of it now.

    Pairs may be summed per 5-minute bucket beforehand. Holds stay. Doing it twice gives the same window.
    """
    wire.check_spend((demand,))
    for _, amount in posted:
        wire.require_whole("posted amount", amount)
    time = b"" if now_ms is None else b"%d" % now_ms
    args = (time, wire.encode_windows(org, (demand,)), wire.encode_posted(posted))
    return int(await store.run(scripts.restore, org_keys(org).all, args))
