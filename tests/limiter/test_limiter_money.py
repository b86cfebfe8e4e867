"""What spend limits promise, over every implementation: no overshoot, no phantom refusal, exactly once, true resume times."""

import asyncio

import pytest
from limiter_values import BUCKET_MS, DAY_MS, MINUTE_MS, START_MS, WEEK_BUCKETS, a_month, a_rate, a_request, a_spend, an_account
from limiter_world import World
from msgspec.structs import replace

from tallygate.domain.admission import Account, Warned
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.port import ReservationEndedError
from tallygate.limiter.redis_limiter import ENDED_MS, GROUPS_AT_ONCE

MONTH_MS = 31 * DAY_MS


async def spent_and_held(world: World, spend=None) -> tuple[int, int]:
    (reading,) = await world.limiter.read_windows("acme", (spend or a_spend(),))
    return reading.spent_nano_usd, reading.held_nano_usd


async def test_a_hold_becomes_spend_when_settled(world: World) -> None:
    request = a_request("r1", 100)
    decision = await world.limiter.admit(request)
    assert decision.admitted
    assert await spent_and_held(world) == (0, 100)

    settlement = await world.limiter.settle(an_account(request, 40))
    assert (settlement.over_nano_usd, settlement.late, settlement.unheld, settlement.repeated) == (0, False, False, False)
    assert await spent_and_held(world) == (40, 0)


async def test_a_release_owes_nothing(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, is_owed=False))
    assert await spent_and_held(world) == (0, 0)
    assert [event["kind"] for event in await world.events("acme")] == ["released"]


async def test_a_thousand_concurrent_admissions_take_exactly_what_there_is(world: World) -> None:
    spend = (a_spend(370),)
    decisions = await asyncio.gather(*(world.limiter.admit(a_request(f"r{i}", 10, spend=spend)) for i in range(1000)))
    assert sum(decision.admitted for decision in decisions) == 37
    assert await spent_and_held(world) == (0, 370)


async def test_spend_and_holds_never_pass_the_limit_while_actuals_fit_their_holds(world: World) -> None:
    for i in range(60):
        request = a_request(f"r{i}", 90)
        decision = await world.limiter.admit(request)
        if decision.admitted and i % 3:
            await world.limiter.settle(an_account(request, 90 - i % 7))
        spent, held = await spent_and_held(world)
        assert spent + held <= 1000
        assert decision.admitted or 1000 - spent - held < 90  # and nothing that fits is refused
        world.clock.now_ms += 7000


async def test_settling_twice_or_otherwise_gives_the_first_answer_and_counts_once(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    first = await world.limiter.settle(an_account(request, 40))
    world.clock.now_ms += 5000
    again = await world.limiter.settle(an_account(request, 70))
    released = await world.limiter.settle(an_account(request, is_owed=False))
    assert (again.settled_at_ms, again.repeated) == (first.settled_at_ms, True)
    assert released == again
    assert await spent_and_held(world) == (40, 0)
    assert len(await world.events("acme")) == 1


async def test_settling_after_a_release_changes_nothing(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, is_owed=False))
    assert (await world.limiter.settle(an_account(request, 40))).repeated
    assert await spent_and_held(world) == (0, 0)


async def test_the_same_reservation_gets_the_same_answer_and_one_hold(world: World) -> None:
    request = a_request("r1", 100, rate=(a_rate(),))
    first = await world.limiter.admit(request)
    world.clock.now_ms += 1000
    assert await world.limiter.admit(request) == replace(first, sent_once=False)
    assert await spent_and_held(world) == (0, 100)


async def test_a_reservation_that_has_ended_is_not_held_again(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 40))
    with pytest.raises(ReservationEndedError, match="settled"):
        await world.limiter.admit(request)
    assert await spent_and_held(world) == (40, 0)


async def test_what_is_settled_is_forgotten_when_told_and_nothing_else(world: World) -> None:
    names = ("settled", "released", "withdrawn", "held", "deferred", "expired")
    requests = {name: a_request(name, 100, lease_ms=1000 if name == "expired" else MINUTE_MS) for name in names}
    for request in requests.values():
        assert (await world.limiter.admit(request)).sent_once
    world.clock.now_ms += 1000
    await world.sweep("acme")
    assert (await world.limiter.settle(an_account(requests["settled"], 40))).sent_once
    await world.limiter.settle(an_account(requests["released"], is_owed=False))
    await world.limiter.withdraw(requests["withdrawn"])
    await world.limiter.defer(an_account(requests["deferred"], job=b"{}"))
    before = await world.state("acme")
    await world.limiter.forget([("globex", names), ("acme", [*names, "nobody's", "settled"]), ("acme", names)])

    after = await world.state("acme")
    assert [*after["holds"]] == ["held", "deferred", "expired"]
    assert {name for name in after["due"] if "|" not in name} == {"held", "deferred", "expired"}
    assert {**after, "holds": None, "due": None} == {**before, "holds": None, "due": None}
    assert await spent_and_held(world) == (40, 200)


async def test_more_than_one_call_takes_is_forgotten_too(world: World) -> None:
    orgs, groups = ("acme", "globex", "initech"), []
    for number in range(3 * GROUPS_AT_ONCE + 1):
        request = a_request(f"r{number}", 1, org=orgs[number % 3])
        await world.limiter.admit(request)
        await world.limiter.settle(an_account(request, 1))
        groups.append((request.org, [request.reservation_id]))
    await world.limiter.forget(groups)

    assert [(await world.state(org))["holds"] for org in orgs] == [{}, {}, {}]


async def test_a_refused_reservation_is_decided_afresh(world: World) -> None:
    blocker, request = a_request("r0", 1000), a_request("r1", 100)
    await world.limiter.admit(blocker)
    assert not (await world.limiter.admit(request)).admitted
    await world.limiter.settle(an_account(blocker, is_owed=False))
    assert (await world.limiter.admit(request)).admitted


async def test_an_account_above_its_hold_is_posted_whole_and_told(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    assert (await world.limiter.settle(an_account(request, 150))).over_nano_usd == 50
    assert await spent_and_held(world) == (150, 0)
    assert (await world.events("acme"))[0]["flags"] == "overrun"


async def test_an_unknown_reservation_is_posted_whole_and_flagged(world: World) -> None:
    request = a_request("r1", 100)
    assert (await world.limiter.settle(an_account(request, 40))).unheld
    assert (await world.limiter.settle(an_account(request, 40))).repeated
    assert await spent_and_held(world) == (40, 0)
    assert [event["kind"] for event in await world.events("acme")] == ["unheld"]


async def test_a_paused_organization_is_admitted_at_the_resume_instant_and_not_a_millisecond_before(world: World) -> None:
    world.clock.now_ms = START_MS + 17
    for i, cost in enumerate((300, 300, 300)):  # one bucket each
        request = a_request(f"r{i}", 300)
        await world.limiter.admit(request)
        await world.limiter.settle(an_account(request, cost))
        world.clock.now_ms += BUCKET_MS
    refused = await world.limiter.admit(a_request("big", 500))
    resume_at_ms = refused.spend[0].resume_at_ms
    assert resume_at_ms == START_MS + BUCKET_MS + (WEEK_BUCKETS + 1) * BUCKET_MS  # two of three buckets must leave
    assert (refused.refused_by, refused.retry_after_ms) == ("org:spend_7d", resume_at_ms - world.clock.now_ms)

    world.clock.now_ms = resume_at_ms - 1
    assert not (await world.limiter.admit(a_request("early", 500))).admitted
    world.clock.now_ms = resume_at_ms
    assert (await world.limiter.admit(a_request("on-time", 500))).admitted


async def test_a_partly_expired_bucket_counts_in_full(world: World) -> None:
    world.clock.now_ms = START_MS + BUCKET_MS - 1
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 100))
    world.clock.now_ms = START_MS + (WEEK_BUCKETS + 1) * BUCKET_MS - 1
    assert await spent_and_held(world) == (100, 0)
    world.clock.now_ms += 1
    assert await spent_and_held(world) == (0, 0)


async def test_the_resume_instant_counts_open_holds_as_they_stand(world: World) -> None:
    for i in range(2):
        request = a_request(f"r{i}", 400)
        await world.limiter.admit(request)
        await world.limiter.settle(an_account(request, 400))
        world.clock.now_ms += BUCKET_MS
    await world.limiter.admit(a_request("open", 150, lease_ms=30 * DAY_MS))
    refused = await world.limiter.admit(a_request("next", 300))  # 800 + 150 + 300: both 400s but for 250 must leave: the first does
    assert refused.spend[0].resume_at_ms == START_MS + (WEEK_BUCKETS + 1) * BUCKET_MS
    world.clock.now_ms = refused.spend[0].resume_at_ms - 1
    assert not (await world.limiter.admit(a_request("early", 300))).admitted
    world.clock.now_ms += 1
    assert (await world.limiter.admit(a_request("on-time", 300))).admitted


async def test_a_hold_above_the_limit_never_resumes(world: World) -> None:
    refused = await world.limiter.admit(a_request("r1", 1001))
    assert (refused.spend[0].resume_at_ms, refused.retry_after_ms, refused.refused_by) == (-1, 0, "org:spend_7d")


async def test_where_only_open_reservations_stand_in_the_way_a_retry_is_soon(world: World) -> None:
    await world.limiter.admit(a_request("r1", 900))
    refused = await world.limiter.admit(a_request("r2", 200))
    assert (refused.spend[0].resume_at_ms, refused.retry_after_ms) == (-1, 1000)
    (reading,) = await world.limiter.read_windows("acme", (a_spend(),))
    assert reading.paused_until_ms == 0


async def test_holds_larger_than_what_is_spent_do_not_make_a_wait_for_spend_short(world: World) -> None:
    """Without any hold it would not fit either: what is spent has to leave, all of it if the holds stay."""
    for demand, resume_ms in ((a_spend(), START_MS + WEEK_BUCKETS * BUCKET_MS + BUCKET_MS), (a_month(), START_MS + MONTH_MS)):
        spent = a_request(f"{demand.key}-spent", 500, spend=(demand,))
        await world.limiter.admit(spent)
        await world.limiter.settle(an_account(spent, 500))
        assert (await world.limiter.admit(a_request(f"{demand.key}-open", 500, spend=(demand,)))).admitted
        refused = await world.limiter.admit(
            a_request(f"{demand.key}-next", 600, spend=(demand,))
        )  # 100 have to leave, and 500 stay held
        assert (refused.spend[0].resume_at_ms, refused.retry_after_ms) == (resume_ms, resume_ms - START_MS)


async def test_at_the_limit_the_pause_is_known_without_a_refusal(world: World) -> None:
    request = a_request("r1", 1000)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 1000))
    (reading,) = await world.limiter.read_windows("acme", (a_spend(),))
    assert reading.paused_until_ms == START_MS + (WEEK_BUCKETS + 1) * BUCKET_MS


async def test_reading_changes_nothing(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 100))
    before = await world.state("acme")
    world.clock.now_ms += 30 * DAY_MS
    assert await spent_and_held(world) == (0, 0)
    assert await world.state("acme") == before


async def test_clamping_grants_what_is_left_but_not_less_than_is_worth_having(world: World) -> None:
    await world.limiter.admit(a_request("r0", 800))
    clamped = await world.limiter.admit(a_request("r1", 500, hold_min_nano_usd=150))
    assert (clamped.admitted, clamped.held_nano_usd) == (True, 200)
    assert await spent_and_held(world) == (0, 1000)
    assert not (await world.limiter.admit(a_request("r2", 500, hold_min_nano_usd=1))).admitted


async def test_every_window_must_fit_and_each_is_held(world: World) -> None:
    narrow = a_spend(250, key="cred:c1:spend_7d")
    both = (a_spend(), narrow)
    assert (await world.limiter.admit(a_request("r1", 200, spend=both))).admitted
    refused = await world.limiter.admit(a_request("r2", 200, spend=both))
    assert refused.refused_by == "cred:c1:spend_7d"
    assert await spent_and_held(world) == (0, 200)
    assert await spent_and_held(world, narrow) == (0, 200)


async def test_a_shadow_limit_counts_and_tells_but_does_not_refuse(world: World) -> None:
    decision = await world.limiter.admit(a_request("r1", 500, spend=(a_spend(100, shadow=True),), rate=(a_rate(11, shadow=True),)))
    assert decision.admitted
    assert decision.shadow_refused_by == ("org:spend_7d",)  # 11 units are cut to a capacity of 10, which fit
    again = await world.limiter.admit(a_request("r2", 500, spend=(a_spend(100, shadow=True),), rate=(a_rate(1, shadow=True),)))
    assert again.shadow_refused_by == ("org:requests_limit", "org:spend_7d")
    assert await spent_and_held(world) == (0, 1000)


@pytest.mark.parametrize("name", ["next8", "next9"])  # 8: it looks for what is due; 9: only if it finds too little room
async def test_a_dead_workers_hold_refuses_nobody_after_its_lease_even_without_a_sweep(world: World, name: str) -> None:
    await world.limiter.admit(a_request("dead", 1000, floor_nano_usd=30, floor_prompt_tokens=7))
    world.clock.now_ms += MINUTE_MS - 1
    assert not (await world.limiter.admit(a_request("early", 900))).admitted
    world.clock.now_ms += 1
    assert (await world.limiter.admit(a_request(name, 900))).admitted
    assert await spent_and_held(world) == (30, 900)
    (event,) = await world.events("acme")
    assert (event["kind"], event["cost_nano_usd"], event["prompt_tokens"]) == ("expired", "30", "7")
    assert event["event"] == '{"event_id":"dead"}'


async def test_a_hold_that_stands_in_nobodys_way_is_left_to_one_admission_of_eight(world: World) -> None:
    await world.limiter.admit(a_request("dead", 500))
    world.clock.now_ms += MINUTE_MS
    for name, held in (("next1", 500), ("nextf", 500), ("next0", 0)):
        await world.limiter.admit(a_request(name, 0))
        assert await spent_and_held(world) == (0, held)


async def test_a_clamped_hold_gets_the_room_of_one_whose_lease_is_over(world: World) -> None:
    await world.limiter.admit(a_request("dead", 600))
    world.clock.now_ms += MINUTE_MS + 1
    assert (await world.limiter.admit(a_request("next", 900, hold_min_nano_usd=100))).held_nano_usd == 900


async def test_an_expired_hold_of_another_credential_is_ended_too(world: World) -> None:
    other = a_spend(500, key="cred:other:spend_7d")
    await world.limiter.admit(a_request("dead", 500, spend=(a_spend(), other), floor_nano_usd=20))
    world.clock.now_ms += MINUTE_MS
    await world.limiter.admit(a_request("next8", 100))
    assert await spent_and_held(world, other) == (20, 0)


async def test_the_last_checkpoint_of_a_dead_worker_counts(world: World) -> None:
    request = a_request("r1", 500)
    await world.limiter.admit(request)
    world.clock.now_ms += MINUTE_MS - 1
    checkpoint = Account(admission=request, cost_nano_usd=70, prompt_tokens=5, completion_tokens=9, event=b'{"so":"far"}')
    await world.limiter.checkpoint((checkpoint,))
    world.clock.now_ms += MINUTE_MS - 1
    assert await world.sweep("acme") == 0  # the lease was renewed
    world.clock.now_ms += 1
    assert await world.sweep("acme") == 1
    assert await spent_and_held(world) == (70, 0)
    (event,) = await world.events("acme")
    assert (event["event"], event["cost_nano_usd"], event["completion_tokens"]) == ('{"so":"far"}', "70", "9")


async def test_a_checkpoint_that_comes_again_or_out_of_order_lowers_nothing(world: World) -> None:
    request = a_request("r1", 500)
    await world.limiter.admit(request)
    for cost in (70, 40):
        noted = Account(admission=request, cost_nano_usd=cost, prompt_tokens=0, completion_tokens=cost, event=b"{}")
        await world.limiter.checkpoint((noted,))
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (70, 0)


@pytest.mark.parametrize(("actual", "posted"), [(100, "30"), (70, "0"), (10, "-60"), (0, "-70")])
async def test_a_late_settlement_posts_the_difference(world: World, actual: int, posted: str) -> None:
    request = a_request("r1", 500, floor_nano_usd=70)
    await world.limiter.admit(request)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    world.clock.now_ms += 3 * BUCKET_MS
    settlement = await world.limiter.settle(an_account(request, actual))
    assert settlement.late
    assert await spent_and_held(world) == (actual, 0)
    assert [(event["kind"], event["posted_nano_usd"]) for event in await world.events("acme")] == [
        ("expired", "70"),
        ("late", posted),
    ]
    assert (await world.limiter.settle(an_account(request, actual))).repeated


async def test_a_late_refund_leaves_with_the_bucket_it_corrects(world: World) -> None:
    """Else the window would count too little once the expiry's bucket has left and the refund's has not."""
    request, other = a_request("r1", 500, floor_nano_usd=300), a_request("r2", 200)
    await world.limiter.admit(request)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    world.clock.now_ms += 10 * BUCKET_MS
    await world.limiter.settle(an_account(request, 50))
    await world.limiter.admit(other)
    await world.limiter.settle(an_account(other, 200))
    assert await spent_and_held(world) == (250, 0)
    world.clock.now_ms = START_MS + MINUTE_MS + (WEEK_BUCKETS + 1) * BUCKET_MS
    assert await spent_and_held(world) == (200, 0)


async def test_each_threshold_warns_once_per_crossing(world: World) -> None:
    async def spend(name: str, cost: int) -> tuple[Warned, ...]:
        request = a_request(name, cost)
        await world.limiter.admit(request)
        return (await world.limiter.settle(an_account(request, cost))).warned

    assert await spend("a", 400) == ()
    world.clock.now_ms += BUCKET_MS
    assert [warned.permille for warned in await spend("b", 450)] == [500, 800]
    assert await spend("c", 10) == ()
    world.clock.now_ms = START_MS + (WEEK_BUCKETS + 1) * BUCKET_MS  # the 400 leaves: 460 are left, below both
    assert await spend("d", 10) == ()
    assert [warned.permille for warned in await spend("e", 100)] == [500]


async def test_a_calendar_month_starts_at_nothing_and_resumes_at_its_end(world: World) -> None:
    spend = (a_month(),)
    request = a_request("r1", 900, spend=spend)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 900))
    refused = await world.limiter.admit(a_request("r2", 200, spend=spend))
    assert refused.spend[0].resume_at_ms == START_MS + MONTH_MS
    world.clock.now_ms = START_MS + MONTH_MS - 1
    assert not (await world.limiter.admit(a_request("r3", 200, spend=spend))).admitted
    world.clock.now_ms += 1
    assert (await world.limiter.admit(a_request("r4", 200, spend=spend))).admitted
    assert await spent_and_held(world, spend[0]) == (0, 200)


async def test_a_gateway_with_yesterdays_calendar_does_not_turn_the_month_back(world: World) -> None:
    world.clock.now_ms = START_MS + MONTH_MS
    request = a_request("r1", 900, spend=(a_month(months=3),))
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 900))
    assert not (await world.limiter.admit(a_request("r2", 200, spend=(a_month(months=1),)))).admitted


async def test_a_calendar_that_is_behind_the_clock_refuses_what_its_last_month_refuses(world: World) -> None:
    spend = (a_month(months=1),)
    request, still_open = a_request("r1", 900, spend=spend), a_request("r0", 10, spend=spend, lease_ms=90 * DAY_MS)
    await world.limiter.admit(still_open)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 900))
    world.clock.now_ms = START_MS + 2 * MONTH_MS
    refused = await world.limiter.admit(a_request("r2", 200, spend=(a_month(months=1),)))
    assert (refused.admitted, refused.retry_after_ms, refused.spend[0].resume_at_ms) == (False, 1000, -1)


async def test_a_clock_that_goes_back_refunds_nothing(world: World) -> None:
    world.clock.now_ms = START_MS + 10 * DAY_MS
    request = a_request("r1", 1000)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 1000))
    for jump_ms in (-1, -MINUTE_MS, -9 * MINUTE_MS + 1):
        world.clock.now_ms += jump_ms
        assert await spent_and_held(world) == (1000, 0)
        assert not (await world.limiter.admit(a_request(f"r{jump_ms}", 1))).admitted


async def test_a_full_event_stream_admits_nothing_but_settles_everything(world: World) -> None:
    request = a_request("r1", 10)
    assert (await world.limiter.admit(request)).admitted
    world.limiter.close_for_backlog(True)
    refused = await world.limiter.admit(a_request("r2", 10))
    assert (refused.admitted, refused.refused_by, refused.retry_after_ms) == (False, "ledger_backlog", 1000)
    await world.limiter.settle(an_account(request, 10))
    assert len(await world.events("acme")) == 1
    world.limiter.close_for_backlog(False)
    assert (await world.limiter.admit(a_request("r2", 10))).admitted


async def test_a_wiped_store_admits_no_spending_but_keeps_limiting_rates(world: World) -> None:
    if world.reference:
        world.reference.wipe()
    else:
        await world.store.command(b"FLUSHALL")
    with pytest.raises(LimiterWipedError):
        await world.limiter.admit(a_request("r1", 10))
    with pytest.raises(LimiterWipedError):
        await world.limiter.settle(an_account(a_request("r0", 10), 5))
    assert (await world.limiter.admit(a_request("r2", 0, spend=(), rate=(a_rate(10),)))).admitted
    assert not (await world.limiter.admit(a_request("r3", 0, spend=(), rate=(a_rate(1),)))).admitted


@pytest.mark.parametrize("field", ["hold_nano_usd", "floor_nano_usd", "lease_ms"])
@pytest.mark.parametrize("amount", [2**53, -1])
async def test_numbers_that_lua_cannot_count_are_refused_by_name(world: World, field: str, amount: int) -> None:
    with pytest.raises(ValueError, match=field):
        await world.limiter.admit(a_request("r1", **{"hold": 0, field: amount} if field != "hold_nano_usd" else {"hold": amount}))
    with pytest.raises(ValueError, match="cost_nano_usd"):
        await world.limiter.settle(an_account(a_request("r1"), amount))


async def test_the_largest_amounts_are_counted_exactly(world: World) -> None:
    most = 2**53 - 1
    spend = (a_spend(most),)
    request = a_request("r1", most, spend=spend)
    assert (await world.limiter.admit(request)).admitted
    assert await spent_and_held(world, spend[0]) == (0, most)
    await world.limiter.settle(an_account(request, most - 2))
    assert await spent_and_held(world, spend[0]) == (most - 2, 0)
    assert (await world.limiter.admit(a_request("r2", 2, spend=spend))).admitted
    assert not (await world.limiter.admit(a_request("r3", 1, spend=spend))).admitted


async def test_open_requests_go_back_whichever_way_they_end(world: World) -> None:
    slots = (a_rate(1, capacity=3, quantity=Quantity.OPEN_REQUESTS),)
    requests = [a_request(f"r{i}", 10, rate=slots) for i in range(3)]
    for request in requests:
        assert (await world.limiter.admit(request)).admitted
    refused = await world.limiter.admit(a_request("r9", 10, rate=slots))
    assert (refused.refused_by, refused.retry_after_ms) == ("org:open_requests_limit", 1000)
    await world.limiter.settle(an_account(requests[0], 1))
    await world.limiter.settle(an_account(requests[1], is_owed=False))
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")  # expires the third
    decision = await world.limiter.admit(a_request("r10", 10, rate=slots))
    assert decision.rate[0].remaining == 2


ALL_RATES = (
    a_rate(2, capacity=10),
    a_rate(300, capacity=1000, quantity=Quantity.TOKENS),
    a_rate(1, capacity=4, quantity=Quantity.OPEN_REQUESTS),
)


async def test_a_withdrawn_admission_gives_everything_back_and_tells_nobody(world: World) -> None:
    request = a_request("r1", 100, rate=ALL_RATES, floor_nano_usd=30)
    await world.limiter.admit(request)
    for _ in range(2):
        await world.limiter.withdraw(request)
        assert await spent_and_held(world) == (0, 0)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (0, 0)
    assert await world.events("acme") == []
    fresh = await world.limiter.admit(a_request("r2", 100, rate=ALL_RATES))
    assert [state.remaining for state in fresh.rate] == [8, 700, 3]


async def test_an_admission_that_comes_after_its_withdrawal_takes_no_hold(world: World) -> None:
    request = a_request("r1", 100, rate=ALL_RATES)
    await world.limiter.withdraw(request)
    with pytest.raises(ReservationEndedError):
        await world.limiter.admit(request)
    assert await spent_and_held(world) == (0, 0)
    assert (await world.limiter.admit(a_request("r2", 100, rate=ALL_RATES))).rate[2].remaining == 3


async def test_a_withdrawal_is_forgotten_with_everything_else_that_has_ended(world: World) -> None:
    await world.limiter.withdraw(a_request("r1"))
    world.clock.now_ms += ENDED_MS
    await world.sweep("acme")
    state = await world.state("acme")
    assert (state["holds"], state["due"]) == ({}, {})


async def test_a_withdrawal_after_the_lease_takes_back_what_its_end_charged(world: World) -> None:
    request = a_request("r1", 100, floor_nano_usd=30, floor_prompt_tokens=3)
    await world.limiter.admit(request)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (30, 0)
    for _ in range(2):
        await world.limiter.withdraw(request)
        assert await spent_and_held(world) == (0, 0)
    told = [(event["kind"], event["posted_nano_usd"], event["event"]) for event in await world.events("acme")]
    assert told == [("expired", "30", '{"event_id":"r1"}'), ("late", "-30", '{"event_id":"r1"}')]


async def test_a_withdrawal_of_what_was_settled_changes_nothing(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.settle(an_account(request, 40))
    await world.limiter.withdraw(request)
    assert await spent_and_held(world) == (40, 0)
    assert len(await world.events("acme")) == 1


async def test_a_look_decides_as_an_admission_and_takes_nothing(world: World) -> None:
    slots = a_rate(1, capacity=2, quantity=Quantity.OPEN_REQUESTS)
    asked = a_request("look", 900, rate=(a_rate(), slots))
    before = await world.state("acme")
    looked = await world.limiter.preview(asked)
    assert (looked.admitted, looked.held_nano_usd, looked.rate[0].remaining) == (True, 0, 10)
    assert await world.state("acme") == before

    await world.limiter.admit(a_request("r1", 200, rate=(slots,)))
    refused = await world.limiter.preview(asked)
    assert refused == await world.limiter.admit(asked)
    assert (refused.admitted, refused.refused_by) == (False, "org:spend_7d")
    await world.limiter.admit(a_request("r2", 0, rate=(slots,)))
    assert (await world.limiter.preview(a_request("look", 0, rate=(slots,)))).refused_by == "org:open_requests_limit"


async def test_a_look_that_finds_a_pause_tells_of_it_and_a_dead_workers_hold_is_none(world: World) -> None:
    await world.limiter.admit(a_request("dead", 1000, lease_ms=1000))
    assert (await world.limiter.preview(a_request("look", 1))).refused_by == "org:spend_7d"
    world.clock.now_ms += 1000
    assert (await world.limiter.preview(a_request("look", 1))).admitted

    await world.limiter.settle(an_account(a_request("r1", 1000), 1000))
    assert (await world.limiter.preview(a_request("look", 1))).retry_after_ms > DAY_MS
    assert [notice["type"] for notice in await world.notices("acme")][-1] == "spend.paused"
