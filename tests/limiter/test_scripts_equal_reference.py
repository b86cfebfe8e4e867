"""The judge: on random histories the Lua scripts and the Python reference agree in every answer and in all state."""

import os

import pytest
from fakeredis import FakeAsyncRedis
from limiter_values import Clock
from marked_partitions import mark_all
from search import cases
from snapshot import events_of_redis, events_of_reference, snapshot_of_redis, snapshot_of_reference
from trace_driver import CLOSED, ORGS, TraceDriver

from bench.redis_py_scripts import RedisPyScripts
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import LEASE_MAX_MS, reanchor_org, restore_window
from tallygate.limiter.keys import org_keys, partition_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.script import ScriptStore, load_scripts
from tallygate.limiter.wire import encode_sweep

STEPS = int(os.environ.get("TALLYGATE_TRACE_STEPS", "5000"))
SEED = int(os.environ.get("TALLYGATE_TRACE_SEED", "1"))
pytestmark = pytest.mark.search
EXPIRED_MS = 3_600_000  # shorter than the product's, so that a trace also sees it end
STATE_EVERY = 7 if STEPS <= 100_000 else 71  # steps between two comparisons of all state


async def follow(store: ScriptStore, *, steps: int, seed: int) -> int:
    clock, scripts = Clock(), load_scripts()
    reference = ReferenceLimiter(clock, expired_ms=EXPIRED_MS)
    limiter = RedisLimiter(store, scripts, now_ms=clock, expired_ms=EXPIRED_MS)
    await mark_all(store, "g1")

    async def sweep(org: str, most: int) -> list[list[int]]:
        args = (b"%d" % clock(), encode_sweep([org], most, EXPIRED_MS))
        handled, expired, _looked_at = await store.run_script(scripts.expire, org_keys(org).all, args)
        return [list(reference.sweep(org, most)), [handled, expired]]

    closings = 0
    driver = TraceDriver(seed, clock, (reference, limiter), sweep)
    for step in range(steps):
        said, (expected, found) = await driver.step()
        where = f"seed {seed} step {step} at {clock()}: {said}"
        assert found == expected, where
        if found == CLOSED:
            for org in ORGS:
                for window in driver.windows(org):
                    posted = driver.postings()
                    spent = await restore_window(store, scripts, org, window, posted, now_ms=clock())
                    assert spent == reference.restore(org, window, posted), where
                moved = await reanchor_org(store, scripts, org, lease_ms=7_000, now_ms=clock(), memory_ms=EXPIRED_MS)
                assert moved == reference.reanchor(org, 7_000, LEASE_MAX_MS), where
                assert await snapshot_of_redis(store, org) == snapshot_of_reference(reference, org), where
            await mark_all(store, "g1")
            reference.wiped_partitions.clear()
            closings += 1
        if step % STATE_EVERY == 0:
            assert await snapshot_of_redis(store, driver.touched) == snapshot_of_reference(reference, driver.touched), where
        if step % 500 == 499:
            for org in ORGS:
                assert await events_of_redis(store, org) == events_of_reference(reference, org), where
                await store.command(b"DEL", partition_keys(partition_of(org)).events)
                reference.events[partition_of(org)].clear()
    return closings


@pytest.mark.timeout(3600)
async def test_scripts_in_valkey_equal_the_reference_on_a_random_history(valkey_unix_url: str) -> None:
    connection = RedisConnection(parse_address(valkey_unix_url), timeout_ms=10_000)
    await connection.open()
    try:
        assert await follow(connection, steps=STEPS, seed=SEED) > STEPS // 2_000  # clocks that were ahead, and put right
    finally:
        await connection.close()


@pytest.mark.timeout(600)
async def test_scripts_in_fakeredis_equal_the_reference_on_a_random_history() -> None:
    client = FakeAsyncRedis()
    try:
        await follow(RedisPyScripts(client), steps=cases(short=200, steady=500, deep=500), seed=SEED + 1)
    finally:
        await client.aclose()
