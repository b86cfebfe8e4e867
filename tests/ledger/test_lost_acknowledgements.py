"""Settlements that the store acknowledged and lost, before a ledger had them, are settled again: everywhere once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from fault_proxy import FaultProxy
from ledger_values import a_fact, assert_no_drift
from new_ledger import new_ledger
from recording_metrics import RecordingMetrics
from sqlalchemy import select
from valkey_process import ValkeyProcess

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.settling import recent
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.spool import Spool
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.book import Book, finished_events
from tallygate.ledger.database import Database
from tallygate.ledger.entry import FINAL
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.limiter_windows import windows_of
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.schema import ENTRIES
from tallygate.ledger.writer import Writer
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.fence import Fence
from tallygate.limiter.keys import org_keys
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

PATIENCE_SECONDS = 60
EACH = 20  # exchanges of each kind
KEPT = 2 * EACH  # by the worker, of those that the store acknowledged: what the crash takes
ORG = Organization(
    id="acme",
    name="Acme",
    plan=Plan(id="plan", api_access=True, spend_limits=(SpendLimit(name="spend_7d", limit_nano_usd=10**12),)),
    time_zone="UTC",
    credentials=(Credential(id="acme-prod", org="acme", key_sha256=bytes(32)),),
)
FinalWords = Callable[[Sequence[str]], Awaitable[frozenset[str]]]


class Site:
    """A worker's end of exchanges and a ledger, each with its own connection to the store."""

    def __init__(self, url: str, database: Database, spool: Spool) -> None:
        scripts = load_scripts()
        fences = Fence(scripts.fence), Fence(scripts.fence)
        self.database = database
        self.store, self.link = (
            RedisConnection(parse_address(url), timeout_ms=10_000, on_run=fence.check_run_id) for fence in fences
        )
        self.spool = spool
        self.limiter = RedisLimiter(self.store, scripts)
        self.look_up: FinalWords = partial(finished_events, database)
        self.settler = Settler(
            self.limiter,
            spool,
            RecordingMetrics(),
            finished=self.finished,
            now_ms=self.now_ms,
            store_run=lambda: fences[0].run_id,
        )
        self.clock_ms = 0
        self.rebuild = Rebuild(database, self.link, scripts, organizations=lambda: (ORG,), now_ms=self.now_ms)
        self.writer = Writer(
            EventStreams(self.link, "one"),
            Book(database),
            now_ms=self.now_ms,
            loop_time=lambda: 0.0,
            on_posted_again=self.rebuild.repair,
        )
        self.audit = LimiterAudit(database, self.link, scripts)
        self.number = 0
        self.costs: dict[str, int] = {}  # our own count, by event
        self.admitted_once: dict[str, bool] = {}

    async def finished(self, event_ids: Sequence[str]) -> frozenset[str]:
        return await self.look_up(event_ids)

    def now_ms(self) -> int:
        return self.clock_ms

    async def open(self) -> None:
        for connection in (self.store, self.link):
            await connection.open()
        await self.look_at_the_clock()
        await self.open_partitions()

    async def look_at_the_clock(self) -> None:
        seconds, micros = await self.link.command(b"TIME")
        self.clock_ms = int(seconds) * 1000 + int(micros) // 1000

    async def admit(self, count: int) -> list[AdmissionRequest]:
        demands = tuple(window.demand for window in windows_of(ORG, self.clock_ms))
        admissions = []
        for _ in range(count):
            self.number += 1
            fact = a_fact(self.number, started_at_ms=self.clock_ms, cost_nano_usd=self.number)
            admissions.append(
                AdmissionRequest(
                    reservation_id=fact.event_id,
                    org=ORG.id,
                    rate=(),
                    spend=demands,
                    hold_nano_usd=1_000,
                    hold_min_nano_usd=1_000,
                    floor_nano_usd=0,
                    lease_ms=3_600_000,
                    event=msgspec.json.encode(fact),
                )
            )
            self.costs[fact.event_id] = self.number
        decisions = await asyncio.gather(*map(self.limiter.admit, admissions))
        assert all(decision.admitted for decision in decisions)
        self.admitted_once |= {decision.reservation_id: decision.sent_once for decision in decisions}
        return admissions

    async def settle(self, admissions: Sequence[AdmissionRequest]) -> None:
        """All at once; each is acknowledged by the store, which then forgets what the worker keeps no longer."""
        accounts = [
            Account(
                admission=one,
                cost_nano_usd=self.costs[one.reservation_id],
                prompt_tokens=1,
                completion_tokens=1,
                event=one.event,
                admitted_once=self.admitted_once[one.reservation_id],
            )
            for one in admissions
        ]
        ends = [self.settler.settle(account) for account in accounts]
        assert all(await asyncio.gather(*ends))
        await self.settler.forget()

    async def remembered(self) -> int:
        return int(await self.link.command(b"HLEN", org_keys(ORG.id).holds))

    async def connected_again(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for connection in (self.store, self.link):
                while not await answers(connection):
                    await asyncio.sleep(0.01)
        await self.look_at_the_clock()

    async def open_partitions(self) -> None:
        """As the ledger does it, until there is nothing more to do."""
        await self.writer.drain()
        while await self.rebuild.open(await self.rebuild.closed()):
            await self.writer.drain()

    async def at_rest(self) -> None:
        """The worker's replay and the ledger's upkeep take turns until neither has anything to do."""
        for _ in range(10):
            await self.settler.replay()
            await self.settler.forget()
            await self.open_partitions()
            if self.spool.is_empty and not await self.writer.step():
                return
        raise AssertionError("never at rest")

    async def close(self) -> None:
        for connection in (self.store, self.link):
            await connection.close()

    async def assert_everything_counts_once(self) -> None:
        columns = ENTRIES.c
        statement = select(columns.event_id, columns.posted_nano_usd).where(columns.kind.in_(sorted(FINAL)))
        async with self.database.read() as connection:
            finals = [(event, posted) for event, posted in await connection.execute(statement)]
        assert sorted(finals) == sorted(self.costs.items())
        (window,) = windows_of(ORG, self.clock_ms)
        (reading,) = await self.limiter.read_windows(ORG.id, [window.demand])
        assert reading.spent_nano_usd == sum(self.costs.values())
        assert [drift async for _, found in self.audit.windows((ORG,), self.clock_ms) for drift in found] == []
        await assert_no_drift(self.database)


async def answers(connection: RedisConnection) -> bool:
    try:
        return bool(await connection.command(b"PING"))
    except StoreError:
        return False


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "KEPT_MAX", KEPT)
    monkeypatch.setattr(recent, "GROUP", 1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """One that keeps what it was told across restarts."""
    process = ValkeyProcess(tmp_path, append_only=True)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await new_ledger(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "worker-0.spool", bytes_max=10_000_000)
    yield opened
    opened.close()


def append_only_file(server: ValkeyProcess) -> Path:
    (newest,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return newest


async def crash_with_what_was_synced(site: Site, server: ValkeyProcess, *, ledger_had_some: bool) -> None:
    """Settled and stored; settled; admitted; that is synced. What these came to, and whole exchanges, are not."""
    for _ in range(2):
        await site.settle(await site.admit(EACH))
    await site.writer.drain()
    await site.settle(await site.admit(EACH))
    held = await site.admit(EACH)
    synced = append_only_file(server).stat().st_size
    await site.settle(held)
    assert await site.remembered() == KEPT  # the crash brings back what was forgotten since
    if ledger_had_some:
        await site.writer.drain()
    await site.settle(await site.admit(EACH))
    server.kill()
    with append_only_file(server).open("r+b") as file:
        file.truncate(synced)
    await asyncio.to_thread(server.start)
    await site.connected_again()


async def no_final_word(_event_ids: Sequence[str]) -> frozenset[str]:
    """Of a ledger whose transaction is not committed yet."""
    return frozenset()


@pytest.mark.parametrize("ledger_had_some", [False, True])
@pytest.mark.parametrize("first", ["worker", "ledger", "between look-up and settlement", "after a look-up that was too early"])
async def test_what_a_crashed_store_lost_is_settled_again_and_nothing_counts_twice(
    server: ValkeyProcess, database: Database, spool: Spool, first: str, ledger_had_some: bool
) -> None:
    site = Site(server.url, database, spool)
    await site.open()
    await crash_with_what_was_synced(site, server, ledger_had_some=ledger_had_some)

    if first == "ledger":
        await site.open_partitions()
    elif first == "between look-up and settlement":

        async def slow_answer(event_ids: Sequence[str]) -> frozenset[str]:
            found = await finished_events(database, event_ids)
            await site.open_partitions()
            return found

        site.look_up = slow_answer
    elif first == "after a look-up that was too early":
        await site.open_partitions()
        site.look_up = no_final_word

    await site.at_rest()
    await site.assert_everything_counts_once()
    await site.close()


async def test_what_a_promoted_replica_never_heard_of_is_settled_again(
    server: ValkeyProcess, database: Database, spool: Spool, tmp_path: Path
) -> None:
    (tmp_path / "replica").mkdir()
    replica = ValkeyProcess(tmp_path / "replica", append_only=True, extra=("--replicaof", f"127.0.0.1 {server.port}"))
    with server.client() as primary:
        primary.config_set("repl-diskless-sync-delay", 0)
    replica.start()
    way = FaultProxy(server.port)
    await way.start()
    site = Site(way.url, database, spool)
    await site.open()
    await site.settle(await site.admit(EACH))
    await site.writer.drain()
    await site.settle(await site.admit(EACH))
    held = await site.admit(EACH)
    with server.client() as primary, replica.client() as behind:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while primary.info("replication")["master_repl_offset"] != behind.info("replication")["slave_repl_offset"]:
                await asyncio.sleep(0.01)
        behind.replicaof("NO", "ONE")
    await site.settle(held)
    await site.settle(await site.admit(EACH))

    way.lead_to(replica.port)
    way.cut()
    server.kill()
    await site.connected_again()
    await site.at_rest()
    await site.assert_everything_counts_once()
    await site.close()
    await way.stop()
    replica.kill()


async def test_a_store_that_lost_everything_and_crashes_again_has_every_settlement_once(
    server: ValkeyProcess, database: Database, spool: Spool
) -> None:
    site = Site(server.url, database, spool)
    await site.open()
    await site.settle(await site.admit(EACH))
    for _ in range(2):
        server.kill()
        append_only_file(server).write_bytes(b"")
        await asyncio.to_thread(server.start)
        await site.connected_again()
        await site.open_partitions()
        await site.settler.replay()  # and the ledger is not quick enough to take what was settled again
        assert spool.is_empty

    await site.at_rest()
    await site.assert_everything_counts_once()
    await site.close()
