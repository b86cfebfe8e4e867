"""Copies of spooled settlements: kept within bounds, gone with their entries, settled by the ledger where a gateway is lost."""

import asyncio
from typing import Any

import msgspec
import pytest
from ledger_values import assert_no_drift
from limiter_at_work import ORGANIZATIONS, LimiterAtWork
from marked_partitions import mark_all
from msgspec.structs import replace
from sqlalchemy import func, insert, select
from test_jobs import job_of

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.errors import StoreError
from tallygate.domain.job import deferred_account
from tallygate.ledger.database import Database
from tallygate.ledger.entry import FINAL
from tallygate.ledger.schema import ENTRIES, SPOOL_COPIES
from tallygate.ledger.spool_copies import LOOK_EVERY_S, PAGE, SpoolCopies, SpoolHeir
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.sweep import Sweeper

ACME, BETA = ORGANIZATIONS
WAIT_SECONDS = 120


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Site:
    """A ledger that inherits, beside a gateway that copied what it spooled and is lost."""

    def __init__(self, at: LimiterAtWork, database: Database) -> None:
        self.at = at
        self.database = database
        self.clock = Clock()
        self.now_ms = 0
        self.is_behind = False
        self.is_store_away = False
        self.limiter: Any = at.limiter
        self.copies = SpoolCopies(database, gateway="pod-0/worker-0", clock=self.clock)
        self.heir = SpoolHeir(
            database,
            self,  # type: ignore[arg-type]
            check_store=self.check,
            is_behind=lambda: self.is_behind,
            wait_seconds=WAIT_SECONDS,
            now_ms=lambda: self.now_ms,
            clock=self.clock,
        )

    async def check(self) -> None:
        if self.is_store_away:
            raise StoreError("away")

    async def settle(self, account: Account) -> Any:
        return await self.limiter.settle(account)

    async def defer(self, account: Account) -> Any:
        return await self.limiter.defer(account)

    async def spooled(self, admission: AdmissionRequest, nano_usd: int) -> Account:
        """The record of an exchange as its gateway has spooled and copied it."""
        account = Account(
            admission=admission,
            cost_nano_usd=nano_usd,
            prompt_tokens=1,
            completion_tokens=1,
            event=admission.event,
            noted_at_ms=await self.at.now_ms(),
        )
        await self.keep(account)
        return account

    async def keep(self, *accounts: Account) -> None:
        self.now_ms = await self.at.now_ms()
        assert await self.copies.keep(accounts) == 0

    async def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.now_ms += int(seconds * 1000)
        await self.heir.step()

    async def inherit(self) -> None:
        """The gateway stays away for as long as it takes."""
        await self.wait(0)
        await self.wait(WAIT_SECONDS + 1)

    async def left(self) -> list[str]:
        async with self.database.read() as connection:
            return list((await connection.execute(select(SPOOL_COPIES.c.id).order_by(SPOOL_COPIES.c.id))).scalars())

    async def finals(self) -> dict[str, list[tuple[str, int]]]:
        """By event: what it came to in all, under the kind of its final entry."""
        columns = ENTRIES.c
        sums = select(columns.event_id, func.sum(columns.cost_nano_usd)).group_by(columns.event_id)
        kinds = select(columns.event_id, columns.kind).where(columns.kind.in_(sorted(FINAL)))
        async with self.database.read() as connection:
            costs = {row[0]: int(row[1]) for row in await connection.execute(sums)}
            found: dict[str, list[tuple[str, int]]] = {}
            for event_id, kind in await connection.execute(kinds):
                found.setdefault(event_id, []).append((kind, costs[event_id]))
            return found

    async def assert_booked(self, account: Account, kind: str) -> None:
        """Once, everywhere, and the copy is gone."""
        await self.at.writer.drain()
        await self.wait(0)
        assert (await self.finals())[account.admission.reservation_id] == [(kind, account.cost_nano_usd)]
        assert await self.left() == []
        assert await self.at.drifts() == []
        await assert_no_drift(self.database)


@pytest.fixture
async def site(redis_store: RedisConnection, database: Database) -> Site:
    await mark_all(redis_store, "first")
    return Site(LimiterAtWork(redis_store, database), database)


async def test_a_settlement_of_a_lost_gateway_is_settled_once_it_has_had_time_to_come_back(site: Site) -> None:
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.wait(0)
    await site.wait(WAIT_SECONDS - 1)
    assert (site.heir.waiting, site.heir.settled) == (1, 0)
    assert await site.at.spent() == [0] * 12

    await site.wait(2)
    assert site.heir.settled == 1
    assert await site.left() == [account.admission.reservation_id]  # until its entry is in the ledger
    await site.wait(5)
    assert site.heir.settled == 1
    await site.assert_booked(account, "settled")
    assert site.heir.waiting == 0


async def test_a_hold_that_expired_meanwhile_comes_to_what_it_was(site: Site) -> None:
    """It was charged for what can have been generated, and the difference is given back."""
    admission = replace(await site.at.request(ACME, "acme-prod", floor_nano_usd=900), lease_ms=1)
    await site.at.limiter.admit(admission)
    account = await site.spooled(admission, 321)
    sweeper = Sweeper(site.at.store, site.at.scripts)
    async with asyncio.timeout(20):
        while not await sweeper.step():
            await asyncio.sleep(0.01)
    await site.at.writer.drain()
    await site.wait(0)
    assert await site.left() == [admission.reservation_id]

    await site.inherit()
    await site.assert_booked(account, "late")


async def test_what_a_store_that_lost_its_data_knows_nothing_of_is_posted_whole(site: Site) -> None:
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    other = await site.spooled(replace(await site.at.request(BETA, "beta-prod"), spend=()), 5)
    await site.at.store.command(b"FLUSHALL")
    await site.inherit()
    await site.at.writer.drain()
    finals = await site.finals()
    assert account.admission.reservation_id not in finals  # what its partition has spent is not known yet
    assert finals[other.admission.reservation_id] == [("unheld", 5)]

    await site.at.rebuild()
    await site.wait(5)
    await site.assert_booked(account, "unheld")


@pytest.mark.parametrize("is_remembered", [True, False])
async def test_a_gateway_that_has_settled_it_itself_is_not_settled_for_again(site: Site, is_remembered: bool) -> None:
    """While the store remembers, it answers as before; then the ledger knows."""
    limiter = RedisLimiter(site.at.store, site.at.scripts, ended_ms=600_000 if is_remembered else 0)
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await limiter.settle(account)
    if not is_remembered:
        await site.at.writer.drain()
        await Sweeper(site.at.store, site.at.scripts).step()
    await site.inherit()

    assert site.heir.settled == 0
    await site.assert_booked(account, "settled")


async def test_a_gateway_that_comes_back_later_settles_nothing_twice(site: Site) -> None:
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.inherit()
    assert (await site.at.limiter.settle(account)).repeated

    await site.assert_booked(account, "settled")


async def test_while_the_ledger_is_behind_the_store_nothing_is_settled(site: Site) -> None:
    """What the gateway has settled long ago may be in a stream, and forgotten by the store."""
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    site.is_behind = True
    await site.inherit()
    assert site.heir.settled == 0

    site.is_behind = False
    await site.wait(0)
    await site.assert_booked(account, "settled")


async def test_gateways_have_time_anew_when_the_store_was_away_again(site: Site) -> None:
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.wait(0)
    site.is_store_away = True
    with pytest.raises(StoreError):
        await site.wait(WAIT_SECONDS)
    assert site.heir.waiting == 1
    site.is_store_away = False
    await site.wait(0)
    await site.wait(WAIT_SECONDS - 1)
    assert site.heir.settled == 0

    await site.wait(1)
    await site.assert_booked(account, "settled")


async def test_a_settlement_that_a_crashed_store_loses_is_settled_again(site: Site) -> None:
    """The copy outlives the settlement until its entry is in the ledger."""
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.inherit()
    await site.at.store.command(b"FLUSHALL")
    await site.at.rebuild()
    await site.wait(5)

    await site.assert_booked(account, "unheld")
    assert site.heir.settled == 1


def deferred_record(admission: AdmissionRequest, at_ms: int) -> Account:
    job = job_of(admission)
    return replace(deferred_account(job), job=msgspec.json.encode(job), noted_at_ms=at_ms)


async def test_work_that_goes_on_is_deferred_and_its_end_settled(site: Site) -> None:
    admission = await site.at.admit(ACME, "acme-prod")
    await site.keep(deferred_record(admission, await site.at.now_ms()))
    end = await site.spooled(admission, 321)
    assert len(await site.left()) == 2

    await site.inherit()
    await site.assert_booked(end, "settled")


async def test_a_job_that_the_ledger_follows_needs_no_copy(site: Site) -> None:
    await site.keep(deferred_record(await site.at.admit(ACME, "acme-prod"), await site.at.now_ms()))
    await site.inherit()
    await site.at.writer.drain()
    await site.wait(0)

    assert await site.left() == []


async def test_many_are_settled_in_their_order_page_by_page(site: Site) -> None:
    posted: list[int] = []

    class Noting:
        async def settle(self, account: Account) -> Any:
            posted.append(account.cost_nano_usd)
            return await site.at.limiter.settle(account)

    site.limiter = Noting()
    site.now_ms = await site.at.now_ms()
    requests = [await site.at.request(ACME, "acme-prod") for _ in range(PAGE + 3)]
    accounts = [
        Account(admission=one, cost_nano_usd=number, event=one.event, noted_at_ms=site.now_ms - number)
        for number, one in enumerate(requests)
    ]
    await site.keep(*accounts)
    await site.inherit()
    assert posted == list(range(PAGE + 2, -1, -1))

    await site.at.writer.drain()
    await site.wait(0)
    assert await site.left() == []
    assert await site.at.drifts() == []


async def test_one_that_cannot_be_read_keeps_no_other_from_its_turn(
    site: Site, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"id": "odd", "is_deferred": False, "org": "acme", "gateway": "pod-1", "noted_at_ms": 1, "record": b"{"}
    async with database.write() as connection:
        await connection.execute(insert(SPOOL_COPIES).values(**row))
    account = await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.inherit()
    await site.at.writer.drain()
    await site.wait(0)

    assert (await site.finals())[account.admission.reservation_id] == [("settled", 321)]
    assert await site.left() == ["odd"]
    assert "a copy of a spooled settlement cannot be read" in caplog.text


async def test_the_log_names_the_gateways_that_are_lost(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.spooled(await site.at.admit(ACME, "acme-prod"), 321)
    await site.inherit()

    (record,) = [record for record in caplog.records if "settled from their copies" in record.message]
    assert record.fields == {"settlements": 1, "gateways": "pod-0/worker-0"}  # type: ignore[attr-defined]


def records_of(org: str, count: int, *, start: int = 0) -> list[Account]:
    admissions = [
        AdmissionRequest(
            reservation_id=f"{org}-{number}",
            org=org,
            rate=(),
            spend=(),
            hold_nano_usd=1,
            hold_min_nano_usd=1,
            floor_nano_usd=0,
            lease_ms=1_000,
            event=b"{}",
        )
        for number in range(start, start + count)
    ]
    return [Account(admission=admission, cost_nano_usd=1) for admission in admissions]


async def counts(database: Database) -> dict[str, int]:
    columns = SPOOL_COPIES.c
    async with database.read() as connection:
        rows = await connection.execute(select(columns.org, func.count()).group_by(columns.org))
        return {row[0]: row[1] for row in rows}


async def test_an_organization_takes_no_room_from_others(database: Database) -> None:
    """One alone has three quarters of all; a later one still has some, and all together never more than there are."""
    clock = Clock()
    copies, others = (SpoolCopies(database, gateway=name, clock=clock, copies_max=40) for name in ("one", "two"))
    assert await copies.keep(records_of("acme", 100)) == 70
    clock.seconds += LOOK_EVERY_S + 1
    assert await others.keep(records_of("beta", 100)) == 93
    assert await counts(database) == {"acme": 30, "beta": 7}
    assert await copies.keep([*records_of("acme", 5, start=100), *records_of("gamma", 1)]) == 5

    assert await counts(database) == {"acme": 30, "beta": 7, "gamma": 1}


async def test_room_is_found_again_when_copies_are_gone(database: Database) -> None:
    clock = Clock()
    copies = SpoolCopies(database, gateway="one", clock=clock, copies_max=4)
    assert await copies.keep(records_of("acme", 4)) == 1
    async with database.write() as connection:
        await connection.execute(SPOOL_COPIES.delete())
    assert await copies.keep(records_of("acme", 4, start=10)) == 4
    clock.seconds += LOOK_EVERY_S + 1

    assert await copies.keep(records_of("acme", 3, start=20)) == 0


async def test_a_copy_that_is_there_already_stays_as_it_is(database: Database) -> None:
    copies = SpoolCopies(database, gateway="one", clock=Clock())
    for _ in range(2):
        assert await copies.keep(records_of("acme", 3)) == 0

    assert await counts(database) == {"acme": 3}
