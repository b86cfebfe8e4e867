"""The windows that are shown, read from a real Valkey, are those that admission decides by."""

from collections.abc import AsyncIterator

import pytest
from marked_partitions import mark_all

from tallygate.console.spend_windows import LimiterSpendWindows
from tallygate.domain.admission import Account, AdmissionRequest, SpendDemand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.spend_limit import SpendLimit
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

WEEK = SpendDemand(key="org:spend_7d", limit=SpendLimit(name="spend_7d", limit_nano_usd=1000))


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await opened.open()
    yield opened
    await opened.close()


def a_request(number: int, hold: int, *spend: SpendDemand) -> AdmissionRequest:
    return AdmissionRequest(
        reservation_id=f"r{number}",
        org="acme",
        rate=(),
        spend=spend,
        hold_nano_usd=hold,
        hold_min_nano_usd=hold,
        floor_nano_usd=0,
        lease_ms=3_600_000,
        event=b"{}",
    )


async def test_the_outlook_is_what_admission_decides_by(store: RedisConnection) -> None:
    await mark_all(store, "g1")
    scripts = load_scripts()
    limiter = RedisLimiter(store, scripts)  # by the server's own clock
    spent, held = a_request(1, 600, WEEK), a_request(2, 300, WEEK)
    await limiter.admit(spent)
    await limiter.settle(Account(admission=spent, cost_nano_usd=600))
    await limiter.admit(held)
    refused = await limiter.admit(a_request(3, 500, WEEK))

    (outlook,) = await LimiterSpendWindows(store, scripts, limiter).fetch("acme", (WEEK,))

    state = refused.spend[0]
    assert (outlook.spent_nano_usd, outlook.held_nano_usd) == (state.spent_nano_usd, state.held_nano_usd) == (600, 300)
    assert outlook.paused_until_ms == state.resume_at_ms > refused.now_ms
    assert outlook.leaving == {state.resume_at_ms: 600}  # the instant at which the refused request would fit


async def test_a_calendar_month_leaves_at_its_end(store: RedisConnection) -> None:
    await mark_all(store, "g1")
    scripts = load_scripts()
    limiter = RedisLimiter(store, scripts)
    now_ms = int((await store.command(b"TIME"))[0]) * 1000
    periods = months_around(now_ms, "America/New_York", 1)
    month = SpendDemand(
        key="org:spend_month",
        limit=SpendLimit(name="spend_month", limit_nano_usd=1000, window_ms=0),
        periods=periods,
    )
    request = a_request(1, 600, month)
    windows = LimiterSpendWindows(store, scripts, limiter)
    assert (await windows.fetch("acme", (month,)))[0].leaving == {}
    await limiter.admit(request)
    await limiter.settle(Account(admission=request, cost_nano_usd=600))

    assert (await windows.fetch("acme", (month,)))[0].leaving == {periods[1].end_ms: 600}


async def test_spend_that_the_store_has_lost_is_not_shown_as_nothing(store: RedisConnection) -> None:
    scripts = load_scripts()
    with pytest.raises(LimiterWipedError):
        await LimiterSpendWindows(store, scripts, RedisLimiter(store, scripts)).fetch("acme", (WEEK,))
