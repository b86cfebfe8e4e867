"""The console's view of the limiter, over a real Valkey."""

import json

import msgspec
import pytest
from marked_partitions import mark_all

from tallygate.console.limit_gauges import LimitGauges
from tallygate.console.limiter_store import LimiterStore
from tallygate.domain.admission import Account, AdmissionRequest, LimitQuestion, RateDemand, SpendDemand
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import partition_keys
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper
from tallygate.telemetry import metrics

BYTES_MAX = 1_000_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
WEEK = SpendDemand(key="org:spend_7d", limit=SpendLimit(name="spend_7d", limit_nano_usd=1_000))
OPEN = RateDemand(
    key="cred:acme-prod:open_requests",
    limit=RateLimit(name="open_requests", quantity=Quantity.OPEN_REQUESTS, capacity=4, refill_units=0, window_ms=0),
    units=1,
)


def admission(id_, org="acme", lease_ms=60_000):
    return AdmissionRequest(
        reservation_id=id_,
        org=org,
        rate=(),
        spend=(WEEK,),
        hold_nano_usd=100,
        hold_min_nano_usd=100,
        floor_nano_usd=30,
        lease_ms=lease_ms,
        event=json.dumps({"event_id": id_}).encode(),
    )


@pytest.fixture(params=["tcp", "unix"])
async def world(request, valkey_url, valkey_unix_url):
    """(LimiterStore, RedisLimiter, RedisConnection) over an empty server that is not marked yet."""
    connection = RedisConnection(parse_address(valkey_url if request.param == "tcp" else valkey_unix_url))
    await connection.open()
    scripts = load_scripts()
    limiter = RedisLimiter(connection, scripts)
    store = LimiterStore(connection, limiter, Sweeper(connection, scripts), close=connection.close, stream_bytes_max=BYTES_MAX)
    yield store, limiter, connection
    await store.close()


async def test_the_lag_is_the_age_of_the_oldest_entry_that_no_ledger_has_taken(world):
    store, _, connection = world
    await mark_all(connection, "g")
    seconds, _ = await connection.command(b"TIME")
    now_ms = int(seconds) * 1000
    for partition, age_ms in ((3, 60_000), (60, 7_000_000), (61, 1)):
        await connection.command(b"XADD", partition_keys(partition).events, b"%d-0" % (now_ms - age_ms), b"event", b"{}")

    backlog = await store.backlog()

    assert backlog.events == 3
    assert 7_000_000 <= backlog.oldest_ms < 7_060_000


async def test_nothing_waiting_is_no_lag(world):
    store, _, connection = world
    await mark_all(connection, "g")

    backlog = await store.backlog()

    assert (backlog.events, backlog.oldest_ms) == (0, 0)


async def test_an_expired_hold_is_swept_and_counted_once(world):
    store, limiter, connection = world
    await mark_all(connection, "g")
    await limiter.admit(admission("lost", lease_ms=1))

    swept = 0
    while not swept:  # the lease is a millisecond of the server's clock
        swept = await store.sweep()
    await store.sweep()

    [states] = await store.limit_reading([LimitQuestion("acme", (), (WEEK,))]).read()
    [reading] = states.spend
    assert (reading.spent_nano_usd, reading.held_nano_usd) == (30, 0), "the floor: its input was probably sent"
    assert (await store.backlog()).events == 1


async def test_limits_show_spend_holds_and_what_is_left(world):
    store, limiter, connection = world
    await mark_all(connection, "g")
    await limiter.admit(msgspec.structs.replace(admission("open"), rate=(OPEN,)))

    [states] = await store.limit_reading([LimitQuestion("acme", (OPEN,), (WEEK,))]).read()

    assert [(window.spent_nano_usd, window.held_nano_usd) for window in states.spend] == [(0, 100)]
    assert [rate.remaining for rate in states.rate] == [3]


async def test_limits_of_several_organizations_are_read_at_once_each_its_own(world):
    store, limiter, connection = world
    await mark_all(connection, "g")
    for number in range(3):
        for each in range(number):
            await limiter.admit(msgspec.structs.replace(admission(f"{number}-{each}", org=f"o{number}"), rate=(OPEN,)))

    states = await store.limit_reading([LimitQuestion(f"o{number}", (OPEN,), (WEEK,)) for number in (2, 0, 1)]).read()

    assert [state.spend[0].held_nano_usd for state in states] == [200, 0, 100]
    assert [state.rate[0].remaining for state in states] == [2, 4, 3]


async def test_limits_that_are_read_again_are_the_same_object_until_they_change(world):
    store, limiter, connection = world
    await mark_all(connection, "g")
    reading = store.limit_reading([LimitQuestion(org, (OPEN,), (WEEK,)) for org in ("acme", "globex")])
    acme, globex = await reading.read()
    await limiter.admit(msgspec.structs.replace(admission("open"), rate=(OPEN,)))

    acme_again, globex_again = await reading.read()

    assert globex_again is globex
    assert await reading.read() is await reading.read()
    assert (acme.spend[0].held_nano_usd, acme_again.spend[0].held_nano_usd) == (0, 100)


async def test_a_store_without_its_marks_has_lost_its_data(world):
    store, _, connection = world
    with pytest.raises(LimiterWipedError):
        await store.check()

    await mark_all(connection, "g")

    await store.check()


async def test_a_window_that_is_idle_falls_from_scrape_to_scrape_as_time_passes(world):
    """Nothing is asked of the organization in between: whoever skipped it for that would show what is not so any more."""
    _, _, connection = world
    await mark_all(connection, "g")
    now_ms, day_ms, scripts = START_MS, 86_400_000, load_scripts()
    limiter = RedisLimiter(connection, scripts, now_ms=lambda: now_ms)
    store = LimiterStore(connection, limiter, Sweeper(connection, scripts), close=connection.close, stream_bytes_max=BYTES_MAX)
    gauges = LimitGauges(store, now_ms=lambda: now_ms)
    acme = Organization(id="acme", plan=Plan(id="p", spend_limits=(WEEK.limit,)))
    for id_ in ("first", "second"):
        await limiter.admit(admission(id_))
        await limiter.settle(Account(admission=admission(id_), cost_nano_usd=70))
        now_ms += day_ms

    seen = []
    for _ in range(9):
        samples = await gauges.read([acme])
        seen += samples[metrics.LIMIT_SPENT].values()
        now_ms += day_ms
    assert seen == [140] * 6 + [70] + [0] * 2, "a bucket leaves after seven days and five minutes"
