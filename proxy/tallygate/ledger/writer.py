"""The ledger's writer: moves events from the limiter's streams into SQL, in batches, until it is stopped.

While the database is away, nothing is lost and nothing piles up here: entries stay in their streams, whose bound closes admission
(TALLYGATE_STREAM_BYTES_MAX), and the writer retries with a growing pause.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tallygate.domain.errors import StoreError
from tallygate.domain.job import Job
from tallygate.ledger.book import Book, Malformed
from tallygate.ledger.database_errors import LedgerUnavailableError, UnstorableError
from tallygate.ledger.entry import Entry, MalformedEntryError, entry_of_stream
from tallygate.ledger.event_stream import EventStreams, StreamEntry
from tallygate.ledger.jobs import JOB_KIND, job_of_stream
from tallygate.ledger.notices.notice import NOTICE_KIND, Notice, notice_of_stream
from tallygate.ledger.stored_objects import ObjectChange, object_changes
from tallygate.ledger.stream_positions import newest_of
from tallygate.limiter.keys import partition_of
from tallygate.shares.ticks import BEAT_SECONDS, Alarm, last_beat

BATCH_MAX: Final = 1_000  # entries of one transaction
READ_MAX: Final = 200  # entries of one partition in one read: at most 12,800 are in memory, about 20 MB
POLL_SECONDS: Final = 0.2  # between two reads at the start, at load, and while somebody asks
GATHER_SECONDS: Final = 2 * BEAT_SECONDS  # the most between two reads where few events come, or none: the ledger may lag for 2 s
ENOUGH: Final = 100  # events of one transaction: with more of them, an event costs hardly less
HURRY_SECONDS: Final = 5.0  # since somebody asked last
CLAIM_EVERY_SECONDS: Final = 10.0
BACKOFF_FIRST_SECONDS: Final = 0.1
BACKOFF_MAX_SECONDS: Final = 5.0
MALFORMED_CHARS_MAX: Final = 20_000  # of a stored malformed entry
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class WriterCounts:
    """A writer's counts since it began. malformed: entries set aside for inspection. failures: rolled-back transactions."""

    stored: int = 0
    repeated: int = 0
    malformed: int = 0
    failures: int = 0


class Writer:
    """One of any number of writers. `run` never ends by itself.

    now_ms        Unix time, for entries set aside
    loop_time     the event loop's clock, for pauses
    counted_at    when an event counts, given its time by the store's clock; raises StoreError while that is unknown
    on_posted_again  called with a partition whose windows counted an event twice, before it leaves the stream; raises StoreError
    before_reading   called at the start, and once the database or the store was away: either may be older than before.
                     Raises LedgerUnavailableError, StoreError
    """

    def __init__(
        self,
        streams: EventStreams,
        book: Book,
        *,
        now_ms: Callable[[], int],
        loop_time: Callable[[], float],
        on_posted_again: Callable[[int], Awaitable[None]],
        batch_max: int = BATCH_MAX,
        counted_at: Callable[[int], int] = lambda at_ms: at_ms,
        before_reading: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._streams = streams
        self._on_posted_again = on_posted_again
        self._book = book
        self._now_ms = now_ms
        self._loop_time = loop_time
        self._batch_max = batch_max
        self._counted_at = counted_at
        self._before_reading = before_reading
        self._recovered = False
        self._claimed_at = loop_time()
        self._gathering = Gathering()
        self._asked = Alarm()
        self._hurries_until = 0.0
        self.counts = WriterCounts()
        self.is_database_away = False
        self.is_behind = True  # whether streams may have more than was read at once

    async def write_forever(self) -> None:
        """Store entries until cancelled. The next writer stores interrupted ones, at once or after a while."""
        pause = BACKOFF_FIRST_SECONDS
        while True:
            try:
                found = await self.step()
            except (LedgerUnavailableError, StoreError) as error:
                self.is_database_away = isinstance(error, LedgerUnavailableError)
                self.is_behind = True
                self._recovered = False  # a store that lost its last writes delivers finished entries again
                _log.warning("the ledger waits", extra={"fields": {"reason": str(error), "seconds": pause}})
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_MAX_SECONDS)
                continue
            self.is_database_away = False
            pause = BACKOFF_FIRST_SECONDS
            if found < self._batch_max // 2:
                await self._rest(self._gathering.pause_after(found))

    def hurry(self) -> None:
        """Somebody asks what the ledger has: for a while, events are stored as they come."""
        self._hurries_until = self._loop_time() + HURRY_SECONDS
        self._asked.set()

    async def _rest(self, seconds: float) -> None:
        """Pause for so long; where somebody asks, or has asked a while ago, for POLL_SECONDS."""
        began = self._loop_time()
        self._asked.clear()
        if began >= self._hurries_until:
            await self._asked.wait(last_beat(seconds) if seconds > BEAT_SECONDS else seconds)
            if not self._asked.is_set:
                return
        await asyncio.sleep(max(began + POLL_SECONDS - self._loop_time(), 0))

    async def step(self) -> int:
        """Read, store, and remove entries from the streams; return how many. Raises LedgerUnavailableError, StoreError."""
        entries = await self._read()
        for start in range(0, len(entries), self._batch_max):
            batch = entries[start : start + self._batch_max]
            try:
                await self._store(batch)
            except BaseException:
                self._recovered = False  # this consumer's unfinished entries are read again first
                raise
        read = Counter(entry.partition for entry in entries) if len(entries) >= READ_MAX else {}
        self.is_behind = not self._recovered or max(read.values(), default=0) >= READ_MAX
        return len(entries)

    async def drain(self) -> None:
        """Store everything that is now in the streams. Raises LedgerUnavailableError, StoreError."""
        while await self._streams.backlog():
            if not await self.step():
                await self._store(await self._streams.claim(READ_MAX, idle_ms=0))
                await asyncio.sleep(0)

    async def _read(self) -> list[StreamEntry]:
        if not self._recovered:
            if self._before_reading is not None:
                await self._before_reading()
            unfinished = await self._streams.unfinished(READ_MAX)
            if unfinished:
                return unfinished
            self._recovered = True
        if self._loop_time() - self._claimed_at >= CLAIM_EVERY_SECONDS:
            self._claimed_at = self._loop_time()
            claimed = await self._streams.claim(READ_MAX)
            if claimed:
                return claimed
        return await self._streams.fresh(READ_MAX)

    async def _store(self, batch: Sequence[StreamEntry]) -> None:
        parsed: list[tuple[StreamEntry, Entry | Notice | Job]] = []
        malformed: list[Malformed] = []
        for entry in batch:
            if entry.fields is None:
                continue
            try:
                parsed.append((entry, self._item_of(entry.fields)))
            except MalformedEntryError as error:
                malformed.append(_malformed(entry, str(error)))
        malformed += await self._record(parsed, malformed)
        for aside in malformed:
            _log.error(
                "a stream entry cannot be read and is set aside",
                extra={"fields": {"partition": aside.partition, "entry": aside.stream_id, "reason": aside.reason}},
            )
        self.counts.malformed += len(malformed)
        await self._streams.finish(batch)

    def _item_of(self, fields: Mapping[bytes, bytes]) -> Entry | Notice | Job:
        """Raises MalformedEntryError."""
        kind = fields.get(b"kind")
        if kind == NOTICE_KIND:
            return notice_of_stream(fields)
        if kind == JOB_KIND:
            return job_of_stream(fields)
        entry = entry_of_stream(fields.get(b"event", b""), fields)
        at_ms = self._counted_at(entry.settled_at_ms)
        return entry if at_ms == entry.settled_at_ms else replace(entry, settled_at_ms=at_ms, posted_at_ms=at_ms)

    async def _record(
        self, parsed: Sequence[tuple[StreamEntry, Entry | Notice | Job]], malformed: Sequence[Malformed] = ()
    ) -> list[Malformed]:
        """Store entries, and set aside those that the database refuses; returns the latter."""
        try:
            entries = [item for _, item in parsed if isinstance(item, Entry)]
            notices = [item for _, item in parsed if isinstance(item, Notice)]
            jobs = [item for _, item in parsed if isinstance(item, Job)]
            objects = [change for source, item in parsed for change in _object_changes(source, item)]
            recorded = await self._book.record(
                entries,
                malformed,
                notices=notices,
                objects=objects,
                jobs=jobs,
                taken=_taken(parsed, malformed),
                now_ms=self._now_ms(),
            )
        except LedgerUnavailableError:
            self.counts.failures += 1
            raise
        except UnstorableError as error:
            self.counts.failures += 1
            if len(parsed) <= 1:  # this one is at fault: no other entry should wait for it
                refused = [_malformed(source, str(error)) for source, _ in parsed]
                aside = [*malformed, *refused]
                await self._book.record([], aside, taken=_taken([], aside), now_ms=self._now_ms())
                return refused
            half = len(parsed) // 2
            return await self._record(parsed[:half], malformed) + await self._record(parsed[half:])
        self.counts.stored += recorded.entries
        self.counts.repeated += recorded.repeated
        for partition in sorted({partition_of(org) for org in recorded.posted_again}):
            _log.error("the limiter took an event twice and is rebuilt", extra={"fields": {"partition": partition}})
            await self._on_posted_again(partition)
        return []


class Gathering:
    """How long a writer waits between two reads. A transaction costs as much as ten events, and fills some twenty pages of a file.

    Where events trickle in, or none come, each pause is twice the one before, until one brings enough of them.
    """

    def __init__(self) -> None:
        self._seconds = POLL_SECONDS

    def pause_after(self, found: int) -> float:
        if found < ENOUGH:
            self._seconds = min(self._seconds * 2, GATHER_SECONDS)
        else:
            self._seconds = max(self._seconds / 2, POLL_SECONDS)
        return self._seconds


def _taken(parsed: Sequence[tuple[StreamEntry, Entry | Notice | Job]], aside: Sequence[Malformed]) -> dict[int, int]:
    """How far each stream is stored with these entries and those set aside."""
    read = ((source.partition, source.id) for source, _ in parsed)
    return newest_of((*read, *((malformed.partition, malformed.stream_id.encode()) for malformed in aside)))


def _object_changes(source: StreamEntry, item: Entry | Notice | Job) -> list[ObjectChange]:
    """What a stream entry says of stored objects: a job's are there before it ends."""
    if isinstance(item, Entry):
        return object_changes((source.fields or {}).get(b"event", b""), item)
    return object_changes(bytes(item.event), item) if isinstance(item, Job) else []


def _malformed(entry: StreamEntry, reason: str) -> Malformed:
    shown = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in (entry.fields or {}).items()}
    return Malformed(
        partition=entry.partition,
        stream_id=entry.id.decode(errors="replace"),
        reason=_plain(reason)[:1_000],
        fields=_plain(str(shown))[:MALFORMED_CHARS_MAX],
    )


def _plain(text: str) -> str:
    """The text without control characters and what PostgreSQL refuses."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
