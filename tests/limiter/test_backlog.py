"""The bound of what waits for the ledger, in bytes over all partitions, at a real store."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest
from limiter_values import a_request, an_account
from marked_partitions import mark_all
from valkey_process import ValkeyProcess, running_valkey

from tallygate.domain.admission import LEDGER_BACKLOG
from tallygate.limiter import backlog
from tallygate.limiter.address import parse_address
from tallygate.limiter.backlog import read_backlog, watch_backlog
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import partition_keys
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import ScriptStore, Store, StoreNode, load_scripts

pytestmark = pytest.mark.process
EVENT = b"e" * 700
BOUND = 400_000


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    with running_valkey() as started:
        yield started


@pytest.fixture
async def store(server: ValkeyProcess) -> AsyncIterator[RedisConnection]:
    server.client().flushall()
    opened = RedisConnection(parse_address(server.url), timeout_ms=10_000)
    await opened.open()
    yield opened
    await opened.close()


async def add_events(store: RedisConnection, number: int) -> None:
    """Spread over all partitions."""
    await asyncio.gather(*(store.command(b"XADD", partition_keys(one % 64).events, b"*", b"event", EVENT) for one in range(number)))


async def test_the_bound_is_one_for_all_partitions_and_closes_all_and_opens_again(
    store: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(backlog, "LOOK_SOON_SECONDS", 0.01)
    await mark_all(store, "g")
    limiter, changes = RedisLimiter(store, load_scripts()), asyncio.Queue[bool]()

    def changed(is_full: bool) -> None:
        limiter.close_for_backlog(is_full)
        changes.put_nowait(is_full)

    watching = asyncio.create_task(watch_backlog(store, bytes_max=BOUND, on_change=changed))
    first = a_request("r1", 10)
    assert (await limiter.admit(first)).admitted
    await add_events(store, 1_000)  # about 12 in each partition
    assert await asyncio.wait_for(changes.get(), 10) is True

    refused = await limiter.admit(a_request("r2", 10))
    assert refused.refused_by == LEDGER_BACKLOG
    assert not (await limiter.settle(an_account(first, 7))).unheld  # what was admitted is settled

    await asyncio.gather(*(store.command(b"DEL", partition_keys(partition).events) for partition in range(64)))
    assert await asyncio.wait_for(changes.get(), 10) is False
    assert (await limiter.admit(a_request("r3", 10))).admitted
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_what_waits_is_measured_in_bytes_within_a_fifth(store: RedisConnection) -> None:
    assert (await read_backlog(store, bytes_max=BOUND)).waiting_bytes == 0
    await add_events(store, 6_400)
    found = await read_backlog(store, bytes_max=BOUND)
    assert 6_400 * len(EVENT) <= found.waiting_bytes <= 6_400 * len(EVENT) * 6 // 5
    assert found.is_full


async def test_a_store_with_a_bound_of_its_own_has_half_of_it_for_what_waits(store: RedisConnection, server: ValkeyProcess) -> None:
    assert (await read_backlog(store, bytes_max=BOUND)).waiting_max_bytes == BOUND
    server.client().config_set("maxmemory", "600kb")
    try:
        found = await read_backlog(store, bytes_max=BOUND)
    finally:
        server.client().config_set("maxmemory", "0")
    assert found.waiting_max_bytes == 300 * 1024
    assert found.memory_max_bytes == 600 * 1024
    assert found.memory_bytes > 0


async def test_of_several_servers_events_add_up_and_the_oldest_is_the_oldest_of_all() -> None:
    """Room is another matter: it is that of the fullest server."""

    class Server:
        is_cluster = False

        def __init__(self, *waiting: int) -> None:
            self._waiting = list(waiting)

        async def run_script(self, *_call: object) -> list[int]:
            return self._waiting

        async def command(self, *_parts: bytes) -> bytes:
            return b"used_memory:5\r\n"

    servers = [
        StoreNode("a", cast("ScriptStore", Server(3, 70, 900)), (0,)),
        StoreNode("b", cast("ScriptStore", Server(4, 50, 100)), (1,)),
    ]
    store = SimpleNamespace(nodes=lambda: servers, is_cluster=False)

    found = await read_backlog(cast("Store", store), bytes_max=BOUND)

    assert (found.events, found.oldest_ms, found.waiting_bytes) == (7, 70, 900)
