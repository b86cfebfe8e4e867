"""A store's clock that was wrong for a moment and was put right: what it moved is noticed before anything more is admitted."""

import pytest
from limiter_values import (
    BUCKET_MS,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    WEEK_BUCKETS,
    a_month,
    a_rate,
    a_request,
    a_spend,
    an_account,
)
from limiter_world import World
from marked_partitions import mark_all
from msgspec.structs import replace

from tallygate.domain.admission import Account, SpendDemand
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.generation import reanchor_org, restore_window
from tallygate.limiter.reference_state import AHEAD_MS
from tallygate.limiter.script import load_scripts

WEEK_MS = 7 * DAY_MS
LEASE_MS = 30_000


async def spend_now(world: World, name: str, nano_usd: int, *spend: SpendDemand) -> None:
    request = a_request(name, nano_usd, spend=spend or (a_spend(),))
    assert (await world.limiter.admit(request)).admitted
    await world.limiter.settle(an_account(request, nano_usd))


async def is_closed(world: World, *spend: SpendDemand) -> bool:
    try:
        await world.limiter.admit(a_request("probe", 1, spend=spend or (a_spend(),)))
    except LimiterWipedError:
        return True
    return False


async def open_again(world: World, demand: SpendDemand, posted: list[tuple[int, int]]) -> int:
    """As the ledger does it. Returns what is spent."""
    if world.reference is not None:
        spent = world.reference.restore("acme", demand, posted)
        world.reference.reanchor("acme", LEASE_MS, HOUR_MS)
        world.reference.wiped_partitions.clear()
        return spent
    assert world.store is not None
    scripts, now = load_scripts(), world.clock()
    spent = await restore_window(world.store, scripts, "acme", demand, posted, now_ms=now)
    await reanchor_org(world.store, scripts, "acme", lease_ms=LEASE_MS, now_ms=now)
    await mark_all(world.store, "g2")
    return spent


@pytest.mark.parametrize("ahead_ms", [31 * DAY_MS, WEEK_MS, WEEK_MS - BUCKET_MS, WEEK_MS + BUCKET_MS, DAY_MS, AHEAD_MS + BUCKET_MS])
async def test_a_clock_that_was_ahead_for_one_request_lets_nobody_spend_twice(world: World, ahead_ms: int) -> None:
    """$8 of $10 a week, then a cent 31 days ahead: the limiter used to know of the cent alone."""
    week = a_spend(10_000_000_000)
    await spend_now(world, "before", 8_000_000_000, week)
    world.clock.now_ms += ahead_ms
    await spend_now(world, "ahead", 10_000_000, week)
    world.clock.now_ms -= ahead_ms

    assert await is_closed(world, week)
    held = replace(a_request("ahead-2"), spend=(week,))
    with pytest.raises(LimiterWipedError):
        await world.limiter.settle(an_account(held, 1))
    ledger = [(START_MS, 8_000_000_000), (START_MS + ahead_ms, 10_000_000)]
    assert await open_again(world, week, ledger) == 8_010_000_000
    assert not (await world.limiter.admit(a_request("too-much", 1_990_000_001, spend=(week,)))).admitted
    await spend_now(world, "the-rest", 1_990_000_000, week)
    world.clock.now_ms += WEEK_MS + BUCKET_MS
    await spend_now(world, "a-week-later", 10_000_000_000, week)


async def test_a_step_back_of_minutes_closes_nothing_and_refunds_nothing(world: World) -> None:
    await spend_now(world, "before", 600)
    world.clock.now_ms += AHEAD_MS
    await spend_now(world, "ahead", 300)
    world.clock.now_ms -= AHEAD_MS

    assert not await is_closed(world)
    assert not (await world.limiter.admit(a_request("too-much", 100))).admitted


@pytest.mark.parametrize("window_ms", [BUCKET_MS, 2 * BUCKET_MS])
@pytest.mark.parametrize("ahead_ms", [BUCKET_MS + MINUTE_MS, AHEAD_MS])
async def test_a_short_window_is_rebuilt_after_a_shorter_leap(world: World, window_ms: int, ahead_ms: int) -> None:
    """A leap of six minutes empties a window of five, which then used to count nothing until its time had come."""
    short = a_spend(1000, window_ms=window_ms)
    world.clock.now_ms = START_MS // BUCKET_MS * BUCKET_MS + BUCKET_MS - 2 * MINUTE_MS
    await spend_now(world, "before", 800, short)
    world.clock.now_ms += ahead_ms
    await spend_now(world, "ahead", 10, short)
    world.clock.now_ms -= ahead_ms

    assert await is_closed(world, short)
    await open_again(world, short, [(world.clock(), 810)])
    assert not (await world.limiter.admit(a_request("too-much", 191, spend=(short,)))).admitted
    await spend_now(world, "the-rest", 190, short)
    assert not (await world.limiter.admit(a_request("more", 1, spend=(short,)))).admitted


async def test_what_is_spent_while_the_shortest_window_is_a_little_ahead_counts(world: World) -> None:
    short = a_spend(1000, window_ms=BUCKET_MS)
    world.clock.now_ms = START_MS // BUCKET_MS * BUCKET_MS + BUCKET_MS + 1
    await spend_now(world, "ahead", 1, short)
    world.clock.now_ms -= 1000
    await spend_now(world, "after", 900, short)

    assert not (await world.limiter.admit(a_request("too-much", 100, spend=(short,)))).admitted


async def test_what_is_spent_after_a_small_step_back_leaves_when_its_own_time_is_over(world: World) -> None:
    """As the ledger has it, which knows the time and not the newest bucket."""
    world.clock.now_ms += 2 * BUCKET_MS
    await spend_now(world, "ahead", 300)
    world.clock.now_ms -= 2 * BUCKET_MS
    await spend_now(world, "after", 400)
    world.clock.now_ms = START_MS + (WEEK_BUCKETS + 1) * BUCKET_MS

    assert [reading.spent_nano_usd for reading in await world.limiter.read_windows("acme", (a_spend(),))] == [300]


async def test_a_clock_that_was_behind_for_one_request_spends_nothing_and_loses_nothing(world: World) -> None:
    world.clock.now_ms += 400 * DAY_MS
    await spend_now(world, "before", 800)
    world.clock.now_ms -= 365 * DAY_MS
    assert await is_closed(world)
    world.clock.now_ms += 365 * DAY_MS

    assert await open_again(world, a_spend(), [(world.clock(), 800)]) == 800
    assert not (await world.limiter.admit(a_request("too-much", 201))).admitted


async def test_a_month_that_has_not_begun_yet_is_rebuilt(world: World) -> None:
    month = a_month(1000)
    await spend_now(world, "before", 800, month)
    world.clock.now_ms += 31 * DAY_MS
    await spend_now(world, "ahead", 1, month)
    world.clock.now_ms -= 31 * DAY_MS

    assert await is_closed(world, month)
    assert await open_again(world, month, [(START_MS, 800), (START_MS + 30 * DAY_MS, 1)]) == 801
    assert not (await world.limiter.admit(a_request("too-much", 200, spend=(month,)))).admitted
    world.clock.now_ms += 31 * DAY_MS
    await spend_now(world, "next-month", 1000, month)


async def test_an_organization_that_was_idle_for_a_month_is_served_at_once(world: World) -> None:
    await spend_now(world, "before", 800)
    world.clock.now_ms += 31 * DAY_MS
    await spend_now(world, "after", 1000)


async def test_housekeeping_under_a_wrong_clock_does_not_make_a_window_one_that_begins_at_nothing(world: World) -> None:
    """Of another credential than the one that asks while the clock is ahead; also where a hold expires in the same sweep."""
    idle, month = a_spend(1000, key="cred:idle:spend_7d"), a_month(1000, key="cred:idle:spend_month")
    await spend_now(world, "before", 800, idle, month)
    await world.limiter.admit(a_request("open", 100, spend=(idle,)))
    world.clock.now_ms += 32 * DAY_MS
    for _ in range(3):
        await world.sweep("acme")
    world.clock.now_ms -= 32 * DAY_MS

    assert await is_closed(world, idle)
    await open_again(world, idle, [(START_MS, 800)])
    assert not (await world.limiter.admit(a_request("month", 201, spend=(month,)))).admitted


@pytest.mark.parametrize("quantity", [Quantity.REQUESTS, Quantity.TOKENS])
async def test_a_bucket_further_ahead_than_its_window_goes_on_from_now(world: World, quantity: Quantity) -> None:
    """A limit a minute used to answer with a wait of 31 days."""
    rate = a_rate(10, capacity=10, quantity=quantity)
    world.clock.now_ms += 31 * DAY_MS
    ahead = a_request("ahead", rate=(rate,), spend=())
    assert (await world.limiter.admit(ahead)).admitted
    await world.limiter.settle(an_account(ahead, 0, 10, 0))
    world.clock.now_ms -= 31 * DAY_MS

    refused = await world.limiter.admit(a_request("after", rate=(rate,), spend=()))
    assert refused.retry_after_ms == MINUTE_MS
    assert refused.rate[0].reset_ms == MINUTE_MS
    world.clock.now_ms += MINUTE_MS  # refused requests in between would not put it off either
    assert (await world.limiter.admit(a_request("a-minute-later", rate=(rate,), spend=()))).admitted


@pytest.mark.parametrize("ahead_ms", [1, MINUTE_MS - 1, MINUTE_MS])
async def test_a_bucket_ahead_by_no_more_than_its_window_gains_nothing(world: World, ahead_ms: int) -> None:
    rate = a_rate(10, capacity=10)
    world.clock.now_ms += ahead_ms
    await world.limiter.admit(a_request("ahead", rate=(rate,), spend=()))
    world.clock.now_ms -= ahead_ms

    refused = await world.limiter.admit(a_request("after", rate=(replace(rate, units=1),), spend=()))
    assert refused.retry_after_ms == ahead_ms + MINUTE_MS // 10


async def test_money_and_slots_held_while_the_clock_was_ahead_come_back_with_a_lease(world: World) -> None:
    slots = (a_rate(1, capacity=1, quantity=Quantity.OPEN_REQUESTS),)
    await spend_now(world, "before", 100)
    world.clock.now_ms += 31 * DAY_MS
    dead = a_request("dead", 500, rate=slots, floor_nano_usd=20)
    assert (await world.limiter.admit(dead)).admitted
    world.clock.now_ms -= 31 * DAY_MS
    assert await is_closed(world)
    await open_again(world, a_spend(), [(START_MS, 100)])

    assert (await world.limiter.admit(a_request("early", 1, rate=slots))).refused_by == "org:open_requests_limit"
    world.clock.now_ms += LEASE_MS
    assert await world.sweep("acme") == 1
    (reading,) = await world.limiter.read_windows("acme", (a_spend(),))
    assert (reading.spent_nano_usd, reading.held_nano_usd) == (120, 0)
    assert (await world.limiter.admit(a_request("next", 1, rate=slots))).admitted


async def test_a_living_worker_renews_a_lease_that_was_given_ahead(world: World) -> None:
    world.clock.now_ms += 31 * DAY_MS
    request = a_request("long", 500, spend=(), floor_nano_usd=20)
    await world.limiter.admit(request)
    world.clock.now_ms -= 31 * DAY_MS
    noted = Account(admission=request, cost_nano_usd=30, prompt_tokens=0, completion_tokens=0, event=b"{}")
    await world.limiter.checkpoint((noted,))
    world.clock.now_ms += request.lease_ms - 1
    assert await world.sweep("acme") == 0
    world.clock.now_ms += 1
    assert await world.sweep("acme") == 1


async def test_a_pause_of_the_time_ahead_ends_and_the_next_one_is_told(world: World) -> None:
    await spend_now(world, "before", 100)
    world.clock.now_ms += 31 * DAY_MS
    await spend_now(world, "ahead", 1000)
    assert not (await world.limiter.admit(a_request("refused", 1))).admitted
    world.clock.now_ms -= 31 * DAY_MS
    assert await is_closed(world)
    await open_again(world, a_spend(), [(START_MS, 100)])
    await world.sweep("acme")

    (reading,) = await world.limiter.read_windows("acme", (a_spend(),))
    assert reading.paused_until_ms == 0
    assert [notice["type"] for notice in await world.notices("acme")][-2:] == ["spend.paused", "spend.resumed"]
    world.clock.now_ms += HOUR_MS
    await spend_now(world, "fill", 900)
    await world.limiter.admit(a_request("again", 1))
    assert (await world.notices("acme"))[-1]["type"] == "spend.paused"


@pytest.mark.parametrize("final", [10, 70, 500])
async def test_a_late_settlement_counts_in_the_month_of_its_expiry_and_in_no_other(world: World, final: int) -> None:
    month, week = a_month(1000), a_spend(1000)
    world.clock.now_ms = START_MS + 31 * DAY_MS - 2 * MINUTE_MS
    late = a_request("late", 600, spend=(month, week), floor_nano_usd=70)
    await world.limiter.admit(late)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    expired_at = world.clock()
    world.clock.now_ms += 6 * MINUTE_MS
    await spend_now(world, "next-month", 5, month)

    await world.limiter.settle(an_account(late, final))

    readings = await world.limiter.read_windows("acme", (month, week))
    assert [reading.spent_nano_usd for reading in readings] == [5, final]
    told = (await world.events("acme"))[-1]
    assert (told["kind"], told["posted_nano_usd"], told["expired_at_ms"]) == ("late", str(final - 70), str(expired_at))
    world.clock.now_ms = (expired_at // BUCKET_MS + WEEK_BUCKETS + 1) * BUCKET_MS
    assert (await world.limiter.read_windows("acme", (week,)))[0].spent_nano_usd == 0


async def test_a_late_settlement_of_what_has_left_the_window_counts_no_more(world: World) -> None:
    hour = a_spend(1000, window_ms=HOUR_MS)
    late = a_request("late", 600, spend=(hour,), floor_nano_usd=70)
    await world.limiter.admit(late)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    world.clock.now_ms += HOUR_MS + BUCKET_MS
    await world.limiter.settle(an_account(late, 500))

    assert (await world.limiter.read_windows("acme", (hour,)))[0].spent_nano_usd == 0


@pytest.mark.parametrize("shift_ms", [-13 * HOUR_MS, -MINUTE_MS, MINUTE_MS, 13 * HOUR_MS])
async def test_a_month_of_another_time_zone_does_not_begin_at_nothing(world: World, shift_ms: int) -> None:
    """Until the ledger has rebuilt it, all that is known counts."""
    month = a_month(1000)
    world.clock.now_ms = START_MS + 31 * DAY_MS - HOUR_MS
    await spend_now(world, "before", 800, month)
    moved = tuple(replace(period, start_ms=period.start_ms + shift_ms, end_ms=period.end_ms + shift_ms) for period in month.periods)
    for hours in (0, 2):
        world.clock.now_ms += hours * HOUR_MS
        if world.clock() >= max(period.end_ms for period in (month.periods[0], moved[0])):
            continue  # a month that begins where the known one has ended begins at nothing
        refused = await world.limiter.admit(a_request("too-much", 201, spend=(replace(month, periods=moved),)))
        assert not refused.admitted


async def test_a_gateway_whose_calendar_is_months_ahead_does_not_turn_the_page(world: World) -> None:
    """The months around its own time, none of which is the store's."""
    month = a_month(1000, months=8)
    await spend_now(world, "before", 800, month)
    ahead = replace(month, periods=month.periods[3:6])

    assert not (await world.limiter.admit(a_request("ahead", 201, spend=(ahead,)))).admitted
    assert (await world.limiter.admit(a_request("right", 200, spend=(month,)))).admitted
