"""What rate limits promise, over every implementation: exact refill, all or none, true waits, clocks that do not go back."""

import random

import pytest
from limiter_values import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, a_rate, a_request, a_spend, an_account
from limiter_world import World
from msgspec.structs import replace

from tallygate.domain.admission import AdmissionRequest, Decision, RateDemand
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.keys import org_keys


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
    first = rates_only("r1", tokens)
    assert (await world.limiter.admit(first)).rate[0].remaining == 0
    await world.limiter.settle(an_account(first, 0, 1000, 0))
    refused = await world.limiter.admit(rates_only("r2", tokens))
    assert refused.retry_after_ms == MINUTE_MS


def waits(decision: Decision) -> tuple[bool, int, list[tuple[int, bool]]]:
    return decision.admitted, decision.retry_after_ms, [(state.retry_after_ms, state.waits_for_others) for state in decision.rate]


async def test_who_only_waits_for_what_others_hold_is_told_so_and_not_the_refill(world: World) -> None:
    """Estimates are held; what is not used comes back when a request ends, as the spend limit has it."""
    hour = a_rate(600, capacity=1000, window_ms=HOUR_MS, quantity=Quantity.TOKENS)
    first, other = rates_only("r1", hour), rates_only("r2", replace(hour, units=300))
    await world.limiter.admit(first)
    await world.limiter.admit(other)
    assert waits(await world.limiter.admit(rates_only("r3", hour))) == (False, 1000, [(1000, True)])
    assert waits(await world.limiter.preview(rates_only("r3", hour))) == (False, 1000, [(1000, True)])

    await world.limiter.settle(an_account(other, 0, 300, 150))  # 450 are used, 600 held: with all of these back it does not fit
    assert waits(await world.limiter.admit(rates_only("r4", hour))) == (False, 2_340_000, [(2_340_000, False)])
    assert waits(await world.limiter.admit(rates_only("r5", replace(hour, units=550)))) == (False, 1000, [(1000, True)])

    await world.limiter.settle(an_account(first, 0, 100, 0))
    assert waits(await world.limiter.admit(rates_only("r6", hour))) == (False, 540_000, [(540_000, False)])  # 450 + 100 are used
    assert (await world.limiter.admit(rates_only("r7", replace(hour, units=450)))).admitted


@pytest.mark.parametrize("ends", ["release", "withdraw", "expire"])
async def test_what_is_held_no_longer_is_not_waited_for(world: World, ends: str) -> None:
    hour = a_rate(600, capacity=1000, window_ms=HOUR_MS, quantity=Quantity.TOKENS)
    first, second = rates_only("r1", hour, floor_prompt_tokens=600, lease_ms=1000), rates_only("r2", hour)
    await world.limiter.admit(first)
    if ends == "release":
        await world.limiter.settle(an_account(first, is_owed=False))
    elif ends == "withdraw":
        await world.limiter.withdraw(first)
    else:
        world.clock.now_ms += 1000
        await world.sweep("acme")
        assert not (await world.limiter.admit(rates_only("r3", hour))).rate[0].waits_for_others
        return
    assert (await world.limiter.admit(second)).admitted
    await world.limiter.settle(an_account(second, 0, 600, 0))
    assert not (await world.limiter.admit(rates_only("r3", hour))).rate[0].waits_for_others


async def test_a_bucket_of_a_former_version_is_read_until_there_is_one_of_ours(world: World) -> None:
    """What its gateways hold of it they end there, so that here it is held by nobody."""
    if world.store is None:
        return
    rates, key = org_keys("acme").rates, b"org:tokens_limit"
    hour = a_rate(600, capacity=1000, window_ms=HOUR_MS, quantity=Quantity.TOKENS)
    level, now = b"%d" % (350 * HOUR_MS), b"%d" % world.clock()

    await world.store.command(b"HSET", rates, key + b"|l", level, key + b"|t", now, key + b"|h", level + b" 600")
    assert waits(await world.limiter.admit(rates_only("r1", hour)))[2] == [(900_000, False)]

    assert (await world.limiter.admit(rates_only("r2", replace(hour, units=300)))).admitted
    await world.store.command(b"HSET", rates, key + b"|l", b"0")  # of a gateway of that version, beside
    assert (await world.limiter.admit(rates_only("r3", replace(hour, units=50)))).rate[0].remaining == 0


async def test_a_refill_that_comes_sooner_is_what_is_waited_for(world: World) -> None:
    fast = a_rate(1000, capacity=1000, refill=60_000, quantity=Quantity.TOKENS)
    await world.limiter.admit(rates_only("r1", fast))
    world.clock.now_ms += 1
    assert waits(await world.limiter.admit(rates_only("r2", fast))) == (False, 999, [(999, False)])


async def test_requests_are_not_given_back_and_slots_are(world: World) -> None:
    slots, minute = a_rate(1, capacity=1, quantity=Quantity.OPEN_REQUESTS), a_rate(1, capacity=1)
    await world.limiter.admit(rates_only("r1", slots, minute))
    assert waits(await world.limiter.admit(rates_only("r2", slots))) == (False, 1000, [(1000, True)])
    assert waits(await world.limiter.admit(rates_only("r3", slots, minute))) == (
        False,
        MINUTE_MS,
        [(1000, True), (MINUTE_MS, False)],
    )


async def test_unused_tokens_return_and_request_units_stay_taken(world: World) -> None:
    demands = (a_rate(600, capacity=1000, quantity=Quantity.TOKENS), a_rate())
    request = rates_only("r1", *demands)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 0, 100, 50))
    probe = await world.limiter.admit(rates_only("r2", a_rate(0, capacity=1000, quantity=Quantity.TOKENS), a_rate(0)))
    assert [state.remaining for state in probe.rate] == [850, 9]


async def test_a_release_returns_all_token_units(world: World) -> None:
    tokens = a_rate(600, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, is_owed=False))
    probe = await world.limiter.admit(rates_only("r2", a_rate(0, capacity=1000, quantity=Quantity.TOKENS)))
    assert probe.rate[0].remaining == 1000


async def test_tokens_above_the_estimate_are_owed(world: World) -> None:
    tokens = a_rate(100, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 0, 1000, 1500))  # 1,500 below nothing: a minute and a half to nothing
    refused = await world.limiter.admit(rates_only("r2", a_rate(1000, capacity=1000, quantity=Quantity.TOKENS)))
    assert refused.retry_after_ms == 150_000
    assert (await world.limiter.admit(rates_only("r3", a_rate(0, capacity=1000, quantity=Quantity.TOKENS)))).admitted  # needs none


async def test_an_absurd_token_count_is_a_bounded_debt(world: World) -> None:
    tokens = a_rate(100, capacity=1000, quantity=Quantity.TOKENS)
    request = rates_only("r1", tokens)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 0, 0, 2**53 - 1))
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
        await world.limiter.settle(an_account(request, 1))
    for _ in range(3):
        world.clock.now_ms += 8 * DAY_MS
        while await world.sweep("acme"):
            pass
    state = await world.state("acme")
    assert {name: found for name, found in state.items() if found and name != "totals"} == {}


@pytest.mark.parametrize("org", ["", "a b", "x" * 129, "{p01}", "a:b"])
async def test_an_organization_id_that_could_break_a_key_is_refused(org: str) -> None:
    with pytest.raises(ValueError, match="organization id"):
        org_keys(org)


async def test_reading_limits_takes_nothing_and_writes_nothing(world: World) -> None:
    requests, tokens = a_rate(1, capacity=2), a_rate(30, capacity=100, quantity=Quantity.TOKENS)
    slots = a_rate(1, capacity=4, quantity=Quantity.OPEN_REQUESTS, key="org:open")
    await world.limiter.admit(a_request("r1", rate=(requests, tokens, slots), spend=(a_spend(1000),)))
    world.clock.now_ms -= 2 * 3_600_000  # the bucket is ahead by more than its window: an admission would write that
    before = await world.state("acme")

    for _ in range(3):
        states = await world.limiter.read_limits("acme", (requests, tokens, slots), (a_spend(1000),))

    assert [state.remaining for state in states.rate] == [1, 70, 3]
    assert (states.now_ms, states.knows_spend, len(states.spend)) == (world.clock.now_ms, True, 1)
    assert await world.state("acme") == before
