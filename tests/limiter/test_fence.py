"""A store that was restarted is closed for spending by the first connection to it, before anything is admitted there."""

import asyncio
import logging
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from limiter_values import a_rate, a_request
from marked_partitions import mark_all
from valkey_process import ValkeyProcess

from tallygate.domain.admission import Decision
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.fence import Fence
from tallygate.limiter.generation import is_unused, mark_partition, partition_runs, read_generation, unmarked_partitions
from tallygate.limiter.keys import PARTITIONS, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

ACME = partition_of("acme")


@pytest.fixture
def server(tmp_path: Path):
    """One that keeps what it was told across restarts."""
    process = ValkeyProcess(tmp_path, append_only=True)
    process.start()
    yield process
    process.kill()


async def a_connection(url: str) -> RedisConnection:
    opened = RedisConnection(parse_address(url), timeout_ms=5_000, on_run=Fence(load_scripts().fence).check_run_id)
    await opened.open()
    return opened


async def first_answer(limiter: RedisLimiter, name: str) -> Decision | LimiterWipedError:
    """Of the store, once it answers: an admission is tried again under the same id."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await limiter.admit(a_request(name, 10))
            except LimiterWipedError as wiped:
                return wiped
            except StoreError:
                await asyncio.sleep(0)


async def test_nothing_is_admitted_by_a_restarted_store_before_it_is_rebuilt(server: ValkeyProcess) -> None:
    connections = [await a_connection(server.url) for _ in range(3)]
    limiters = [RedisLimiter(connection, load_scripts()) for connection in connections]
    await mark_all(connections[0], (await partition_runs(connections[0]))[0])
    assert (await limiters[0].admit(a_request("before", 10))).admitted

    server.kill()
    asking = [asyncio.ensure_future(first_answer(limiter, f"r{i}")) for i, limiter in enumerate(limiters)]
    await asyncio.to_thread(server.start)
    assert [type(answer) for answer in await asyncio.gather(*asking)] == [LimiterWipedError] * 3
    assert await read_generation(connections[0], ACME) is None
    assert (await limiters[0].admit(a_request("rates", 0, spend=(), rate=(a_rate(),)))).admitted

    await mark_partition(connections[0], ACME, (await partition_runs(connections[0]))[0])
    assert (await limiters[0].admit(a_request("after", 10))).admitted
    late = await a_connection(server.url)  # a worker that comes to it last does not close it again
    assert (await RedisLimiter(late, load_scripts()).admit(a_request("late", 10))).admitted
    for connection in (*connections, late):
        await connection.close()


async def test_a_process_that_starts_beside_a_restarted_store_closes_it_too(server: ValkeyProcess) -> None:
    before = await a_connection(server.url)
    await mark_all(before, (await partition_runs(before))[0])
    await before.close()
    server.kill()
    server.start()
    started = await a_connection(server.url)
    assert len(await unmarked_partitions(started)) == PARTITIONS
    assert not await is_unused(started)  # and is not taken for a first start
    await started.close()


async def test_a_connection_that_breaks_closes_nothing(valkey_server: ValkeyProcess, valkey_url: str) -> None:
    proxy = FaultProxy(valkey_server.port)
    await proxy.start()
    through = await a_connection(proxy.url)
    await mark_all(through, (await partition_runs(through))[0])
    limiter = RedisLimiter(through, load_scripts())
    for name in ("r1", "r2"):
        proxy.cut()
        assert (await limiter.admit(a_request(name, 10))).admitted
    assert await unmarked_partitions(through) == ()
    assert proxy.connections == 3
    await through.close()
    await proxy.stop()


async def test_a_fence_looks_at_each_run_once_and_tells_what_it_closed(
    connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await mark_all(connection, "another run")
    calls: list[tuple[bytes, ...]] = []

    async def command(*parts: bytes) -> object:
        calls.append(parts)
        return await connection.command(*parts)

    fence, info = Fence(load_scripts().fence), await connection.command(b"INFO", b"server")
    assert await fence.check_run_id(command, info)
    assert not await fence.check_run_id(command, info)
    assert len(calls) == PARTITIONS
    assert caplog.text.count("closed for spending") == 1
    assert caplog.records[0].levelname == "INFO", "at the process's own start"
    await mark_all(connection, "another run")
    assert await fence.check_run_id(command, info.replace(info.partition(b"run_id:")[2][:40], b"0" * 40))
    assert caplog.records[-1].levelname == "WARNING"


async def test_a_store_that_tells_no_run_is_trusted(connection: RedisConnection) -> None:
    await mark_all(connection, "g1")
    await Fence(load_scripts().fence).check_run_id(connection.command, b"redis_version:7.0.0\r\n")
    assert await unmarked_partitions(connection) == ()


async def test_a_store_is_unused_until_it_is_marked(connection: RedisConnection) -> None:
    assert await is_unused(connection)
    await mark_partition(connection, 63, "g")
    assert not await is_unused(connection)
