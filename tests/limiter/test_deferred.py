"""What is held beyond an answer, over every implementation: for days, in parts, and again after the store has lost it."""

import pytest
from limiter_values import DAY_MS, MINUTE_MS, a_rate, a_request, a_spend, an_account
from limiter_world import World
from msgspec.structs import replace

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.port import ReservationEndedError


def deferred(request: AdmissionRequest, *, lease_ms: int = DAY_MS, **changes: object) -> Account:
    """An account that is charged whole if nothing more is heard of it."""
    account = an_account(replace(request, lease_ms=lease_ms), request.hold_nano_usd, job=b'{"id":"job"}')
    return replace(account, **changes)


def part(whole: AdmissionRequest, name: str, cost: int) -> Account:
    return replace(an_account(a_request(name, 0, spend=whole.spend), cost, 1, 2), part_of=whole.reservation_id)


async def spent_and_held(world: World) -> tuple[int, int]:
    (reading,) = await world.limiter.read_windows("acme", (a_spend(),))
    return reading.spent_nano_usd, reading.held_nano_usd


async def test_a_deferred_hold_outlives_its_lease_and_is_settled_once(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    settlement = await world.limiter.defer(deferred(request))
    assert (settlement.late, settlement.unheld, settlement.repeated) == (False, False, False)
    world.clock.now_ms += 10 * MINUTE_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (0, 100)

    await world.limiter.settle(an_account(request, 40))
    assert (await world.limiter.settle(an_account(request, 40))).repeated
    assert (await world.limiter.defer(deferred(request))).repeated
    assert await spent_and_held(world) == (40, 0)
    assert [(event["kind"], event["event"]) for event in await world.events("acme")] == [
        ("deferred", '{"id":"job"}'),
        ("settled", '{"final":true}'),
    ]


async def test_deferring_ends_an_open_request_and_only_that(world: World) -> None:
    rate = (a_rate(1, capacity=1, quantity=Quantity.OPEN_REQUESTS), a_rate(50, capacity=60, quantity=Quantity.TOKENS))
    request = a_request("r1", 100, rate=rate)
    await world.limiter.admit(request)
    assert (await world.limiter.admit(a_request("r2", 1, rate=rate[:1]))).refused_by == rate[0].key
    await world.limiter.defer(deferred(request))
    await world.limiter.defer(deferred(request))
    assert (await world.limiter.admit(a_request("r3", 1, rate=rate[:1]))).admitted
    assert (await world.limiter.admit(a_request("r4", 1, rate=rate[1:]))).refused_by == rate[1].key
    await world.limiter.settle(an_account(request, 1, 5, 5))
    assert (await world.limiter.admit(a_request("r4", 1, rate=rate[1:]))).admitted


async def test_whatever_is_never_settled_is_charged_as_it_was_held(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.defer(deferred(request))
    world.clock.now_ms += DAY_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (100, 0)
    assert [event["kind"] for event in await world.events("acme")] == ["deferred", "expired"]
    assert (await world.limiter.defer(deferred(request))).late  # a replay changes nothing that was charged
    assert (await world.limiter.settle(an_account(request, 30))).late
    assert await spent_and_held(world) == (30, 0)


async def test_what_the_store_has_lost_is_held_again_whatever_the_limit(world: World) -> None:
    request = a_request("r1", 2000)
    assert (await world.limiter.defer(deferred(request))).unheld
    assert await spent_and_held(world) == (0, 2000)
    assert not (await world.limiter.admit(a_request("r2", 1))).admitted
    await world.limiter.settle(an_account(request, 40))
    assert await spent_and_held(world) == (40, 0)


async def test_parts_are_paid_out_of_the_hold_and_what_is_left_returns(world: World) -> None:
    whole = a_request("r1", 100)
    await world.limiter.admit(whole)
    await world.limiter.defer(deferred(whole))
    for name, cost in (("p1", 30), ("p2", 20), ("p1", 30)):
        await world.limiter.settle(part(whole, name, cost))
    assert await spent_and_held(world) == (50, 50)
    assert (await world.limiter.settle(part(whole, "p3", 60))).over_nano_usd == 10
    assert await spent_and_held(world) == (110, 0)
    await world.limiter.settle(an_account(whole, is_owed=False))
    assert await spent_and_held(world) == (110, 0)
    assert [event["kind"] for event in await world.events("acme")] == ["deferred", *["settled"] * 3, "released"]


async def test_parts_of_what_was_charged_at_its_end_are_put_right_with_it(world: World) -> None:
    whole = a_request("r1", 100)
    await world.limiter.admit(whole)
    await world.limiter.defer(deferred(whole))
    await world.limiter.settle(part(whole, "p1", 30))
    world.clock.now_ms += DAY_MS
    await world.sweep("acme")
    assert await spent_and_held(world) == (100, 0)  # what was left of the hold
    assert (await world.limiter.settle(part(whole, "p2", 20))).unheld
    await world.limiter.settle(an_account(whole, is_owed=False))
    assert await spent_and_held(world) == (50, 0)


async def test_a_deferred_reservation_is_never_admitted_again(world: World) -> None:
    request = a_request("r1", 100)
    await world.limiter.admit(request)
    await world.limiter.defer(deferred(request))
    with pytest.raises(ReservationEndedError, match="deferred"):
        await world.limiter.admit(request)
    assert await spent_and_held(world) == (0, 100)
