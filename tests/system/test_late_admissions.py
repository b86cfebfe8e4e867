"""An admission that the store answers too late is refused to the client and leaves no hold, no charge and no event."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from aiohttp import ClientSession
from fault_proxy import FaultProxy
from gateway_harness import ACME_KEY, LIMITS, Harness, running_gateway
from marked_partitions import mark_all
from stack import events_in, window_in
from valkey_process import ValkeyProcess, running_valkey

from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import org_keys
from tallygate.limiter.local_fallback import FailurePolicy, LocalFallback
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper

DEADLINE_MS = 300
LEASE_MS = 1_500


@dataclass(kw_only=True)
class AtWork:
    """A gateway over a real Valkey that answers after DEADLINE_MS when it is told to, with leases of LEASE_MS."""

    harness: Harness
    proxy: FaultProxy
    store: redis.Redis
    sweeper: Sweeper

    async def ask(self) -> int:
        body = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        url, headers = f"{self.harness.url}/v1/chat/completions", {"Authorization": f"Bearer {ACME_KEY}"}
        async with ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
            return answer.status

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not condition():
                await asyncio.sleep(0.01)

    def holds(self) -> list[bytes]:
        return [text.split(b"\n")[0] for text in self.store.hvals(org_keys("acme").holds)]

    async def assert_no_trace_after_the_lease(self) -> None:
        """What a hold that nobody took back would leave: its input as spend, and an event."""
        seconds, micros = self.store.time()
        until = seconds * 1000 + micros // 1000 + LEASE_MS + 1
        await self.until(lambda: self.store.time()[0] * 1000 + self.store.time()[1] // 1000 > until)
        await self.sweeper.step()
        assert window_in(self.store) == {"spent": 0, "held": 0}
        assert events_in(self.store) == []
        assert not self.harness.ledger.records  # nobody was served


@asynccontextmanager
async def slow_store(directory: Path, server: ValkeyProcess) -> AsyncIterator[AtWork]:
    proxy = FaultProxy(server.port)
    await proxy.start()
    connection = RedisConnection(parse_address(proxy.url), timeout_ms=DEADLINE_MS)
    await connection.open()
    await mark_all(connection, "g")
    options: dict[str, Any] = {
        "limiter": RedisLimiter(connection, load_scripts()),
        "fallback": LocalFallback(FailurePolicy(), lambda: 0),
        "limits": replace(LIMITS, lease_ms=LEASE_MS),
    }
    with server.client() as store:
        async with running_gateway(directory, **options) as harness:
            yield AtWork(harness=harness, proxy=proxy, store=store, sweeper=Sweeper(connection, load_scripts()))
        await connection.close()
    await proxy.stop()


async def test_an_admission_answered_after_the_deadline_leaves_no_trace(
    tmp_path: Path, valkey_server: ValkeyProcess, valkey_url: str
) -> None:
    async with slow_store(tmp_path, valkey_server) as at_work:
        at_work.store.script_load(load_scripts().admit.source)
        at_work.proxy.swallow = True  # the store works, and nobody hears of it
        assert await at_work.ask() == 503
        assert len(at_work.holds()) == 1  # it was admitted all the same
        at_work.proxy.swallow = False
        at_work.proxy.cut()

        await at_work.until(lambda: not at_work.harness.gateway.services.withdrawals.count)
        assert window_in(at_work.store) == {"spent": 0, "held": 0}
        assert at_work.holds() == [b"settled"]
        await at_work.assert_no_trace_after_the_lease()


async def test_a_store_that_was_frozen_takes_no_hold_when_it_goes_on(tmp_path: Path) -> None:
    with running_valkey() as server:
        async with slow_store(tmp_path, server) as at_work:
            at_work.store.script_load(load_scripts().admit.source)
            server.signal(signal.SIGSTOP)
            try:
                for _ in range(3):  # the first is in the store's buffers, and is admitted when it goes on; the others are not sent
                    assert await at_work.ask() == 503
            finally:
                server.signal(signal.SIGCONT)

            await at_work.until(lambda: not at_work.harness.gateway.services.withdrawals.count)
            await at_work.until(lambda: set(at_work.holds()) == {b"settled"})
            await at_work.assert_no_trace_after_the_lease()
