"""A store's clock that was wrong, a time zone that changed, a settlement that came late: limiter and ledger agree afterwards."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from ledger_values import START_MS, a_fact, assert_no_drift
from limiter_at_work import MONTH, ORGANIZATIONS, WEEK, LimiterAtWork, an_organization
from marked_partitions import mark_all
from sqlalchemy import select

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.calendar_months import month_at
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, SpendLimit
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.history import OrgScope, UsageQuery
from tallygate.ledger.limiter_windows import windows_of
from tallygate.ledger.notices.digest_figures import DigestFigures
from tallygate.ledger.notices.digests import Digests
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import ENTRIES, SPEND_BUCKETS
from tallygate.ledger.store_clock import BELIEVED_AFTER_MS, STEP_MS, StoreClock
from tallygate.ledger.upkeep import ConfigInForce, Upkeep
from tallygate.ledger.usage_queries import UsageQueries
from tallygate.ledger.writer import Writer
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import close_partition, read_posted, read_window, unmarked_partitions
from tallygate.limiter.keys import ALL_PARTITIONS, org_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import Script, StoreNode, load_scripts
from tallygate.limiter.sweep import Sweeper
from tallygate.shares.seldom import Seldom

ACME = ORGANIZATIONS[0]
DAY_MS = 86_400_000
MINUTE_MS = 60_000


class Clock:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class SetClock:
    """A store whose clock is set, beside a steady one."""

    is_cluster = False

    def __init__(self) -> None:
        self.steady_ms = 5_000
        self.ahead_ms = START_MS

    async def command(self, *parts: bytes) -> Any:
        assert parts == (b"TIME",)
        seconds, rest = divmod(self.steady_ms + self.ahead_ms, 1000)
        return [b"%d" % seconds, b"%d" % (rest * 1000)]

    async def run_script(self, *_: object) -> Any:
        raise NotImplementedError

    def nodes(self) -> Sequence[StoreNode]:
        return (StoreNode("set", self, ALL_PARTITIONS),)

    def clock(self) -> StoreClock:
        return StoreClock(self, steady_ms=lambda: self.steady_ms)


@pytest.mark.parametrize("ahead_ms", [31 * DAY_MS, -365 * DAY_MS, STEP_MS + 1, -STEP_MS - 1])
async def test_a_clock_that_is_set_is_not_believed_until_it_has_come_back(ahead_ms: int) -> None:
    store = SetClock()
    clock = store.clock()
    with pytest.raises(StoreError):  # events that a store which was away has kept wait until its clock is known
        clock.counted_at(START_MS)
    assert not await clock.look()
    store.ahead_ms += ahead_ms
    assert (await clock.look(), clock.is_believed, clock.steps) == (True, False, 1)
    store.steady_ms += 500
    assert (await clock.look(), clock.is_believed, clock.steps) == (False, False, 1)
    store.ahead_ms -= ahead_ms

    assert (await clock.look(), clock.is_believed, clock.steps) == (True, True, 2)


async def test_a_clock_that_stays_where_it_was_set_is_believed_after_half_a_minute() -> None:
    store = SetClock()
    clock = store.clock()
    await clock.look()
    store.ahead_ms += 31 * DAY_MS
    await clock.look()
    store.steady_ms += BELIEVED_AFTER_MS - 1
    assert (await clock.look(), clock.is_believed) == (False, False)
    assert clock.counted_at(clock.now_ms() + 31 * DAY_MS) == clock.now_ms() == store.steady_ms + START_MS
    store.steady_ms += 1
    assert (await clock.look(), clock.is_believed) == (False, True)
    assert clock.now_ms() == store.steady_ms + store.ahead_ms


async def test_a_clock_that_is_corrected_little_by_little_is_followed() -> None:
    store = SetClock()
    clock = store.clock()
    for _ in range(20):
        store.ahead_ms -= STEP_MS
        assert not await clock.look()
    assert (clock.is_believed, clock.steps) == (True, 0)
    assert clock.counted_at(clock.now_ms() + STEP_MS) == clock.now_ms() + STEP_MS


async def _spend_ahead(at_work: LimiterAtWork, ahead_ms: int, nano_usd: int) -> None:
    ahead = RedisLimiter(at_work.store, at_work.scripts, now_ms=lambda: now + ahead_ms)
    now = await at_work.now_ms()
    request = await at_work.request(ACME, "acme-prod")
    assert (await ahead.admit(request)).admitted
    await ahead.settle(
        Account(admission=request, cost_nano_usd=nano_usd, prompt_tokens=1, completion_tokens=1, event=request.event)
    )


@pytest.mark.parametrize("ahead_ms", [31 * DAY_MS, 2 * DAY_MS])
async def test_a_clock_that_was_ahead_for_one_request_is_made_good_from_the_ledger(at_work: LimiterAtWork, ahead_ms: int) -> None:
    """What was spent meanwhile counts now, in the limiter, in every sum, and to the audit."""
    before = (await at_work.spent())[0]
    clock = StoreClock(at_work.store, steady_ms=lambda: START_MS)
    await clock.look()
    at_work.counted_at = clock.counted_at
    await _spend_ahead(at_work, ahead_ms, 10)

    assert await at_work.drifts() == []  # a step back is no drift
    with pytest.raises(LimiterWipedError):
        await at_work.admit(ACME, "acme-prod")
    await at_work.writer.drain()
    assert await at_work.rebuild() == 1

    assert (await at_work.spent())[0] == before + 10
    assert await at_work.drifts() == []
    await assert_no_drift(at_work.database)
    async with at_work.database.read() as connection:
        latest = max((await connection.execute(select(ENTRIES.c.settled_at_ms))).scalars())
        assert latest <= await at_work.now_ms()
        assert max((await connection.execute(select(SPEND_BUCKETS.c.bucket_ms))).scalars()) <= latest
    await at_work.admit(ACME, "acme-prod")


async def test_nothing_is_opened_while_the_clock_is_not_believed(at_work: LimiterAtWork) -> None:
    rebuild = at_work.rebuilding(may_open=lambda: False)
    await rebuild.close_all()
    assert await rebuild.open(await rebuild.closed()) == 0
    assert len(await unmarked_partitions(at_work.store)) == 64
    assert await at_work.rebuild() == 64


async def test_money_that_is_held_by_a_lease_of_the_time_ahead_comes_back(at_work: LimiterAtWork) -> None:
    now = await at_work.now_ms()
    ahead = RedisLimiter(at_work.store, at_work.scripts, now_ms=lambda: now + 31 * DAY_MS)
    await ahead.admit(await at_work.request(ACME, "acme-prod"))
    rebuild = at_work.rebuilding(lease_ms=0)
    await rebuild.close_all()
    await rebuild.open(await rebuild.closed())

    assert await Sweeper(at_work.store, at_work.scripts).step() >= 1
    readings = await at_work.limiter.read_windows("acme", await at_work.demands(ACME, "acme-prod"))
    assert {reading.held_nano_usd for reading in readings} == {0}


async def test_a_late_settlement_counts_when_its_reservation_expired_in_limiter_and_ledger_alike(
    redis_store: RedisConnection, database: Database
) -> None:
    at_work = LimiterAtWork(redis_store, database)
    await mark_all(redis_store, "first")
    finals: list[tuple[AdmissionRequest, int]] = []
    for minutes, final in ((60, 900), (40, 100), (20, 400)):
        past = Clock(await at_work.now_ms() - minutes * MINUTE_MS)
        request = without_month(await at_work.request(ACME, "acme-test", floor_nano_usd=400))
        await RedisLimiter(redis_store, at_work.scripts, now_ms=past).admit(request)
        past.now_ms += 31_000
        await Sweeper(redis_store, at_work.scripts, now_ms=past).step()
        finals.append((request, final))
    for request, final in finals:
        account = Account(admission=request, cost_nano_usd=final, prompt_tokens=1, completion_tokens=1, event=request.event)
        assert (await at_work.limiter.settle(account)).late
    await at_work.writer.drain()
    buckets = (await read_posted(redis_store, at_work.scripts, "acme", finals[0][0].spend[0])).buckets

    assert sorted(buckets.values()) == [100, 400, 900]
    assert [drift for drift in await at_work.drifts() if "month" not in drift.where] == []
    await assert_no_drift(at_work.database)
    await at_work.rebuilding().repair(partition_of("acme"))
    await at_work.rebuild()
    assert await at_work.drifts() == []
    assert (await read_posted(redis_store, at_work.scripts, "acme", finals[0][0].spend[0])).buckets == buckets


def without_month(request: AdmissionRequest) -> AdmissionRequest:
    """Without the limit a month, whose edge may lie in the last hour."""
    return msgspec.structs.replace(request, spend=tuple(demand for demand in request.spend if not demand.periods))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("America/New_York", 1), ("Pacific/Kiritimati", 1)),
        (("Pacific/Kiritimati", 1), ("America/New_York", 1)),
        (("America/New_York", 1), ("America/New_York", 15)),
        (("America/New_York", 31), ("America/New_York", 9)),
    ],
)
async def test_a_changed_time_zone_or_billing_day_has_the_month_rebuilt(
    redis_store: RedisConnection, database: Database, before: tuple[str, int], after: tuple[str, int]
) -> None:
    """What was spent between the beginnings of the two months belongs to the one that begins first alone."""
    at_work = LimiterAtWork(redis_store, database)
    organization = replace(an_organization(limits=(WEEK, MONTH)), time_zone=before[0], billing_day=before[1])
    configured = organization
    rebuild = at_work.rebuilding(organizations=lambda: (configured,))
    await rebuild.open(await rebuild.closed())
    await rebuild.close_where_windows_changed()
    assert await unmarked_partitions(redis_store) == ()
    now = await at_work.now_ms()
    month = next(window for window in windows_of(organization, now) if window.demand.limit is MONTH)
    edges = sorted(_begins(now, calendar) for calendar in (before, after))
    async with database.write() as connection:
        rows = [
            {"org": "acme", "bucket_ms": edges[0] + 3_600_000, "credential": "acme-prod", "posted_nano_usd": 7_000},
            {"org": "acme", "bucket_ms": edges[1], "credential": "acme-prod", "posted_nano_usd": 500},
        ]
        await connection.execute(SPEND_BUCKETS.insert(), rows)
    await rebuild.repair(partition_of("acme"))
    await rebuild.open(await rebuild.closed())
    assert (await read_posted(redis_store, load_scripts(), "acme", month.demand)).spent_nano_usd == (
        7_500 if _begins(now, before) == edges[0] else 500
    )

    configured = replace(organization, time_zone=after[0], billing_day=after[1])
    await rebuild.close_where_windows_changed()
    assert await unmarked_partitions(redis_store) == (partition_of("acme"),)
    await rebuild.open(await rebuild.closed())

    renewed = next(window for window in windows_of(configured, now) if window.demand.limit is MONTH)
    posted = await read_posted(redis_store, load_scripts(), "acme", renewed.demand)
    assert posted.spent_nano_usd == (7_500 if _begins(now, after) == edges[0] else 500)
    assert (await read_window(redis_store, "acme", month.demand.key)).period in renewed.demand.periods
    await rebuild.close_where_windows_changed()
    assert await unmarked_partitions(redis_store) == ()
    restarted = at_work.rebuilding(organizations=lambda: [organization])
    await restarted.close_where_windows_changed()  # other months than the windows have, from the first look on
    assert await unmarked_partitions(redis_store) == (partition_of("acme"),)


def _begins(now_ms: int, calendar: tuple[str, int]) -> int:
    return month_at(now_ms, *calendar).start_ms


class ShiftedStore:
    """A real store whose clock can be set: TIME, and the time that every script goes by."""

    is_cluster = False
    resent = 0

    def __init__(self, store: RedisConnection) -> None:
        self._store = store
        self.ahead_ms = 0

    async def command(self, *parts: bytes) -> Any:
        if parts != (b"TIME",):
            return await self._store.command(*parts)
        seconds, micros = await self._store.command(b"TIME")
        now = int(seconds) * 1000 + int(micros) // 1000 + self.ahead_ms
        return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        seconds, micros = await self.command(b"TIME")
        return await self._store.run_script(script, keys, (b"%d" % (int(seconds) * 1000 + int(micros) // 1000), *args[1:]))

    def nodes(self) -> Sequence[StoreNode]:
        return (StoreNode("shifted", self, ALL_PARTITIONS),)


TEN_USD = SpendLimit(name="spend_7d", limit_nano_usd=10 * 10**9)


class Deployment:
    """Limiter, sweep and everything that a ledger keeps up, over one store, for one organization with $10 a week."""

    def __init__(self, store: ShiftedStore, database: Database, *, first_id: int = 0) -> None:
        self.store, scripts = store, load_scripts()
        self.organization = replace(an_organization(limits=(TEN_USD,)), time_zone="UTC")
        self.limiter = RedisLimiter(store, scripts)
        self.sweeper = Sweeper(store, scripts)
        self.clock = clock = StoreClock(store, steady_ms=lambda: time.monotonic_ns() // 1_000_000)
        rebuild = Rebuild(
            database,
            store,
            scripts,
            organizations=lambda: (self.organization,),
            now_ms=clock.now_ms,
            may_open=lambda: clock.is_believed,
        )
        book, streams = Book(database), EventStreams(store, "one")
        self.audit = LimiterAudit(database, store, scripts, on_ahead=rebuild.repair)
        self.writer = Writer(
            streams,
            book,
            now_ms=clock.now_ms,
            loop_time=lambda: 0.0,
            on_posted_again=rebuild.repair,
            counted_at=clock.counted_at,
        )
        self.upkeep = Upkeep(
            database=database,
            book=book,
            streams=streams,
            writer=self.writer,
            rebuild=rebuild,
            retention=Retention(database),
            refused_requests=RefusedRequests(database),
            digests=Digests(
                database,
                DigestFigures(database, page_url=""),
                organizations=lambda: (self.organization,),
                endpoints=tuple,
            ),
            limiter_audit=self.audit,
            store=store,
            config=ConfigInForce(organizations=lambda: (self.organization,), prices=tuple),
            now_ms=clock.now_ms,
            clock=clock,
            seldom=Seldom(lambda: clock.now_ms() / 1_000),
        )
        self._number = first_id

    async def ask(self, nano_usd: int) -> bool:
        """Whether an exchange that may cost so much is admitted; it costs that."""
        self._number += 1
        now = time.time_ns() // 1_000_000
        window = windows_of(self.organization, now)[0]
        fact = a_fact(self._number, org="acme", credential="acme-prod", started_at_ms=now, cost_nano_usd=nano_usd)
        event = msgspec.json.encode(fact)
        request = AdmissionRequest(
            reservation_id=fact.event_id,
            org="acme",
            rate=(),
            spend=(window.demand,),
            hold_nano_usd=nano_usd,
            hold_min_nano_usd=nano_usd,
            floor_nano_usd=0,
            lease_ms=30_000,
            event=event,
        )
        if not (await self.limiter.admit(request)).admitted:
            return False
        await self.limiter.settle(
            Account(admission=request, cost_nano_usd=nano_usd, prompt_tokens=100, completion_tokens=20, event=event)
        )
        return True

    async def drifts(self) -> list[Any]:
        now = time.time_ns() // 1_000_000
        return [drift async for _, found in self.audit.windows((self.organization,), now) for drift in found]


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("ahead_ms", [31 * DAY_MS, 7 * DAY_MS, 500 * DAY_MS])
async def test_eight_of_ten_dollars_stay_spent_whatever_the_clock_does_for_one_request(
    redis_store: RedisConnection, database: Database, ahead_ms: int, is_noticed: bool
) -> None:
    """is_noticed: by the ledger while it lasts; else the next request is who notices."""
    store = ShiftedStore(redis_store)
    deployment = Deployment(store, database)
    await deployment.upkeep.rebuild()
    assert await deployment.ask(8 * 10**9)
    await deployment.writer.drain()

    store.ahead_ms = ahead_ms
    assert await deployment.ask(10_000_000)
    await deployment.sweeper.step()
    if is_noticed:
        await deployment.upkeep.rebuild()
        with pytest.raises(LimiterWipedError):
            await deployment.ask(1)
    await deployment.writer.drain()
    store.ahead_ms = 0

    assert await deployment.drifts() == []
    with pytest.raises(LimiterWipedError):
        await deployment.ask(1)
    await deployment.upkeep.rebuild()
    assert not await deployment.ask(1_990_000_001)
    assert await deployment.ask(1_990_000_000)
    assert not await deployment.ask(1)
    await deployment.writer.drain()
    await deployment.upkeep.audit()

    assert (deployment.upkeep.drift_nano_usd, deployment.clock.steps) == (0, 2 if is_noticed else 0)
    now = time.time_ns() // 1_000_000
    usage = UsageQuery(scopes=(OrgScope(org="acme"),), from_ms=now - DAY_MS, to_ms=now + DAY_MS)
    assert [row.usage.cost_nano_usd for row in await UsageQueries(database).usage(usage)] == [10 * 10**9]
    await assert_no_drift(database)


async def test_what_was_stored_under_a_clock_ahead_from_the_start_on_is_no_drift(
    redis_store: RedisConnection, database: Database
) -> None:
    """Everything is started while the clock is 31 days ahead, serves one request, and is started again once it is right."""
    store = ShiftedStore(redis_store)
    before = Deployment(store, database)
    await before.upkeep.rebuild()
    assert await before.ask(8 * 10**9)
    await before.writer.drain()

    store.ahead_ms = 31 * DAY_MS
    ahead = Deployment(store, database, first_id=100)
    await ahead.upkeep.rebuild()
    assert await ahead.ask(10_000_000)
    await ahead.writer.drain()
    store.ahead_ms = 0

    after = Deployment(store, database, first_id=200)
    await after.upkeep.rebuild()
    with pytest.raises(LimiterWipedError):
        await after.ask(1)
    await after.upkeep.rebuild()
    assert await after.drifts() == []
    assert not await after.ask(1_990_000_001)
    assert await after.ask(1_990_000_000)
    await after.writer.drain()
    await after.upkeep.audit()
    assert (after.upkeep.drift_nano_usd, await after.ask(1)) == (0, False)

    window = windows_of(after.organization, time.time_ns() // 1_000_000)[0]
    bucket = next(iter((await read_posted(redis_store, load_scripts(), "acme", window.demand)).buckets))
    field = f"{window.demand.key}|{bucket // SPEND_BUCKET_MS}".encode()
    await redis_store.command(b"HINCRBY", org_keys("acme").spend, field, b"10000001")
    assert [drift.nano_usd for drift in await after.drifts()] != []  # more than was stored ahead of now


async def test_a_window_that_was_moved_is_rebuilt_without_a_request(redis_store: RedisConnection, database: Database) -> None:
    """It would be shown with a cent of eight dollars, and count the cent again once that time has really come."""
    store = ShiftedStore(redis_store)
    deployment = Deployment(store, database)
    await deployment.upkeep.rebuild()
    assert await deployment.ask(8 * 10**9)
    store.ahead_ms = 31 * DAY_MS
    assert await deployment.ask(10_000_000)
    store.ahead_ms = 0
    await deployment.writer.drain()

    await deployment.upkeep.audit()
    await deployment.upkeep.rebuild()

    window = windows_of(deployment.organization, time.time_ns() // 1_000_000)[0]
    (reading,) = await deployment.limiter.read_windows("acme", (window.demand,))
    assert (reading.spent_nano_usd, await deployment.drifts(), deployment.clock.steps) == (8_010_000_000, [], 0)


async def looked_at(redis_store: RedisConnection, database: Database) -> tuple[ShiftedStore, Upkeep]:
    """A store whose clock and marks the ledger has looked at once."""
    store = ShiftedStore(redis_store)
    upkeep = Deployment(store, database).upkeep
    await upkeep.look_at_clock()
    await upkeep.look_at_marks()
    return store, upkeep


async def test_the_looks_of_each_tick_close_what_a_set_clock_has_moved_and_open_it_once_it_is_back(
    redis_store: RedisConnection, database: Database
) -> None:
    store, upkeep = await looked_at(redis_store, database)
    assert await unmarked_partitions(redis_store) == ()

    store.ahead_ms = 31 * DAY_MS
    await upkeep.look_at_clock()
    for _ in range(2):
        assert await unmarked_partitions(redis_store) == ALL_PARTITIONS
        await upkeep.look_at_marks()
        await upkeep.look_at_clock()
    store.ahead_ms = 0
    await upkeep.look_at_clock()
    assert await unmarked_partitions(redis_store) == ()


async def test_no_partition_is_opened_by_a_clock_that_was_set_since_the_last_look_at_it(
    redis_store: RedisConnection, database: Database
) -> None:
    store, upkeep = await looked_at(redis_store, database)
    store.ahead_ms = 31 * DAY_MS
    await close_partition(redis_store, 3)
    await upkeep.look_at_marks()
    assert await unmarked_partitions(redis_store) == ALL_PARTITIONS

    store.ahead_ms = 0
    await asyncio.gather(upkeep.look_at_marks(), upkeep.look_at_clock())  # as at a tick
    assert await unmarked_partitions(redis_store) == ()
