"""What rate limits promise, over every implementation: exact refill, all or none, true waits, clocks that do not go back."""

import random

import pytest
from limiter_values import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, a_rate, a_request, a_spend, an_actual
from limiter_world import World

from proxy.domain.admission import AdmissionRequest, RateDemand
from proxy.domain.rate_limit import Quantity


def rates_only(name: str, *rates: RateDemand, **changes) -> AdmissionRequest:
    return a_request(name, 0, spend=(), rate=rates, **changes)


async def test_a_bucket_admits_its_capacity_and_tells_the_exact_wait(world: World) -> None:
    for i in range(10):
        decision = await world.limiter.admit(rates_only(f"r{i}", a_rate()))
        assert (decision.admitted, decision.rate[0].remaining) == (True, 9 - i)
    refused = await world.limiter.admit(rates_only("r10", a_rate()))
    assert (refused.refused_by, refused.retry_after_ms) == ("org:requests_limit", 6000)  # ten a minute
    assert refused.rate[0].reset_ms == MINUTE_MS

    world.clock.now_ms += 5999
    assert (await world.limiter.admit(rates_only("r11", a_rate()))).retry_after_ms == 1
    world.clock.now_ms += 1
    assert (await world.limiter.admit(rates_only("r12", a_rate()))).admitted


async def test_refill_of_a_thousand_an_hour_loses_nothing_to_rounding(world: World) -> None:
    rate = a_rate(1, capacity=1, refill=1000, window_ms=HOUR_MS)  # one each 3.6 s
    admitted = 0
    for i in range(400):
        admitted += (await world.limiter.admit(rates_only(f"r{i}", rate))).admitted
        world.clock.now_ms += 900
    assert admitted == 100


async def test_a_refused_request_takes_nothing_from_any_bucket(world: World) -> None:
    wide, narrow = a_rate(1, capacity=100, key="org:wide"), a_rate(1, capacity=1, key="org:narrow")
    slots = a_rate(1, capacity=5, quantity=Quantity.OPEN_REQUESTS)
    await world.limiter.admit(a_request("r1", 100, rate=(wide, narrow, slots)))
    before = await world.state("acme")
    refused = await world.limiter.admit(a_request("r2", 100, rate=(wide, narrow, slots)))
    assert refused.refused_by == "org:narrow"
    refused = await world.limiter.admit(a_request("r3", 950, rate=(wide, slots)))
    assert refused.refused_by == "org:spend_7d"
    assert await world.state("acme") == before


async def test_the_demand_with_the_longest_wait_is_named(world: World) -> None:
    short, long = a_rate(1, capacity=1, key="org:short"), a_rate(1, capacity=1, window_ms=HOUR_MS, key="org:long")
    await world.limiter.admit(rates_only("r1", short, long))
    refused = await world.limiter.admit(rates_only("r2", short, long))
    assert (refused.refused_by, refused.retry_after_ms) == ("org:long", HOUR_MS)
    assert [state.retry_after_ms for state in refused.rate] == [MINUTE_MS, HOUR_MS]


async def test_a_demand_above_the_capacity_needs_a_full_bucket(world: World) -> None:
    tokens = a_rate(5000, capacity=1000, quantity=Quantity.TOKENS)
    assert (await world.limiter.admit(rates_only("r1", tokens))).rate[0].remaining == 0
    refused = await world.limiter.admit(rates_only("r2", tokens))
    assert refused.retry_after_ms == MINUTE_MS


async def test_unused_tokens_return_and_request_units_stay_taken(world: World) -> None:
    demands = (a_rate(600, capacity=1000, quantity=Quantity.TOKENS), a_rate())
    request = rates_only("r1", *demands)
    await world.limiter.admit(request)
    await world.limiter.settle(request, an_actual(0, 100, 50))
    probe = await world.limiter.admit(rates_only("r2", a_rate(0, capacity=1000, quantity=Quantity.TOKENS), a_rate(0)))
    assert [state.remaining for state in probe.rate] == [850, 9]


async def test_a_release_returns_all_token_units(world: World) -> None:
    tokens = a_rate(600, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.release(request, an_actual())
    probe = await world.limiter.admit(rates_only("r2", a_rate(0, capacity=1000, quantity=Quantity.TOKENS)))
    assert probe.rate[0].remaining == 1000


async def test_tokens_above_the_estimate_are_owed(world: World) -> None:
    tokens = a_rate(100, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.settle(request, an_actual(0, 1000, 1500))  # 1,500 below nothing: a minute and a half to nothing
    refused = await world.limiter.admit(rates_only("r2", a_rate(1000, capacity=1000, quantity=Quantity.TOKENS)))
    assert refused.retry_after_ms == 150_000
    assert (await world.limiter.admit(rates_only("r3", a_rate(0, capacity=1000, quantity=Quantity.TOKENS)))).admitted  # needs none


async def test_an_absurd_token_count_is_a_bounded_debt(world: World) -> None:
    tokens = a_rate(100, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.settle(request, an_actual(0, 0, 2**53 - 1))
    assert (await world.limiter.admit(rates_only("r2", tokens))).retry_after_ms > DAY_MS
    assert next(iter((await world.state("acme"))["buckets"].values()))[0] == 1000 * MINUTE_MS - (2**53 - 1)


async def test_a_clock_that_goes_back_adds_no_units(world: World) -> None:
    for i in range(10):
        await world.limiter.admit(rates_only(f"r{i}", a_rate()))
    for jump_ms in (-MINUTE_MS, 1000, MINUTE_MS - 1001):
        world.clock.now_ms += jump_ms
        refused = await world.limiter.admit(rates_only(f"back{jump_ms}", a_rate()))
        assert refused.retry_after_ms == START_MS + 6000 - world.clock.now_ms


async def test_in_no_window_is_more_admitted_than_burst_and_refill_allow(world: World) -> None:
    chosen, admitted_at = random.Random(5), []
    rate = a_rate(1, capacity=5, refill=20, window_ms=MINUTE_MS)
    for i in range(400):
        world.clock.now_ms += chosen.choice((0, 10, 500, 4000))
        if (await world.limiter.admit(rates_only(f"r{i}", rate))).admitted:
            admitted_at.append(world.clock.now_ms)
    for i, start in enumerate(admitted_at):
        for j in range(i, len(admitted_at)):
            assert (j - i + 1 - 5) * MINUTE_MS <= (admitted_at[j] - start) * 20


async def test_a_lowered_capacity_holds_at_once_and_a_raised_one_fills_up(world: World) -> None:
    await world.limiter.admit(rates_only("r1", a_rate(1, capacity=100)))
    lowered = await world.limiter.admit(rates_only("r2", a_rate(1, capacity=10)))
    assert lowered.rate[0].remaining == 9
    raised = await world.limiter.admit(rates_only("r3", a_rate(1, capacity=1000)))
    assert raised.rate[0].remaining == 8


async def test_shadow_rates_take_what_is_there(world: World) -> None:
    rate = a_rate(6, shadow=True)
    assert (await world.limiter.admit(rates_only("r1", rate))).rate[0].remaining == 4
    decision = await world.limiter.admit(rates_only("r2", rate))
    assert (decision.admitted, decision.shadow_refused_by, decision.rate[0].remaining) == (True, ("org:requests_limit",), 0)


async def test_organizations_do_not_share_buckets(world: World) -> None:
    rate = a_rate(10)
    assert (await world.limiter.admit(rates_only("r1", rate))).admitted
    assert (await world.limiter.admit(rates_only("r2", rate, org="globex"))).admitted


async def test_idle_buckets_windows_and_answers_are_dropped(world: World) -> None:
    for i in range(20):
        request = a_request(f"r{i}", 1, rate=(a_rate(1, key=f"cred:{i}:requests"),), spend=(a_spend(key=f"cred:{i}:spend"),))
        await world.limiter.admit(request)
        await world.limiter.settle(request, an_actual(1))
    for _ in range(3):
        world.clock.now_ms += 8 * DAY_MS
        while await world.sweep("acme"):
            pass
    state = await world.state("acme")
    assert {name: found for name, found in state.items() if found and name != "totals"} == {}


@pytest.mark.parametrize("org", ["", "a b", "x" * 129, "{p01}", "a:b"])
async def test_an_organization_id_that_could_break_a_key_is_refused(org: str) -> None:
    from proxy.limiter.keys import org_keys

    with pytest.raises(ValueError, match="organization id"):
        org_keys(org)
