"""The limiter's event streams, one a partition, as a consumer group: each entry is assigned to one writer until it is stored.

An entry leaves its stream only after its transaction is committed. An entry that a writer never finished is claimed by another
after CLAIM_IDLE_MS. A stream's length is therefore the number of events that the ledger has yet to store.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tallygate.domain.errors import StoreError
from tallygate.limiter.backlog import read_waiting
from tallygate.limiter.keys import ALL_PARTITIONS, named_keys
from tallygate.limiter.script import ScriptStore, asked_together, load_scripts
from tallygate.shares.together import answers

GROUP: Final = b"ledger"
CLAIM_IDLE_MS: Final = 30_000  # longer than a transaction with its retries

FORGET_IDLE_MS: Final = 86_400_000


class StreamEntry(NamedTuple):
    """A stream entry. fields: None if it was deleted before it was finished: there is nothing left to store."""

    partition: int
    id: bytes
    fields: dict[bytes, bytes] | None


class EventStreams:
    """Reads all partitions as one consumer.

    consumer   this writer's name, under which a restarted writer finds its unfinished entries at once
    """

    def __init__(self, store: ScriptStore, consumer: str) -> None:
        self._store = store
        self._consumer = consumer.encode()
        self._streams = named_keys("events", ALL_PARTITIONS)
        self._partition_of = {stream: partition for partition, stream in enumerate(self._streams)}
        self._stored = load_scripts().stored

    async def unfinished(self, most: int) -> list[StreamEntry]:
        """Up to `most` entries of each partition that this consumer read before and has not finished. Raises StoreError."""
        return await self._read(b"0", most)

    async def fresh(self, most: int) -> list[StreamEntry]:
        """Up to `most` entries of each partition that no consumer has read yet. Raises StoreError."""
        return await self._read(b">", most)

    async def claim(self, most: int, *, idle_ms: int = CLAIM_IDLE_MS) -> list[StreamEntry]:
        """Claim entries that any writer left unfinished for idle_ms. Raises StoreError.

        Each stream is asked only if an entry has waited in one for so long: as a rule none has.
        """
        if idle_ms and (await read_waiting(self._store, asked_together(self._store))).oldest_ms < idle_ms:
            return []
        parts = (GROUP, self._consumer, b"%d" % idle_ms, b"0-0", b"COUNT", b"%d" % most)
        replies = await asyncio.gather(
            *(self._command((p,), b"XAUTOCLAIM", stream, *parts) for p, stream in enumerate(self._streams))
        )
        return [entry for partition, reply in enumerate(replies) if reply for entry in _entries(partition, reply[1])]

    async def finish(self, entries: Sequence[StreamEntry]) -> None:
        """Remove stored entries. Raises StoreError; they are then delivered again, and recognised by their ids."""
        ids: dict[int, list[bytes]] = {}
        for entry in entries:
            ids.setdefault(entry.partition, []).append(entry.id)
        calls = []
        for some in asked_together(self._store):
            words = [b"%d %b" % (number, id_) for number, partition in enumerate(some, 1) for id_ in ids.get(partition, ())]
            if words:
                calls.append(self._store.run_script(self._stored, named_keys("events", some), (b"", GROUP, b" ".join(words))))
        await answers(calls)

    async def backlog(self) -> int:
        """The number of entries, over all partitions, that are not stored yet. Raises StoreError."""
        return sum(await asyncio.gather(*(self._store.command(b"XLEN", stream) for stream in self._streams)))

    async def forget_consumers(self, *, idle_ms: int = FORGET_IDLE_MS) -> int:
        """Remove consumers that have been idle for that long and have nothing unfinished; return how many. Raises StoreError.

        A ledger without a persistent data directory has another name after each restart.
        """
        forgotten = 0
        for partition, stream in enumerate(self._streams):
            for facts in await self._consumers(partition):
                consumer = facts if isinstance(facts, dict) else dict(zip(facts[::2], facts[1::2], strict=True))
                if consumer[b"pending"] == 0 and consumer[b"idle"] > idle_ms:
                    await self._store.command(b"XGROUP", b"DELCONSUMER", stream, GROUP, consumer[b"name"])
                    forgotten += 1
        return forgotten

    async def _consumers(self, partition: int) -> Any:
        try:
            return await self._command((partition,), b"XINFO", b"CONSUMERS", self._streams[partition], GROUP)
        except StoreError as error:
            if "no such key" in str(error):  # nothing was ever added here
                return []
            raise

    async def _read(self, after: bytes, most: int) -> list[StreamEntry]:
        """One command for all streams where the store takes it: it is sent again and again, also while there is nothing to read."""
        replies = await answers([self._read_some(some, after, most) for some in asked_together(self._store)])
        return [entry for reply in replies for entry in reply]

    async def _read_some(self, partitions: tuple[int, ...], after: bytes, most: int) -> list[StreamEntry]:
        head = (b"XREADGROUP", b"GROUP", GROUP, self._consumer, b"COUNT", b"%d" % most, b"STREAMS")
        streams = named_keys("events", partitions)
        reply = await self._command(partitions, *head, *streams, *(after,) * len(streams))
        # [[stream, entries]], or {stream: entries} in the newer protocol
        found = reply.items() if isinstance(reply, dict) else reply or ()
        return [entry for stream, entries in found for entry in _entries(self._partition_of[stream], entries)]

    async def _command(self, partitions: Sequence[int], *parts: bytes) -> Any:
        """Run a command on streams; create groups that are missing, at the first start or after the store lost its data."""
        try:
            return await self._store.command(*parts)
        except StoreError as error:
            if "NOGROUP" not in str(error):
                raise
        await asyncio.gather(*(self._create_group(self._streams[partition]) for partition in partitions))
        return await self._store.command(*parts)

    async def _create_group(self, stream: bytes) -> None:
        try:
            await self._store.command(b"XGROUP", b"CREATE", stream, GROUP, b"0", b"MKSTREAM")
        except StoreError as error:
            if "BUSYGROUP" not in str(error):  # it is there, or another writer was faster
                raise


def _entries(partition: int, found: Any) -> list[StreamEntry]:
    return [StreamEntry(partition, item[0], _fields(item[1])) for item in found if item]  # Redis 6.2 answers nil for deleted ones


def _fields(flat: Any) -> dict[bytes, bytes] | None:
    if flat is None or isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))
