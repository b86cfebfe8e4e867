"""The limiter's own connection under faults: nothing hangs, nothing is applied twice, no reply goes to the wrong caller."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock

import pytest
from fault_proxy import FaultProxy
from limiter_values import BUCKET_MS, DAY_MS, Clock, a_rate, a_request, a_spend, an_account
from marked_partitions import mark_all
from snapshot import snapshot_of_redis
from valkey_process import ValkeyProcess, running_valkey

from tallygate.domain.errors import ConfigError, NothingSentError, StoreError
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import read_generation, restore_window, unmarked_partitions
from tallygate.limiter.keys import org_keys, partition_keys, partition_of
from tallygate.limiter.probe import probe_server
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import AT_ONCE, ENTRIES_MAX, Sweeper


@pytest.fixture
async def proxy(valkey_url: str, valkey_server: ValkeyProcess) -> AsyncIterator[FaultProxy]:
    faulty = FaultProxy(valkey_server.port)
    await faulty.start()
    yield faulty
    await faulty.stop()


@pytest.fixture
async def through(proxy: FaultProxy) -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(parse_address(proxy.url), timeout_ms=300)
    await opened.open()
    yield opened
    await opened.close()


async def spent_and_held(limiter: RedisLimiter) -> tuple[int, int]:
    (reading,) = await limiter.read_windows("acme", (a_spend(),))
    return reading.spent_nano_usd, reading.held_nano_usd


async def until_up(connection: RedisConnection) -> None:
    for _ in range(500):
        if connection.is_up:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the connection did not come back")


async def test_calls_of_one_tick_are_answered_each_with_its_own_reply(connection: RedisConnection) -> None:
    replies = await asyncio.gather(*(connection.command(b"ECHO", b"%d" % i) for i in range(3000)))
    assert replies == [b"%d" % i for i in range(3000)]


async def test_a_cancelled_caller_leaves_later_replies_with_their_callers(connection: RedisConnection) -> None:
    chosen = random.Random(3)
    loop = asyncio.get_running_loop()
    calls = [loop.create_task(connection.command(b"ECHO", b"%d" % i)) for i in range(1000)]
    await asyncio.sleep(0)
    cancelled = {i for i in range(1000) if chosen.random() < 0.5 and calls[i].cancel()}
    for i, reply in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
        assert isinstance(reply, asyncio.CancelledError) if i in cancelled else reply == b"%d" % i


async def test_a_lost_reply_is_retried_once_and_applied_once(proxy: FaultProxy, through: RedisConnection) -> None:
    limiter = RedisLimiter(through, load_scripts())
    await mark_all(through, "g1")
    for i in range(-1, 20):
        request = a_request(f"r{i}", 10)
        proxy.drop_replies = int(i >= 0)  # the first exchange loads the scripts
        assert (await limiter.admit(request)).admitted
        if i < 0:
            await limiter.settle(an_account(request, is_owed=False))
            continue
        proxy.drop_replies = 1
        assert (await limiter.settle(an_account(request, 7))).repeated  # the first was applied, its answer lost
    assert await spent_and_held(limiter) == (140, 0)
    assert await through.command(b"XLEN", partition_keys(partition_of("acme")).events) == 21
    assert proxy.connections == 41


async def test_two_lost_replies_are_an_error_and_still_applied_once(proxy: FaultProxy, through: RedisConnection) -> None:
    limiter = RedisLimiter(through, load_scripts())
    await mark_all(through, "g1")
    first, request = a_request("r0", 10), a_request("r1", 10)
    await limiter.admit(first)
    await limiter.settle(an_account(first))  # loads the script, else the lost reply would be that it is unknown
    await limiter.admit(request)
    proxy.drop_replies = 3  # settle, the greeting of the new connection, and what follows
    with pytest.raises(StoreError) as failure:
        await limiter.settle(an_account(request, 7))
    assert not isinstance(failure.value, NothingSentError)  # the first call arrived
    proxy.drop_replies = 0
    await until_up(through)
    assert (await limiter.settle(an_account(request, 7))).repeated
    assert await spent_and_held(limiter) == (7, 0)


async def test_a_silent_server_is_given_up_within_the_time_limit(proxy: FaultProxy, through: RedisConnection) -> None:
    proxy.swallow = True
    started = time.monotonic()
    with pytest.raises(StoreError, match="within 300 ms"):
        await through.command(b"PING")
    assert time.monotonic() - started < 5  # bounded; the exact time is the machine's
    proxy.swallow = False
    await until_up(through)
    assert await through.command(b"PING") == b"PONG"


async def test_while_redis_is_away_calls_fail_at_once_and_then_it_recovers(proxy: FaultProxy, through: RedisConnection) -> None:
    proxy.refuse = True
    proxy.cut()
    while True:  # until the first attempt to reconnect has failed
        with pytest.raises(StoreError) as failure:
            await through.command(b"PING")
        if "no connection" in str(failure.value):
            break
    call = through.command(b"PING")
    with pytest.raises(NothingSentError, match="no connection to Redis at redis://127"):
        call.send(None)  # it fails without waiting once
    proxy.refuse = False
    await until_up(through)
    assert await through.command(b"PING") == b"PONG"


async def test_calls_past_the_bound_fail_at_once(valkey_url: str) -> None:
    opened = RedisConnection(parse_address(valkey_url), outstanding_max=5)
    await opened.open()
    replies = await asyncio.gather(*(opened.command(b"PING") for _ in range(8)), return_exceptions=True)
    await opened.close()
    assert [isinstance(reply, NothingSentError) for reply in replies] == [False] * 5 + [True] * 3
    assert "more than 5 calls" in str(replies[7])


async def test_four_workers_admit_what_one_would(valkey_url: str) -> None:
    workers = [RedisConnection(parse_address(valkey_url), timeout_ms=10_000) for _ in range(4)]
    for worker in workers:
        await worker.open()
    await mark_all(workers[0], "g1")
    limiters = [RedisLimiter(worker, load_scripts(), now_ms=Clock()) for worker in workers]
    spend, rate = (a_spend(1230),), (a_rate(capacity=77),)
    by_money = await asyncio.gather(*(limiters[i % 4].admit(a_request(f"m{i}", 10, spend=spend)) for i in range(1000)))
    by_rate = await asyncio.gather(*(limiters[i % 4].admit(a_request(f"r{i}", 0, spend=(), rate=rate)) for i in range(1000)))
    assert (sum(d.admitted for d in by_money), sum(d.admitted for d in by_rate)) == (123, 77)
    assert sorted(d.spend[0].held_nano_usd for d in by_money if d.admitted) == list(range(10, 1231, 10))  # one order of all
    for worker in workers:
        await worker.close()


async def test_scripts_survive_a_flush_of_the_script_cache(connection: RedisConnection) -> None:
    limiter = RedisLimiter(connection, load_scripts())
    await mark_all(connection, "g1")
    for i in range(3):
        await connection.command(b"SCRIPT", b"FLUSH")
        decisions = await asyncio.gather(*(limiter.admit(a_request(f"r{i}-{j}", 10)) for j in range(3)))
        assert all(decision.admitted for decision in decisions)
    assert await spent_and_held(limiter) == (0, 90)


async def test_an_error_of_a_script_is_a_store_error_that_names_it(connection: RedisConnection) -> None:
    await connection.command(b"SET", org_keys("acme").holds, b"not a hash")
    with pytest.raises(StoreError, match="settle: WRONGTYPE"):
        await RedisLimiter(connection, load_scripts()).settle(an_account(a_request("r1", spend=()), 1))


async def test_a_wrong_password_is_told_without_showing_it(valkey_server: ValkeyProcess) -> None:
    opened = RedisConnection(parse_address(f"redis://:s3cret@127.0.0.1:{valkey_server.port}/0"))
    with pytest.raises(StoreError, match="AUTH") as failure:
        await opened.open()
    assert "s3cret" not in str(failure.value)


async def test_the_unix_socket_and_the_database_number_are_honoured(valkey_unix_url: str) -> None:
    opened = RedisConnection(parse_address(f"{valkey_unix_url}?db=3"))
    await opened.open()
    await opened.command(b"SET", b"here", b"3")
    await opened.command(b"SELECT", b"0")
    assert await opened.command(b"GET", b"here") is None
    await opened.close()


@pytest.mark.parametrize("url", ["http://x", "redis://", "unix://", "redis://h:port", "redis://h/zero", "redis://h?tls=1"])
def test_an_address_that_is_none_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(url)


async def test_a_server_fit_for_money_passes_the_probe(connection: RedisConnection) -> None:
    facts = await probe_server(connection)
    assert facts.software == "valkey"
    assert [warning for warning in facts.warnings if "append-only" in warning]


async def test_an_evicting_server_is_refused_with_the_fix(connection: RedisConnection) -> None:
    await connection.command(b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru")
    try:
        with pytest.raises(ConfigError, match="CONFIG SET maxmemory-policy noeviction"):
            await probe_server(connection)
    finally:
        await connection.command(b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction")


async def test_a_user_that_may_not_run_scripts_is_refused_with_the_fix(
    connection: RedisConnection, valkey_server: ValkeyProcess
) -> None:
    await connection.command(b"ACL", b"SETUSER", b"plain", b"on", b">pw", b"~*", b"+@all", b"-evalsha", b"-eval")
    opened = RedisConnection(parse_address(f"redis://plain:pw@127.0.0.1:{valkey_server.port}/0"))
    await opened.open()
    with pytest.raises(ConfigError, match="allow EVAL and EVALSHA"):
        await probe_server(opened)
    await opened.close()
    await connection.command(b"ACL", b"DELUSER", b"plain")


async def test_money_survives_a_killed_server_with_its_append_only_file() -> None:
    with running_valkey(append_only=True) as server:
        opened = RedisConnection(parse_address(server.url), timeout_ms=2000)
        await opened.open()
        await mark_all(opened, "g1")
        limiter = RedisLimiter(opened, load_scripts())
        spend = (a_spend(10**9),)
        unknown: list[str] = []
        acknowledged = 0

        async def exchange(name: str) -> None:
            nonlocal acknowledged
            request = a_request(name, 10, spend=spend)
            try:
                await limiter.admit(request)
                await limiter.settle(an_account(request, 7))
                acknowledged += 1
            except StoreError:
                unknown.append(name)

        for round_number in range(3):
            work = asyncio.gather(*(exchange(f"k{round_number}-{i}") for i in range(400)))
            await asyncio.sleep(0.02)
            server.kill()
            await work
            server.start()
            await until_up(opened)
        for name in unknown:  # settled again with the same id: applied or not, it counts once
            await limiter.settle(an_account(a_request(name, 10, spend=spend), 7))
        (reading,) = await limiter.read_windows("acme", spend)
        assert (reading.spent_nano_usd, reading.held_nano_usd) == (7 * 1200, 0)
        assert acknowledged + len(unknown) == 1200
        await opened.close()


async def test_a_stopped_server_does_not_hold_up_callers_and_continues() -> None:
    with running_valkey() as server:
        opened = RedisConnection(parse_address(server.url), timeout_ms=200)
        await opened.open()
        server.signal(signal.SIGSTOP)
        with pytest.raises(StoreError):
            await opened.command(b"PING")
        server.signal(signal.SIGCONT)
        await until_up(opened)
        assert await opened.command(b"PING") == b"PONG"
        await opened.close()


async def test_one_shot_ids_leave_no_keys_behind(connection: RedisConnection) -> None:
    limiter = RedisLimiter(connection, load_scripts(), ended_ms=0, expired_ms=0)
    await mark_all(connection, "g1")
    sizes = []
    for i in range(400):
        request = a_request(f"r{i}", 10, rate=(a_rate(capacity=10**6),), spend=(a_spend(10**9),), lease_ms=i % 2 * 60_000)
        await limiter.admit(request)
        if i % 2:
            await limiter.settle(an_account(request, 7))
        if i % 100 == 99:
            sizes.append((await connection.command(b"DBSIZE"), await connection.command(b"HLEN", org_keys("acme").holds)))
    assert len({keys for keys, _ in sizes}) == 1
    assert max(holds for _, holds in sizes) < 10


async def test_every_key_of_an_organization_has_a_time_to_live(connection: RedisConnection) -> None:
    limiter = RedisLimiter(connection, load_scripts())
    await mark_all(connection, "g1")
    first, unheld = a_request("r1", 10, rate=(a_rate(),)), a_request("r2", 10, org="globex")
    await limiter.admit(first)
    await limiter.settle(an_account(first, 7, 1, 1))
    await limiter.settle(an_account(unheld, 7, 1, 1))
    await limiter.admit(a_request("r3", 10, org="initech", rate=(a_rate(quantity=Quantity.OPEN_REQUESTS),), spend=()))
    for org in ("acme", "globex", "initech"):
        for key in org_keys(org).all[3:]:
            if await connection.command(b"EXISTS", key):
                assert await connection.command(b"PTTL", key) > 90 * 365 * DAY_MS, key  # no clock is ahead for so long
    assert await connection.command(b"PTTL", partition_keys(partition_of("acme")).events) == -1


async def test_the_sweep_ends_holds_of_organizations_at_rest(connection: RedisConnection) -> None:
    scripts = load_scripts()
    limiter, sweeper = RedisLimiter(connection, scripts), Sweeper(connection, scripts)
    await mark_all(connection, "g1")
    for org in ("acme", "globex", "initech"):
        await limiter.admit(a_request(f"r-{org}", 10, org=org, lease_ms=0, floor_nano_usd=3))
    assert await sweeper.step() == 3
    assert await sweeper.step() == 0
    assert await spent_and_held(limiter) == (3, 0)


async def test_a_step_of_the_sweep_is_one_script_for_many_organizations_in_bounded_parts(
    connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, scripts = Clock(), load_scripts()
    limiter, sweeper = RedisLimiter(connection, scripts, now_ms=clock), Sweeper(connection, scripts, now_ms=clock)
    await mark_all(connection, "g1")
    orgs = [f"org-{number}" for number in range(AT_ONCE + 2)]
    for org in orgs:
        await limiter.admit(a_request(f"r-{org}", 10, org=org, lease_ms=1))
    clock.now_ms += 1
    asked = AsyncMock(wraps=connection.run_script)
    monkeypatch.setattr(connection, "run_script", asked)
    assert await sweeper.step() == len(orgs)
    assert asked.await_count == 3  # who is due, and two parts
    assert scripts.expire not in {script for script, _keys in connection._prefixes}, "who is due together is kept for good"
    for number in range(ENTRIES_MAX + 2):
        await limiter.admit(a_request(f"r-{number}", 1, org="globex", lease_ms=1))
    await limiter.admit(a_request("r-acme", 1, lease_ms=1))
    clock.now_ms += 1
    assert await sweeper.step() == ENTRIES_MAX + 1  # a part of one organization, and the other
    assert await sweeper.step() == 2
    assert await sweeper.step() == 0


async def test_an_organization_whose_keys_cannot_be_read_keeps_the_sweep_from_no_other(connection: RedisConnection) -> None:
    limiter, sweeper = RedisLimiter(connection, load_scripts()), Sweeper(connection, load_scripts())
    await mark_all(connection, "g1")
    for org in ("acme", "globex"):
        await limiter.admit(a_request(f"r-{org}", 10, org=org, lease_ms=0, floor_nano_usd=3))
    assert partition_of("globex") < partition_of("acme")  # so it comes first
    await connection.command(b"SET", org_keys("globex").due, b"no sorted set")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await sweeper.step()
    assert await spent_and_held(limiter) == (3, 0)


async def test_of_an_organization_at_rest_only_events_remain(connection: RedisConnection) -> None:
    clock, scripts = Clock(), load_scripts()
    limiter, sweeper = RedisLimiter(connection, scripts, now_ms=clock), Sweeper(connection, scripts, now_ms=clock)
    request = a_request("r1", 10, rate=(a_rate(),))
    await mark_all(connection, "g1")
    await limiter.admit(request)
    await limiter.settle(an_account(request, 7))
    for _ in range(3):
        clock.now_ms += 8 * DAY_MS
        for _ in range(3):
            assert await sweeper.step() == 0  # what is forgotten is no hold that expired
    left = {key for key in await connection.command(b"KEYS", b"*") if not key.endswith(b":generation")}
    assert left == {partition_keys(partition_of("acme")).events}


async def test_a_wiped_store_is_rebuilt_and_admits_again(connection: RedisConnection) -> None:
    scripts = load_scripts()
    now_ms = 1_800_000_000_000
    limiter = RedisLimiter(connection, scripts, now_ms=lambda: now_ms)
    assert len(await unmarked_partitions(connection)) == 64
    week_ago = now_ms - 9 * 86_400_000
    for _ in range(2):  # twice is once
        posted = [(week_ago, 500), (now_ms - 600_000, 300), (now_ms, 50)]
        assert await restore_window(connection, scripts, "acme", a_spend(), posted, now_ms=now_ms) == 350
    window = (await snapshot_of_redis(connection, "acme"))["windows"]["org:spend_7d"]
    assert window["posted"] == {now_ms // BUCKET_MS - 2: 300, now_ms // BUCKET_MS: 50}
    await mark_all(connection, "g2")
    assert await unmarked_partitions(connection) == ()
    assert await read_generation(connection, 5) == "g2"
    assert not (await limiter.admit(a_request("r1", 651))).admitted
    assert (await limiter.admit(a_request("r2", 650))).admitted
