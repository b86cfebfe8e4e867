"""The writer: from the limiter's streams into the ledger, exactly once, whatever happens on the way."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ledger_values import START_MS, a_fact, an_event_id, assert_no_drift, stream_fields, sums
from msgspec.structs import asdict
from sqlalchemy import select

from tallygate.domain.usage_event import UsageEvent
from tallygate.ledger import writer as writer_module
from tallygate.ledger.book import Book, Recorded
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.schema import ENTRIES, MALFORMED
from tallygate.ledger.writer import Gathering, Writer
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import is_unused, unmarked_partitions
from tallygate.limiter.keys import PARTITIONS, partition_keys, partition_of


class Steps:
    """A hand on every await of the code under test: counts them, and at the chosen one raises instead."""

    def __init__(self) -> None:
        self.made = 0
        self.fatal: int | None = None

    def __call__(self) -> None:
        self.made += 1
        if self.made == self.fatal:
            raise asyncio.CancelledError


class SteppedStore:
    """A ScriptStore whose every command is a step, before it and after it; of the streams that are read, only those of `ORGS`."""

    is_cluster = False

    ORGS = ("org-1", "org-2")

    def __init__(self, store: RedisConnection, step: Callable[[], None]) -> None:
        self._store = store
        self._step = step

    async def run_script(self, *call: Any) -> Any:
        self._step()
        reply = await self._store.run_script(*call)
        self._step()
        return reply

    async def command(self, *parts: bytes) -> Any:
        streams = {partition_keys(partition_of(org)).events for org in self.ORGS}
        if parts[0] == b"XREADGROUP" and streams.isdisjoint(parts):
            return await self._store.command(*parts)
        self._step()
        reply = await self._store.command(*parts)
        self._step()
        return reply


class SteppedBook(Book):
    """A book that may be cut off between any two of its statements, before the commit and after it."""

    def __init__(self, database: Database, step: Callable[[], None]) -> None:
        super().__init__(database)
        self._step = step

    async def record(self, *told: Any, **more: Any) -> Recorded:
        self._step()
        recorded = await super().record(*told, **more)
        self._step()
        return recorded

    def _insert(self, *call: Any) -> Any:
        self._step()
        return super()._insert(*call)

    def _roll_up(self, *call: Any) -> Any:
        self._step()
        return super()._roll_up(*call)

    def _add_to_lifetime(self, *call: Any) -> None:
        super()._add_to_lifetime(*call)
        self._step()


async def nothing_to_repair(partition: int) -> None:
    raise AssertionError(f"partition {partition} has taken nothing twice")


def a_writer(store: Any, book: Book, *, consumer: str = "one", batch_max: int = 1_000) -> Writer:
    return Writer(
        EventStreams(store, consumer),
        book,
        now_ms=lambda: START_MS,
        loop_time=lambda: 0.0,
        on_posted_again=nothing_to_repair,
        batch_max=batch_max,
    )


async def append(store: RedisConnection, fact: UsageEvent, **told: Any) -> None:
    words = stream_fields(fact, **told)
    flat = [part for pair in words.items() for part in pair]
    await store.command(b"XADD", partition_keys(partition_of(fact.org)).events, b"*", *flat)


async def append_some(store: RedisConnection, count: int) -> None:
    for number in range(count):
        await append(store, a_fact(number, org=f"org-{number % 9}"))


async def backlog(store: RedisConnection) -> int:
    return await EventStreams(store, "reader").backlog()


async def test_what_the_limiter_appended_is_in_the_ledger_and_no_longer_in_the_streams(
    redis_store: RedisConnection, database: Database, book: Book
) -> None:
    await append_some(redis_store, 50)
    writer = a_writer(redis_store, book, batch_max=7)

    assert await writer.step() == 50
    assert (await assert_no_drift(database))[0] == 50
    assert await backlog(redis_store) == 0
    assert writer.counts.stored == 50


async def test_a_writer_cut_off_at_any_await_loses_nothing_and_counts_nothing_twice(
    redis_store: RedisConnection, open_another: Callable[[], Database]
) -> None:
    """Each round ends one writer at its next await; the one that comes back under its name must leave everything stored once."""
    database = open_another()
    steps = Steps()
    expected = 0
    for fatal in range(1, 1_000):
        for number, org in enumerate(SteppedStore.ORGS):
            await append(redis_store, a_fact(2 * fatal + number, org=org))
        expected += 2
        steps.made, steps.fatal = 0, fatal
        writer = a_writer(SteppedStore(redis_store, steps), SteppedBook(database, steps))
        try:
            await writer.step()
        except asyncio.CancelledError:
            steps.fatal = None
        survived = steps.fatal is not None
        successor = a_writer(redis_store, Book(database))
        await successor.step()
        await successor.step()
        assert (await sums(database))["entries"][0] == expected, f"cut off at await {fatal}"
        assert await backlog(redis_store) == 0, f"cut off at await {fatal}"
        if survived:
            break
    assert fatal > 10
    await assert_no_drift(database)


async def test_a_second_writer_takes_over_what_the_first_left(redis_store: RedisConnection, database: Database, book: Book) -> None:
    await append_some(redis_store, 20)
    dead = EventStreams(redis_store, "dead")
    assert len(await dead.fresh(100)) == 20
    writer = a_writer(redis_store, book, consumer="alive")
    assert await writer.step() == 0

    await writer.drain()

    assert (await assert_no_drift(database))[0] == 20
    assert await backlog(redis_store) == 0


async def test_entries_that_both_writers_have_are_counted_once(
    redis_store: RedisConnection, open_another: Callable[[], Database]
) -> None:
    await append_some(redis_store, 40)
    streams = EventStreams(redis_store, "slow"), EventStreams(redis_store, "quick")
    slow = await streams[0].fresh(100)
    quick = await streams[1].claim(100, idle_ms=0)
    writers = [a_writer(redis_store, Book(open_another()), consumer=name) for name in ("slow", "quick")]

    await asyncio.gather(*(writer._store(batch) for writer, batch in zip(writers, (slow, quick), strict=True)))

    assert (await assert_no_drift(open_another()))[0] == 40
    assert await backlog(redis_store) == 0


async def test_malformed_entries_are_set_aside_and_block_nothing(
    redis_store: RedisConnection, database: Database, book: Book
) -> None:
    stream = partition_keys(5).events
    await redis_store.command(b"XADD", stream, b"*", b"nonsense", b"\xff\x00")
    await redis_store.command(b"XADD", stream, b"*", b"event", b"{}")
    await append_some(redis_store, 3)
    writer = a_writer(redis_store, book)
    await writer.step()

    assert await backlog(redis_store) == 0
    assert (writer.counts.stored, writer.counts.malformed) == (3, 2)
    async with database.read() as connection:
        assert (await connection.execute(select(MALFORMED.c.partition))).scalars().all() == [5, 5]


class RefusingBook(Book):
    """A database that cannot take one of the events, whatever is tried."""

    def _insert(self, connection: Any, entries: Any) -> Any:
        if any(entry.event_id == an_event_id(13) for entry in entries):
            connection.execute(ENTRIES.insert(), [{**asdict(entries[0]), "org": None}])
        return super()._insert(connection, entries)


async def test_an_event_that_the_database_refuses_is_set_aside_alone(redis_store: RedisConnection, database: Database) -> None:
    for number in range(20):
        await append(redis_store, a_fact(number))
    writer = a_writer(redis_store, RefusingBook(database))
    await writer.step()

    assert (writer.counts.stored, writer.counts.malformed) == (19, 1)
    assert (await assert_no_drift(database))[0] == 19
    assert await backlog(redis_store) == 0


class AwayBook(Book):
    """A database that is away until `is_back`."""

    is_back = False

    async def record(self, *told: Any, **more: Any) -> Recorded:
        if not self.is_back:
            raise LedgerUnavailableError("no route to host")
        return await super().record(*told, **more)


async def test_while_the_database_is_away_entries_stay_in_their_streams(redis_store: RedisConnection, database: Database) -> None:
    await append_some(redis_store, 30)
    book = AwayBook(database)
    writer = a_writer(redis_store, book)
    for _ in range(3):
        with pytest.raises(LedgerUnavailableError):
            await writer.step()
    assert await backlog(redis_store) == 30

    book.is_back = True
    await writer.step()

    assert await backlog(redis_store) == 0
    assert (await assert_no_drift(database))[0] == 30


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.01)


async def test_a_running_writer_goes_on_when_the_database_is_back(redis_store: RedisConnection, database: Database) -> None:
    book = AwayBook(database)
    writer = a_writer(redis_store, book)
    running = asyncio.ensure_future(writer.write_forever())
    await append_some(redis_store, 10)

    async def is_waiting() -> bool:
        return writer.is_database_away

    async def is_stored() -> bool:
        return await backlog(redis_store) == 0

    async def is_up_to_date() -> bool:
        return not writer.is_behind

    await _until(is_waiting)
    assert writer.is_behind
    book.is_back = True
    await _until(is_stored)
    await _until(is_up_to_date)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (await assert_no_drift(database))[0] == 10


async def test_where_events_trickle_in_the_writer_gathers_until_enough_come_at_once() -> None:
    gathering = Gathering()
    assert [gathering.pause_after(found) for found in (0, 1, 0, 2, 4, 8, 16, 99)] == [0.4, 0.8, 1.6, 1.8, 1.8, 1.8, 1.8, 1.8]
    assert [gathering.pause_after(found) for found in (100, 300, 300, 500, 500, 500)] == [0.9, 0.45, 0.225, 0.2, 0.2, 0.2]
    assert [gathering.pause_after(found) for found in (1, 0, 0, 1)] == [0.4, 0.8, 1.6, 1.8]


class OneLongPause(Gathering):
    def pause_after(self, found: int) -> float:
        return 3_600 if found else 0.001


async def test_who_asks_for_usage_ends_a_pause(redis_store: RedisConnection, database: Database, book: Book) -> None:
    writer = a_writer(redis_store, book)
    writer._gathering, writer._loop_time = OneLongPause(), time.monotonic

    async def is_stored() -> bool:
        return await backlog(redis_store) == 0

    await append_some(redis_store, 10)
    running = asyncio.ensure_future(writer.write_forever())
    await _until(is_stored)
    for number in range(10, 20):
        await append(redis_store, a_fact(number))
    writer.hurry()
    await _until(is_stored)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (await assert_no_drift(database))[0] == 20


class CountingStore:
    """A ScriptStore that counts its commands."""

    is_cluster = False

    def __init__(self, store: RedisConnection) -> None:
        self._store = store
        self.commands: list[bytes] = []

    async def run_script(self, *call: Any) -> Any:
        return await self._store.run_script(*call)

    async def command(self, *parts: bytes) -> Any:
        self.commands.append(parts[0])
        return await self._store.command(*parts)


async def test_a_look_at_all_streams_is_one_command(redis_store: RedisConnection, book: Book) -> None:
    store = CountingStore(redis_store)
    writer = a_writer(store, book)
    await append_some(redis_store, 9)
    await writer.step()
    store.commands.clear()

    assert await writer.step() == 0
    assert store.commands == [b"XREADGROUP"]
    assert await unmarked_partitions(store) == tuple(range(PARTITIONS))
    assert await is_unused(store)
    assert store.commands == [b"XREADGROUP", b"EXISTS", b"MGET", b"EXISTS"]


async def test_a_writer_is_behind_while_a_stream_may_have_more_than_it_reads_at_once(
    redis_store: RedisConnection, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "READ_MAX", 5)
    for number in range(7):
        await append(redis_store, a_fact(number))
    writer = a_writer(redis_store, book)
    assert writer.is_behind
    seen = []
    for _ in range(2):
        await writer.step()
        seen.append(writer.is_behind)
    assert seen == [True, False]


async def test_streams_that_were_lost_get_their_group_again(redis_store: RedisConnection, database: Database, book: Book) -> None:
    writer = a_writer(redis_store, book)
    await append_some(redis_store, 5)
    await writer.step()
    await redis_store.command(b"FLUSHALL")
    await append(redis_store, a_fact(100))

    assert await writer.step() == 1
    assert (await assert_no_drift(database))[0] == 6


async def test_streams_are_asked_for_what_was_left_once_something_has_waited_for_so_long(
    redis_store: RedisConnection,
) -> None:
    await redis_store.command(b"XADD", partition_keys(5).events, b"*", b"event", b"{}")
    assert len(await EventStreams(redis_store, "dead").fresh(100)) == 1
    store = CountingStore(redis_store)
    alive = EventStreams(store, "alive")

    assert await alive.claim(100) == []
    assert store.commands == []

    async def is_claimed() -> bool:
        return bool(await alive.claim(100, idle_ms=1))

    await _until(is_claimed)
