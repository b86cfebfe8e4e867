"""When a window counts as paused, and what is told of it: paused, resumed, and thresholds crossed."""

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

from tallygate.domain.admission import SpendDemand

FULL_WEEK_MS = (WEEK_BUCKETS + 1) * BUCKET_MS
KEY = "org:spend_7d"


async def spend(world: World, name: str, cost: int, **changes: object) -> bool:
    request = a_request(name, cost, **changes)
    if not (await world.limiter.admit(request)).admitted:
        return False
    await world.limiter.settle(an_account(request, cost))
    return True


async def paused_until(world: World, demand: SpendDemand | None = None) -> int:
    (reading,) = await world.limiter.read_windows("acme", (demand or a_spend(),))
    return reading.paused_until_ms


async def types(world: World) -> list[str]:
    return [notice["type"] for notice in await world.notices("acme") if notice["type"] != "spend.warning"]


def quiet(limit: int = 1000, **changes: object) -> tuple[SpendDemand, ...]:
    """A window without thresholds."""
    return (a_spend(limit, warn_at_permille=(), **changes),)


async def test_a_refusal_pauses_and_an_admission_of_as_much_resumes(world: World) -> None:
    assert await spend(world, "r1", 900, spend=quiet())
    refused = await world.limiter.admit(a_request("r2", 200, spend=quiet()))
    resumes_at = START_MS + FULL_WEEK_MS
    assert await paused_until(world) == refused.spend[0].resume_at_ms == resumes_at
    assert await spend(world, "small", 50, spend=quiet())  # less than what was refused: says nothing of it
    assert await paused_until(world) == resumes_at

    world.clock.now_ms += MINUTE_MS
    assert (await world.limiter.admit(a_request("roomier", 200, spend=quiet(2000)))).admitted
    assert await paused_until(world) == 0
    window = {"limit": KEY, "limit_nano_usd": 1000}
    assert await world.notices("acme") == [
        {
            **window,
            "type": "spend.paused",
            "spent_nano_usd": 900,
            "held_nano_usd": 0,
            "refused_nano_usd": 200,
            "resumes_at_ms": resumes_at,
        },
        {**window, "type": "spend.resumed", "spent_nano_usd": 950, "held_nano_usd": 200, "limit_nano_usd": 2000},
    ]


async def test_a_pause_tells_in_an_entry_of_its_own(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    await world.limiter.admit(a_request("r2", 200, spend=quiet()))
    entry = (await world.told("acme"))[-1]
    assert {name: entry[name] for name in entry if name != "event"} == {
        "event_id": f"ntc-acme-{KEY}-spend.paused-{START_MS}",
        "kind": "notice",
        "settled_at_ms": str(START_MS),
    }


async def test_a_pause_ends_by_itself_when_its_instant_comes(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    refused = await world.limiter.admit(a_request("r2", 200, spend=quiet()))
    world.clock.now_ms = refused.spend[0].resume_at_ms - 1
    await world.sweep("acme")
    assert await types(world) == ["spend.paused"]
    world.clock.now_ms += 1
    await world.sweep("acme")
    assert await types(world) == ["spend.paused", "spend.resumed"]
    assert await paused_until(world) == 0
    assert (await world.notices("acme"))[-1] == {
        "type": "spend.resumed",
        "limit": KEY,
        "spent_nano_usd": 0,
        "held_nano_usd": 0,
        "limit_nano_usd": 1000,
    }


async def test_a_calendar_month_is_paused_until_its_end(world: World) -> None:
    month = (a_month(),)
    await spend(world, "r1", 900, spend=month)
    await world.limiter.admit(a_request("r2", 200, spend=month))
    month_ms = 31 * DAY_MS
    assert await paused_until(world, month[0]) == START_MS + month_ms
    world.clock.now_ms = START_MS + month_ms
    await world.sweep("acme")
    assert await paused_until(world, month[0]) == 0
    assert await types(world) == ["spend.paused", "spend.resumed"]
    assert (await world.notices("acme"))[-1]["spent_nano_usd"] == 0


async def test_the_smallest_refused_amount_decides_until_when(world: World) -> None:
    await spend(world, "r1", 500, spend=quiet())
    world.clock.now_ms += HOUR_MS
    await spend(world, "r2", 400, spend=quiet())
    first, last = START_MS + FULL_WEEK_MS, START_MS + HOUR_MS + FULL_WEEK_MS
    await world.limiter.admit(a_request("large", 800, spend=quiet()))
    assert await paused_until(world) == last
    await world.limiter.admit(a_request("less", 300, spend=quiet()))
    assert await paused_until(world) == first
    await world.limiter.admit(a_request("large again", 800, spend=quiet()))
    assert await paused_until(world) == first


async def test_a_while_after_the_last_refusal_any_admission_resumes(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    await world.limiter.admit(a_request("r2", 200, spend=quiet()))
    world.clock.now_ms += 2 * MINUTE_MS
    await world.limiter.admit(a_request("r3", 200, spend=quiet()))
    world.clock.now_ms += 5 * MINUTE_MS - 1
    assert await spend(world, "small", 1, spend=quiet())
    assert await types(world) == ["spend.paused"]
    world.clock.now_ms += 1
    assert await spend(world, "small again", 1, spend=quiet())
    assert await types(world) == ["spend.paused", "spend.resumed"]


async def test_refusals_of_a_paused_window_write_nothing_but_once_a_minute(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    await world.limiter.admit(a_request("r2", 200, spend=quiet()))
    before = await world.state("acme")
    for i in range(20):
        await world.limiter.admit(a_request(f"again{i}", 200 + i, spend=quiet()))
        world.clock.now_ms += 2_999
    assert await world.state("acme") == before
    world.clock.now_ms += 60
    await world.limiter.admit(a_request("minute", 200, spend=quiet()))
    assert await world.state("acme") != before


async def flap(world: World, name: str) -> None:
    """Refused, and admitted a second later."""
    assert not (await world.limiter.admit(a_request(name, 200, spend=quiet()))).admitted
    world.clock.now_ms += 1_000
    wide = a_request(f"{name}-wide", 200, spend=quiet(10_000))
    assert (await world.limiter.admit(wide)).admitted
    await world.limiter.settle(an_account(wide, is_owed=False))
    assert await paused_until(world) == 0


async def test_a_window_that_flaps_tells_of_it_once_an_hour(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    for i in range(5):
        await flap(world, f"f{i}")
    assert await types(world) == ["spend.paused", "spend.resumed"]
    world.clock.now_ms = START_MS + HOUR_MS
    await flap(world, "early")
    assert await types(world) == ["spend.paused", "spend.resumed"]  # an hour after the pause, but not after its end
    world.clock.now_ms += 1_000
    await flap(world, "next hour")
    assert await types(world) == ["spend.paused", "spend.resumed"] * 2


async def test_a_pause_that_could_not_be_told_is_told_when_it_lasts(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    await flap(world, "f")
    await world.limiter.admit(a_request("long", 200, spend=quiet()))
    world.clock.now_ms += HOUR_MS - 1
    await world.limiter.admit(a_request("still", 200, spend=quiet()))
    assert await types(world) == ["spend.paused", "spend.resumed"]
    world.clock.now_ms += 1
    await world.limiter.admit(a_request("yet", 200, spend=quiet()))
    assert await types(world) == ["spend.paused", "spend.resumed", "spend.paused"]


async def test_a_pause_that_was_not_told_ends_silently(world: World) -> None:
    await spend(world, "r1", 900, spend=quiet())
    await flap(world, "f")
    refused = await world.limiter.admit(a_request("untold", 200, spend=quiet()))
    world.clock.now_ms = refused.spend[0].resume_at_ms
    await world.sweep("acme")
    assert await paused_until(world) == 0
    assert await types(world) == ["spend.paused", "spend.resumed"]


@pytest.mark.parametrize("why", ["shadow", "holds alone", "never fits", "backlog"])
async def test_what_is_no_pause(world: World, why: str) -> None:
    demand = quiet(shadow=why == "shadow")
    if why == "holds alone":
        await world.limiter.admit(a_request("open", 900, spend=demand))
    else:
        await spend(world, "r1", 900, spend=demand)
    world.limiter.close_for_backlog(why == "backlog")
    amount = 1001 if why == "never fits" else 200
    refusing = (a_rate(1, capacity=1),) if why == "shadow" else ()
    for name in ("r2", "r3"):
        await world.limiter.admit(a_request(name, amount, spend=demand, rate=refusing))
    assert await paused_until(world, demand[0]) == 0
    assert await types(world) == []


async def test_each_window_has_a_pause_of_its_own(world: World) -> None:
    narrow = a_spend(250, key="cred:c1:spend_7d", warn_at_permille=())
    both = (*quiet(), narrow)
    await spend(world, "r1", 200, spend=both)
    await world.limiter.admit(a_request("r2", 100, spend=both))
    assert (await paused_until(world), await paused_until(world, narrow) > 0) == (0, True)
    assert await spend(world, "r3", 100, spend=quiet())  # another credential
    assert await paused_until(world, narrow) > 0
    assert [notice["limit"] for notice in await world.notices("acme")] == ["cred:c1:spend_7d"]


async def test_each_threshold_crossed_is_told_with_the_window_as_it_stands(world: World) -> None:
    other = a_request("open", 100)
    await world.limiter.admit(other)
    assert await spend(world, "r1", 850)
    base = {"type": "spend.warning", "limit": KEY, "spent_nano_usd": 850, "held_nano_usd": 100, "limit_nano_usd": 1000}
    assert await world.notices("acme") == [{**base, "threshold_permille": 500}, {**base, "threshold_permille": 800}]
    ids = [entry["event_id"] for entry in await world.told("acme")]
    assert ids == [f"ntc-acme-{KEY}-spend.warning.500-{START_MS}", f"ntc-acme-{KEY}-spend.warning.800-{START_MS}", "r1"]


async def test_a_hold_that_expires_above_a_threshold_tells_of_it_and_its_settlement_does_not_again(world: World) -> None:
    request = a_request("r1", 900, floor_nano_usd=600)
    await world.limiter.admit(request)
    world.clock.now_ms += MINUTE_MS
    await world.sweep("acme")
    (notice,) = await world.notices("acme")
    assert (notice["threshold_permille"], notice["spent_nano_usd"], notice["held_nano_usd"]) == (500, 600, 0)
    assert (await world.limiter.settle(an_account(request, 700))).warned == ()
    assert len(await world.notices("acme")) == 1


async def test_a_pause_that_is_over_but_not_swept_ends_before_the_next_begins(world: World) -> None:
    await spend(world, "r1", 500, spend=quiet())
    world.clock.now_ms += HOUR_MS
    await spend(world, "r2", 400, spend=quiet())
    refused = await world.limiter.admit(a_request("r3", 200, spend=quiet()))
    first, last = START_MS + FULL_WEEK_MS, START_MS + HOUR_MS + FULL_WEEK_MS
    assert refused.spend[0].resume_at_ms == first
    for i in range(9):  # more than an admission sweeps, and due before the pause's end
        await world.limiter.admit(a_request(f"open{i}", 1, spend=quiet(), lease_ms=FULL_WEEK_MS - HOUR_MS - 1))
    world.clock.now_ms = first
    await world.limiter.admit(a_request("r4", 700, spend=quiet()))
    assert await paused_until(world) == last
    assert await types(world) == ["spend.paused", "spend.resumed"]
