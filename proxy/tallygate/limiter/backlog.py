"""What waits for the ledger in the store's streams, in bytes over all partitions, and the bound past which nothing is admitted.

Settlements are never refused: what was admitted before the bound was reached is still entered. So the bound leaves room for them,
and where the store has a bound of its own (maxmemory), at most half of it is for what waits.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tallygate.domain.errors import StoreError
from tallygate.limiter.keys import PARTITIONS, named_keys
from tallygate.limiter.script import ScriptStore, Store, StoreNode, asked_together, load_scripts
from tallygate.shares.together import answers

PARTS_OF_MEMORY: Final = 2  # of a store with a bound of its own, one is for what waits
LOOK_SECONDS: Final = 5.0
LOOK_SOON_SECONDS: Final = 1.0  # from half of the bound on
_MEMORY: Final = re.compile(rb"^(used_memory|maxmemory):(\d+)", re.MULTILINE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits, and what there is room for.

    events              that no ledger has stored yet, in all streams
    oldest_ms           for how long the oldest of them has waited; 0 if there is none
    waiting_bytes       memory of the streams; in a cluster, at the fullest server, whose share of the bound is waiting_max_bytes
    memory_max_bytes    maxmemory; 0 without. In a cluster, of the server with the least room, whose used memory is memory_bytes
    """

    events: int = 0
    oldest_ms: int = 0
    waiting_bytes: int
    waiting_max_bytes: int
    memory_bytes: int
    memory_max_bytes: int

    @property
    def is_full(self) -> bool:
        return self.waiting_bytes >= self.waiting_max_bytes


class WaitingEvents(NamedTuple):
    """Entries of streams: how many, for how long the oldest has waited, and the memory of all."""

    events: int
    oldest_ms: int
    bytes: int


async def read_waiting(store: ScriptStore, asked: Sequence[tuple[int, ...]]) -> WaitingEvents:
    """What waits in the streams of partitions. asked: by `asked_together`. Raises StoreError."""
    script = load_scripts().waiting
    replies = await answers([store.run_script(script, named_keys("events", some), (b"",)) for some in asked])
    found = [WaitingEvents(*reply) for reply in replies]
    return WaitingEvents(
        events=sum(one.events for one in found),
        oldest_ms=max((one.oldest_ms for one in found), default=0),
        bytes=sum(one.bytes for one in found),
    )


async def read_backlog(store: Store, *, bytes_max: int) -> Backlog:
    """Measure what waits; in a cluster, at the fullest server. bytes_max: the bound of the settings. Raises StoreError."""
    nodes = store.nodes()
    found = await answers(
        [
            _node_backlog(node, asked_together(store, node.partitions), bytes_max * len(node.partitions) // PARTITIONS)
            for node in nodes
        ]
    )
    fullest = max(found, key=lambda one: one.waiting_bytes / (one.waiting_max_bytes or 1))
    least_room = max(found, key=lambda one: one.memory_bytes / (one.memory_max_bytes or 2**63))
    return Backlog(
        events=sum(one.events for one in found),
        oldest_ms=max(one.oldest_ms for one in found),
        waiting_bytes=fullest.waiting_bytes,
        waiting_max_bytes=fullest.waiting_max_bytes,
        memory_bytes=least_room.memory_bytes,
        memory_max_bytes=least_room.memory_max_bytes,
    )


async def _node_backlog(node: StoreNode, asked: Sequence[tuple[int, ...]], bytes_max: int) -> Backlog:
    info, waiting = await asyncio.gather(node.store.command(b"INFO", b"memory"), read_waiting(node.store, asked))
    facts = {name: int(number) for name, number in _MEMORY.findall(info)}
    memory_max = facts.get(b"maxmemory", 0)
    return Backlog(
        events=waiting.events,
        oldest_ms=waiting.oldest_ms,
        waiting_bytes=waiting.bytes,
        waiting_max_bytes=min(bytes_max, memory_max // PARTS_OF_MEMORY) if memory_max else bytes_max,
        memory_bytes=facts.get(b"used_memory", 0),
        memory_max_bytes=memory_max,
    )


async def watch_backlog(store: Store, *, bytes_max: int, on_change: Callable[[bool], None]) -> None:
    """Look again and again until cancelled, and report each time that the streams have become full, or are so no more."""
    was_full, seconds = False, LOOK_SECONDS
    while True:
        try:
            found = await read_backlog(store, bytes_max=bytes_max)
        except StoreError:
            await asyncio.sleep(LOOK_SOON_SECONDS)
            continue
        if found.is_full is not was_full:
            was_full = found.is_full
            on_change(was_full)
            _log_change(found)
        seconds = LOOK_SOON_SECONDS if found.waiting_bytes * 2 >= found.waiting_max_bytes else LOOK_SECONDS
        await asyncio.sleep(seconds)


def _log_change(found: Backlog) -> None:
    fields = {"waiting_bytes": found.waiting_bytes, "waiting_max_bytes": found.waiting_max_bytes}
    if found.is_full:
        _log.error("nothing is admitted: as much usage waits for the ledger as may", extra={"fields": fields})
    else:
        _log.warning("usage that waits for the ledger has room again", extra={"fields": fields})
