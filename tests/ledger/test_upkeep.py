"""The ledger's upkeep: the work of each time is bounded, however many organizations."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import pytest
from ledger_values import START_MS, an_entry
from limiter_at_work import ORGANIZATIONS, WEEK, LimiterAtWork, an_organization
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.audit import Drift
from tallygate.ledger.audit_turns import AuditTurns
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.limiter_windows import LimiterWindow, windows_of
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.retention import Retention
from tallygate.ledger.schema import SPEND_BUCKETS
from tallygate.ledger.store_clock import StoreClock
from tallygate.ledger.upkeep import ConfigInForce, Upkeep, sweep_forever
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import close_partition
from tallygate.limiter.keys import ALL_PARTITIONS, partition_of
from tallygate.limiter.link import Link
from tallygate.limiter.script import ScriptStore, StoreNode, load_scripts
from tallygate.shares.seldom import Seldom

DAY_MS = 86_400_000
PLAN = Plan(id="paid", spend_limits=(SpendLimit(name="spend_7d", limit_nano_usd=10**12),), history_days=30)
MANY = tuple(Organization(id=f"org-{number:04d}", name="", plan=PLAN) for number in range(1_200))


class DriftingAudit:
    """off: organizations whose windows differ, by how much."""

    def __init__(self) -> None:
        self.off: dict[str, int] = {}
        self.looked_at: list[str] = []

    async def windows(self, organizations: Sequence[Organization], now_ms: int) -> AsyncIterator[tuple[LimiterWindow, list[Drift]]]:
        self.looked_at = [organization.id for organization in organizations]
        for organization in organizations:
            for window in windows_of(organization, now_ms):
                off = self.off.get(organization.id, 0)
                drift = Drift(what="limiter", where=organization.id, amount="posted_nano_usd", expected=0, found=off)
                yield window, [drift] if off else []


def an_upkeep(database: Database, store: Any = None, **parts: Any) -> Upkeep:
    unused = cast("Any", None)
    return Upkeep(
        database=database,
        book=parts.get("book", unused),
        streams=unused,
        writer=parts.get("writer", unused),
        rebuild=parts.get("rebuild", unused),
        retention=unused,
        refused_requests=unused,
        digests=parts.get("digests", unused),
        limiter_audit=parts.get("limiter_audit", unused),
        store=cast("ScriptStore", store),
        config=ConfigInForce(organizations=lambda: parts.get("organizations", MANY), prices=tuple),
        now_ms=parts.get("now_ms", lambda: START_MS),
        clock=parts.get("clock") or StoreClock(cast("ScriptStore", store), steady_ms=lambda: START_MS),
        seldom=Seldom(parts.get("seconds", lambda: 0.0)),
    )


async def spend(database: Database, orgs: Sequence[str], at_ms: int) -> None:
    rows = [{"org": org, "bucket_ms": at_ms, "credential": "c", "posted_nano_usd": 1} for org in orgs]
    async with database.write() as connection:
        await connection.execute(insert(SPEND_BUCKETS), rows)


async def test_what_waits_for_a_store_says_so_once_a_minute_however_often_it_is_tried(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        is_cluster = False

        async def command(self, *_words: bytes) -> Any:
            raise StoreError("away")

        def nodes(self) -> Sequence[StoreNode]:
            return (StoreNode("away", cast("ScriptStore", self), ALL_PARTITIONS),)

    seconds = 0.0
    away: Any = Away()
    rebuild = Rebuild(database, away, load_scripts(), organizations=tuple, now_ms=lambda: START_MS)
    upkeep = an_upkeep(database, away, rebuild=rebuild, seconds=lambda: seconds)
    for _ in range(600):
        await upkeep._attempted("rebuild", upkeep.rebuild)
        seconds += 0.2
    assert [record.message for record in caplog.records] == ["the ledger's upkeep waits"] * 2


async def test_few_windows_are_all_compared_each_time(database: Database) -> None:
    assert await AuditTurns(database).next(MANY[:250], START_MS, differing=()) == list(MANY[:250])


async def test_of_many_windows_each_has_its_turn_and_those_in_use_have_it_each_time(database: Database) -> None:
    active = {"org-0007", "org-1199"}
    await spend(database, sorted(active), START_MS - 600_000)
    await spend(database, ["org-0100"], START_MS - 3_600_000)
    turns, seen, times = AuditTurns(database), set[str](), 0
    while len(seen) < len(MANY):
        chosen = [organization.id for organization in await turns.next(MANY, START_MS, differing={"org-0500"})]
        assert len(chosen) == len(set(chosen)) <= 250
        assert active | {"org-0500"} <= set(chosen)
        seen.update(chosen)
        times += 1

    assert times == 10  # 125 at a time


async def test_more_in_use_than_can_be_compared_take_turns_among_themselves(database: Database) -> None:
    await spend(database, [organization.id for organization in MANY[:300]], START_MS)
    turns = AuditTurns(database)
    first, second, third = [{found.id for found in (await turns.next(MANY, START_MS, differing=()))} for _ in range(3)]

    assert {organization.id for organization in MANY[:300]} <= first | second | third


async def test_a_window_found_to_differ_is_told_until_it_is_seen_healed(database: Database) -> None:
    audit = DriftingAudit()
    audit.off = {"org-0003": 70, "org-0200": 5}
    upkeep = an_upkeep(database, limiter_audit=audit)
    assert upkeep.drift_nano_usd is None
    await upkeep.audit()
    assert upkeep.drift_nano_usd == 70
    await upkeep.audit()
    assert upkeep.drift_nano_usd == 75
    audit.off = {"org-0200": 5}
    await upkeep.audit()

    assert "org-0003" in audit.looked_at
    assert upkeep.drift_nano_usd == 5


async def test_only_organizations_with_something_old_are_purged(
    database: Database, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    await book.record(
        [an_entry(1, org="org-0005", settled_at_ms=START_MS), an_entry(2, org="org-0006", settled_at_ms=START_MS + 60 * DAY_MS)]
    )
    await book.fold()
    await spend(database, ["org-0900"], START_MS - 60 * DAY_MS)
    writes = 0
    write = Database.write

    @asynccontextmanager
    async def counted(self: Database) -> AsyncIterator[AsyncConnection]:
        nonlocal writes
        writes += 1
        async with write(self) as connection:
            yield connection

    monkeypatch.setattr(Database, "write", counted)
    removed = await Retention(database, pause_seconds=0).purge(MANY, START_MS + 60 * DAY_MS)

    assert removed == 15  # an entry, its 3 + 4 + 2 + 4 rows of rollups, and the spend of org-0900
    assert writes <= 20
    writes = 0
    assert await Retention(database, pause_seconds=0).purge(MANY, START_MS + 60 * DAY_MS) == 0
    assert writes == 0


async def test_digests_are_made_by_the_earlier_clock_and_while_it_is_believed(database: Database) -> None:
    class Clock:
        is_believed = True

        def now_ms(self) -> int:
            return START_MS - 5

    class Made(list[int]):
        async def make_due(self, now_ms: int, *, lacks_usage: bool) -> int:
            self.append(now_ms)
            assert lacks_usage
            return 0

    class BehindWriter:
        is_behind = True

    clock, made = Clock(), Made()
    upkeep = an_upkeep(database, clock=clock, digests=made, writer=BehindWriter())
    await upkeep.make_digests()
    clock.is_believed = False
    await upkeep.make_digests()
    assert made == [START_MS - 5]


async def test_while_a_partition_is_closed_the_writer_lets_nothing_wait(database: Database) -> None:
    class Clock:
        async def look(self) -> bool:
            return False

    class ClosedRebuild:
        waits_for_writer = True

        async def closed(self) -> Sequence[int]:
            return (3,)

        async def open(self, closed: Sequence[int]) -> int:
            assert closed == (3,)
            return 0

    class Writer:
        hurries = 0

        def hurry(self) -> None:
            self.hurries += 1

    rebuild, writer = ClosedRebuild(), Writer()
    upkeep = an_upkeep(database, clock=Clock(), rebuild=rebuild, writer=writer)
    await upkeep.rebuild()
    rebuild.waits_for_writer = False
    await upkeep.rebuild()
    assert writer.hurries == 1


async def test_what_the_looks_of_a_tick_ask_is_one_write_with_what_others_ask_then(
    database: Database, redis_store: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is closed: to wake for each answer would cost as much as everything else at rest."""
    rebuild = Rebuild(database, redis_store, load_scripts(), organizations=tuple, now_ms=lambda: START_MS)
    upkeep = an_upkeep(database, redis_store, rebuild=rebuild)
    await upkeep.rebuild()
    writes: list[int] = []
    flush = Link._flush
    monkeypatch.setattr(Link, "_flush", lambda link: (writes.append(len(link._pending_writes)), flush(link))[1])
    await asyncio.gather(redis_store.command(b"PING"), upkeep.look_at_clock(), upkeep.look_at_marks())
    assert writes == [3]


async def test_a_rebuild_waits_for_the_writer_while_a_closed_partition_has_events(at_work: LimiterAtWork) -> None:
    rebuild = at_work.rebuilding()
    await rebuild.open(await rebuild.closed())
    assert not rebuild.waits_for_writer
    await at_work.spend(ORGANIZATIONS[0], "acme-prod", 11)
    await close_partition(at_work.store, partition_of("acme"))
    await rebuild.open(await rebuild.closed())
    assert rebuild.waits_for_writer
    await at_work.writer.drain()
    await rebuild.open(await rebuild.closed())
    assert not rebuild.waits_for_writer


async def test_what_is_closed_for_a_new_limit_is_open_again_at_once(redis_store: RedisConnection, database: Database) -> None:
    at_work = LimiterAtWork(redis_store, database)
    organizations = (an_organization(limits=()),)
    rebuild = at_work.rebuilding(organizations=lambda: organizations)
    await rebuild.open(await rebuild.closed())
    clock = MagicMock(look=AsyncMock(return_value=False))
    upkeep = an_upkeep(at_work.database, at_work.store, rebuild=rebuild, clock=clock, writer=at_work.writer)
    await upkeep.look_at_windows()
    await at_work.spend(organizations[0], "acme-prod", 500)
    await at_work.writer.drain()
    organizations = (an_organization(limits=(WEEK,)),)
    await upkeep.look_at_windows()
    assert await rebuild.closed() == ()
    (window,) = windows_of(organizations[0], await at_work.now_ms())
    [reading] = await at_work.limiter.read_windows("acme", [window.demand])
    assert reading.spent_nano_usd == 500


async def test_rollups_are_folded_now_and_then(database: Database) -> None:
    book, folded = AsyncMock(), asyncio.Event()
    book.fold.side_effect = folded.set
    writer, clock = MagicMock(write_forever=AsyncMock()), MagicMock(look=AsyncMock(return_value=False), is_believed=False)
    unchanged = AsyncMock(return_value=False)
    rebuild = MagicMock(step=AsyncMock(), close_where_windows_changed=unchanged, continuity=MagicMock(compare=AsyncMock()))
    upkeep = an_upkeep(database, book=book, writer=writer, rebuild=rebuild, clock=clock)
    keeping = asyncio.create_task(upkeep.keep_forever())
    await asyncio.wait_for(folded.wait(), 30)
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_store_that_is_away_is_told_of_once_by_the_sweep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tallygate.ledger.upkeep.tick", lambda _: asyncio.sleep(0))
    answers: list[int | StoreError] = [StoreError("away")] * 5 + [0, StoreError("away")]

    async def sweep() -> int:
        if not answers:
            raise asyncio.CancelledError
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    with pytest.raises(asyncio.CancelledError):
        await sweep_forever(sweep, Seldom(lambda: 0.0))
    assert [record.getMessage() for record in caplog.records] == ["no sweep of expired holds"] * 2
