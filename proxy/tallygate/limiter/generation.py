"""The mark by which a partition is known to hold its spend. A store that lost its data has no marks, and admits no spending.

A mark is the id of the run of the store in which it was made. A store that was restarted may have lost its last second without a
trace; its marks are those of another run, and whoever connects to it first takes them away (`fence`), before anything is admitted.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tallygate.domain.admission import CalendarPeriod, SpendDemand
from tallygate.domain.errors import StoreError
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from tallygate.limiter import wire
from tallygate.limiter.keys import named_keys, org_keys, partition_keys
from tallygate.limiter.redis_limiter import EXPIRED_MS
from tallygate.limiter.script import Scripts, ScriptStore, Store, asked_together
from tallygate.shares.together import answers

LEASE_MAX_MS: Final = 3_600_000  # of TALLYGATE_LEASE_SECONDS
_ADMITS: Final = -1


def run_id_of(info: bytes) -> str:
    """The id of the store's run in an answer to INFO: a new one after every restart. Empty if the store does not report it."""
    return next((line.removeprefix(b"run_id:").decode() for line in info.splitlines() if line.startswith(b"run_id:")), "")


async def partition_runs(store: Store) -> Mapping[int, str]:
    """By partition, the run of the server that has it. Raises StoreError."""
    nodes = store.nodes()
    infos = await asyncio.gather(*(node.store.command(b"INFO", b"server") for node in nodes))
    return {partition: run_id_of(info) for node, info in zip(nodes, infos, strict=True) for partition in node.partitions}


async def unmarked_partitions(store: ScriptStore) -> tuple[int, ...]:
    """Partitions that must be rebuilt from the ledger, then marked. All of them at the first start ever."""
    asked = asked_together(store)
    counts = await answers([store.command(b"EXISTS", *named_keys("generation", some)) for some in asked])
    lacking = [some for some, count in zip(asked, counts, strict=True) if count < len(some)]
    if not lacking:  # as a rule
        return ()
    marks = await asyncio.gather(*(store.command(b"MGET", *named_keys("generation", some)) for some in lacking))
    return tuple(p for some, found in zip(lacking, marks, strict=True) for p, mark in zip(some, found, strict=True) if mark is None)


async def is_unused(store: ScriptStore) -> bool:
    """Return whether no partition was ever marked: this is the first start ever, or the store has lost everything."""
    kept = [
        [key for p in some for key in (partition_keys(p).generation, partition_keys(p).former)] for some in asked_together(store)
    ]
    return not any(await asyncio.gather(*(store.command(b"EXISTS", *keys) for keys in kept)))


async def mark_partition(store: ScriptStore, partition: int, generation: str) -> None:
    """The partition's spend is complete: it admits. A mark that is there stays, so that two rebuilds may race."""
    await store.command(b"SET", partition_keys(partition).generation, generation.encode(), b"NX")


async def reopen(store: Store) -> int:
    """Admit again in every partition that has lost its spend, as if nothing had been spent there; returns how many those were."""
    lost, runs = await unmarked_partitions(store), await partition_runs(store)
    await asyncio.gather(*(mark_partition(store, partition, runs[partition]) for partition in lost))
    return len(lost)


async def read_generation(store: ScriptStore, partition: int) -> str | None:
    mark = await store.command(b"GET", partition_keys(partition).generation)
    return None if mark is None else mark.decode()


async def close_partition(store: ScriptStore, partition: int) -> None:
    """Take the mark away: nothing is admitted or settled against a spend limit until the partition is rebuilt and marked."""
    await store.command(b"DEL", partition_keys(partition).generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """A partition's stream. b"0-0": there was none.

    last_event      the last event that was ever appended, also if it has left it
    removed_until   the last event that has left it; of a Redis before 7.0, which does not keep this, b"0-0" while any is in it
    """

    last_event: bytes = b"0-0"
    removed_until: bytes = b"0-0"


async def stream_facts(store: ScriptStore, partition: int) -> StreamFacts:
    """Read both in one step (redis.io/docs/latest/commands/xinfo-stream). Raises StoreError."""
    try:
        reply = await store.command(b"XINFO", b"STREAM", partition_keys(partition).events)
    except StoreError as error:
        if "no such key" in str(error):
            return StreamFacts()
        raise
    facts = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    last = bytes(facts[b"last-generated-id"])
    removed = facts.get(b"max-deleted-entry-id", b"0-0" if facts[b"length"] else last)
    return StreamFacts(last_event=last, removed_until=bytes(removed))


class RestoreRefusedError(Exception):
    """The condition of a restore does not hold: the partition admits already, or an event was appended that it does not know of."""


async def restore_window(
    store: ScriptStore,
    scripts: Scripts,
    org: str,
    demand: SpendDemand,
    posted: Sequence[tuple[int, int]],
    *,
    now_ms: int | None = None,
    after_event: bytes = b"",
) -> int:
    """Replace a window's spend by (settled_at_ms, nano_usd) pairs out of the ledger; returns what counts of it now.

    Pairs may be summed per 5-minute bucket beforehand. Holds stay. Doing it twice gives the same window.
    after_event   the last event that the pairs know of: restores only while the partition is closed and no other was appended.
                  Raises RestoreRefusedError.
    """
    wire.check_spend((demand,))
    for _, amount in posted:
        wire.require_whole("posted amount", amount)
    time = b"" if now_ms is None else b"%d" % now_ms
    args = (time, wire.encode_windows(org, (demand,)), wire.encode_posted(posted), after_event)
    spent = int(await store.run_script(scripts.restore, org_keys(org).all, args))
    if spent < 0:
        raise RestoreRefusedError("the partition admits already" if spent == _ADMITS else "another event was appended")
    return spent


async def reanchor_org(
    store: ScriptStore, scripts: Scripts, org: str, *, lease_ms: int, now_ms: int | None = None, memory_ms: int = EXPIRED_MS
) -> int:
    """Bring back what a clock that was ahead has put off of an organization's reservations; returns how many those were."""
    time = b"" if now_ms is None else b"%d" % now_ms
    numbers = wire.encode_reanchor(org, lease_ms=lease_ms, lease_max_ms=LEASE_MAX_MS, memory_ms=memory_ms)
    return int(await store.run_script(scripts.reanchor, org_keys(org).all, (time, numbers)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindow:
    """A window as its last use has left it.

    last_bucket_ms   of a rolling one: the start of its latest bucket; None of a month, or if it was never used
    period           the month that it counts; None of a rolling one, or if it was never used
    """

    spent_nano_usd: int
    last_bucket_ms: int | None
    period: CalendarPeriod | None


async def read_window(store: ScriptStore, org: str, key: str) -> StoredWindow:
    """What the store has of a window, without its buckets."""
    fields = (f"{key}|{part}".encode() for part in ("spent", "at", "id", "start", "end"))
    spent, at, name, start, end = await store.command(b"HMGET", org_keys(org).spend, *fields)
    return StoredWindow(
        spent_nano_usd=int(spent or 0),
        last_bucket_ms=None if at is None else int(at) * SPEND_BUCKET_MS,
        period=None if name is None else CalendarPeriod(id=name.decode(), start_ms=int(start), end_ms=int(end)),
    )


async def orgs_of(store: ScriptStore, partition: int) -> tuple[str, ...]:
    """Organizations of which the partition has anything that ends by itself."""
    return tuple(org.decode() for org in await store.command(b"ZRANGE", partition_keys(partition).orgs, b"0", b"-1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPosted:
    """The amount that a window has taken, read in one step with how far the stream is stored.

    oldest_unstored_ms   settlement time of the partition's oldest event that the ledger has yet to store; None: it has all
    buckets              of a rolling window: start to amount, without empty ones
    period               of a calendar month: its start and end; (0, 0) if it was never used
    is_ahead             a clock that was ahead has moved it, and was put right since: it is to be rebuilt
    """

    now_ms: int
    oldest_unstored_ms: int | None
    spent_nano_usd: int
    buckets: Mapping[int, int]
    period: tuple[int, int] | None
    is_ahead: bool


async def read_posted(
    store: ScriptStore, scripts: Scripts, org: str, demand: SpendDemand, *, now_ms: int | None = None
) -> WindowPosted:
    wire.check_spend((demand,))
    time = b"" if now_ms is None else b"%d" % now_ms
    words = msgspec.json.decode(
        await store.run_script(scripts.posted, org_keys(org).all, (time, wire.encode_windows(org, (demand,)))), type=list[int]
    )
    now, oldest, spent, ahead, *rest = words
    is_rolling = demand.limit.kind is WindowKind.ROLLING
    return WindowPosted(
        now_ms=now,
        oldest_unstored_ms=None if oldest < 0 else oldest,
        spent_nano_usd=spent,
        buckets=dict(zip(rest[::2], rest[1::2], strict=True)) if is_rolling else {},
        period=None if is_rolling else (rest[0], rest[1]),
        is_ahead=ahead == 1,
    )
