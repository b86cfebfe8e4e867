"""The store forgets a settlement that nobody can repeat, and none that a copy of a call may still come for, however late."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from limiter_values import Clock, a_request, a_spend, an_account
from marked_partitions import mark_all
from msgspec.structs import replace
from recording_metrics import RecordingMetrics
from valkey_process import ValkeyProcess

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.errors import StoreError
from tallygate.gateway.settling import recent
from tallygate.gateway.settling.recent import KEPT_MS
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.spool import Spool
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import org_keys, partition_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

COST = 40
ACME = org_keys("acme")
SPEND = a_spend(10**9)


class Worker:
    """A worker's end of exchanges, behind a network that loses connections. direct: a way to the store that loses nothing."""

    def __init__(self, proxy: FaultProxy, connection: RedisConnection, direct: RedisConnection, spool: Spool) -> None:
        self.proxy = proxy
        self.clock = Clock()
        self.connection = connection
        self.direct = direct
        self.limiter = RedisLimiter(connection, load_scripts(), now_ms=self.clock)
        self.settler = Settler(self.limiter, spool, RecordingMetrics(), finished=no_ledger, now_ms=self.clock)
        self.count = 0

    async def admit(self) -> tuple[AdmissionRequest, Decision]:
        self.count += 1
        request = a_request(f"r{self.count}", 100, spend=(SPEND,), lease_ms=10**9)
        return request, await self.limiter.admit(request)

    async def settle(self, request: AdmissionRequest, decision: Decision) -> None:
        self.clock.now_ms += 1
        await self.settler.settle(replace(an_account(request, COST), admitted_once=decision.sent_once))

    async def forget(self) -> None:
        """All that is older than the settlement of one more exchange."""
        self.clock.now_ms += KEPT_MS
        await self.settle(*await self.admit())
        await self.settler.forget()

    async def remembered(self) -> set[str]:
        """Reservations in the store, which are due as well."""
        ids = set(await self.direct.command(b"HKEYS", ACME.holds))
        assert ids == {member for member in await self.direct.command(b"ZRANGE", ACME.due, b"0", b"-1") if b"|" not in member}
        return {each.decode() for each in ids}

    async def calls(self) -> int:
        """How many scripts the store has run."""
        stats = (await self.direct.command(b"INFO", b"commandstats")).decode().splitlines()
        return sum(
            int(line.split("calls=")[1].split(",")[0]) for line in stats if line.startswith(("cmdstat_evalsha", "cmdstat_eval:"))
        )

    async def sent_again(self, call: Callable[[], object]) -> object:
        """The answer to a call whose first copy is on its way when the connection is lost, and stays there until it is released."""
        held = self.proxy.held
        self.proxy.hold()
        asked = asyncio.ensure_future(call())  # type: ignore[call-overload]
        async with asyncio.timeout(20):
            while self.proxy.held == held:
                await asyncio.sleep(0.001)
            self.proxy.leave_clients()
            return await asked

    async def late_copies_arrive(self, copies: int) -> None:
        before = await self.calls()
        self.proxy.release()
        async with asyncio.timeout(20):
            while await self.calls() < before + copies:
                await asyncio.sleep(0.001)

    async def assert_a_late_copy_changes_nothing(self, request: AdmissionRequest) -> None:
        """Of a call of this second reservation, which is remembered when the third has made all others forgotten."""
        await self.forget()
        assert await self.remembered() == {request.reservation_id, "r3"}

        await self.late_copies_arrive(1)
        await self.assert_counted_once()

    async def assert_counted_once(self) -> None:
        (window,) = await self.limiter.read_windows("acme", (SPEND,))
        assert (window.spent_nano_usd, window.held_nano_usd) == (COST * self.count, 0)
        assert await self.direct.command(b"XLEN", partition_keys(partition_of("acme")).events) == self.count


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "GROUP", 1)


async def no_ledger(_ids: object) -> frozenset[str]:
    return frozenset()


@pytest.fixture
async def worker(valkey_url: str, valkey_server: ValkeyProcess, tmp_path: Path) -> AsyncIterator[Worker]:
    proxy, spool = FaultProxy(valkey_server.port), Spool(tmp_path / "0.spool", bytes_max=10_000_000)
    await proxy.start()
    connections = [RedisConnection(parse_address(url), timeout_ms=10_000) for url in (proxy.url, valkey_url)]
    for connection in connections:
        await connection.open()
    await mark_all(connections[1], "g1")
    found = Worker(proxy, *connections, spool)
    await found.settle(*await found.admit())  # the store knows the scripts: a late copy is one call
    yield found
    for connection in connections:
        await connection.close()
    await proxy.stop()
    spool.close()


async def test_what_nobody_can_repeat_is_forgotten_once_it_is_not_recent_any_more(worker: Worker) -> None:
    for _ in range(3):
        await worker.settle(*await worker.admit())
    await worker.settler.forget()
    assert await worker.remembered() == {"r1", "r2", "r3", "r4"}

    await worker.forget()
    assert await worker.remembered() == {"r5"}
    await worker.assert_counted_once()


async def test_an_admission_that_was_sent_twice_is_remembered_and_its_late_copy_holds_nothing(worker: Worker) -> None:
    request, decision = await worker.sent_again(worker.admit)
    assert decision.admitted
    await worker.settle(request, decision)
    await worker.assert_a_late_copy_changes_nothing(request)


async def test_a_settlement_that_was_sent_twice_is_remembered_and_its_late_copy_changes_nothing(worker: Worker) -> None:
    request, decision = await worker.admit()
    await worker.sent_again(lambda: worker.settle(request, decision))
    await worker.assert_a_late_copy_changes_nothing(request)


async def test_a_settlement_that_went_through_the_spool_is_remembered(worker: Worker) -> None:
    request, decision = await worker.admit()

    async def lost(_account: object) -> None:
        raise StoreError("away")

    settle = worker.limiter.settle
    worker.limiter.settle = lost  # type: ignore[method-assign, assignment]
    await worker.settle(request, decision)
    worker.limiter.settle = settle  # type: ignore[method-assign]
    assert await worker.settler.replay() == 1
    await worker.forget()

    assert await worker.remembered() == {request.reservation_id, "r3"}
    await worker.assert_counted_once()


async def test_a_held_reservation_stays_whoever_says_that_it_was_settled(worker: Worker) -> None:
    """As in a store that has lost the settlement, which its worker has not heard of yet."""
    request, _ = await worker.admit()
    await worker.limiter.forget([("acme", [request.reservation_id, "r1", "nobody"]), ("globex", ["r1"])])

    assert await worker.remembered() == {request.reservation_id}


async def test_a_store_that_is_away_forgets_when_the_time_of_an_answer_is_over(worker: Worker) -> None:
    await worker.settle(*await worker.admit())
    worker.clock.now_ms += KEPT_MS
    await worker.settle(*await worker.admit())
    worker.proxy.refuse = True
    worker.proxy.cut()
    with pytest.raises(StoreError):
        await worker.settler.forget()
    await worker.settler.forget()  # there is nothing left to tell

    assert await worker.remembered() == {"r1", "r2", "r3"}


@pytest.mark.parametrize("seed", range(4))
async def test_over_a_network_that_loses_and_delays_at_random_everything_counts_once(worker: Worker, seed: int) -> None:
    chosen, copies, forgotten = random.Random(seed), 0, 0
    for _ in range(60):
        open_ones = [await worker.admit()]
        for call in (worker.admit, *([worker.admit] * chosen.randrange(3))):
            fault = chosen.random()
            if fault < 0.2:
                open_ones.append(await worker.sent_again(call))  # type: ignore[arg-type]
                copies += 1
            else:
                worker.proxy.drop_replies = int(fault < 0.4)
                open_ones.append(await call())
        for one in chosen.sample(open_ones, len(open_ones)):
            fault = chosen.random()
            if fault < 0.2:
                await worker.sent_again(lambda one=one: worker.settle(*one))  # type: ignore[misc]
                copies += 1
            else:
                worker.proxy.drop_replies = int(fault < 0.4)
                await worker.settle(*one)
        worker.proxy.drop_replies = 0
        before = len(await worker.remembered())
        await worker.forget()
        forgotten += max(0, before - len(await worker.remembered()))
        if chosen.random() < 0.2:
            await worker.late_copies_arrive(copies)
            copies = 0
    await worker.late_copies_arrive(copies)
    await worker.assert_counted_once()
    assert forgotten > 20
