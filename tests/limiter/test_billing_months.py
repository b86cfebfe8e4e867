"""A limit of $800 a month that begins on an organization's billing day, by a clock that is driven over its midnight."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from limiter_values import HOUR_MS, a_request, an_account
from limiter_world import World

from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.exchange.caller_limits import limits_of

ZONE = "America/New_York"
USD = 10**9
LIMIT = SpendLimit(name="spend_month", limit_nano_usd=800 * USD, window_ms=0, warn_at_permille=(500, 1000))
CREDENTIAL = Credential(id="acme-prod", org="acme", key_sha256=bytes(32))


def local(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


async def spend(world: World, name: str, usd: int, billing_day: int) -> Any:
    """What admission decided; what was admitted is settled at once."""
    organization = Organization(
        id="acme", name="Acme", plan=Plan(id="pro", spend_limits=(LIMIT,)), time_zone=ZONE, billing_day=billing_day
    )
    demands = limits_of(organization, CREDENTIAL, "chat").spend_demands(world.clock())
    request = a_request(name, usd * USD, spend=demands)
    decision = await world.limiter.admit(request)
    if decision.admitted:
        await world.limiter.settle(an_account(request, usd * USD))
    return decision


@pytest.mark.parametrize(
    ("billing_day", "begins", "ends"),
    [
        (1, "2026-11-01T00:00", "2026-12-01T00:00"),  # the clock is put back in it
        (15, "2026-02-15T00:00", "2026-03-15T00:00"),  # and forward
        (31, "2027-01-31T00:00", "2027-02-28T00:00"),
        (31, "2028-01-31T00:00", "2028-02-29T00:00"),
        (30, "2028-02-29T00:00", "2028-03-30T00:00"),
    ],
)
async def test_a_pause_by_a_monthly_limit_ends_at_the_midnight_of_the_billing_day(
    world: World, billing_day: int, begins: str, ends: str
) -> None:
    world.clock.now_ms = local(begins) - 1
    assert (await spend(world, "before", 800, billing_day)).admitted
    world.clock.now_ms = local(begins)
    assert (await spend(world, "begun", 500, billing_day)).admitted
    world.clock.now_ms = local(ends) - 5 * HOUR_MS  # past midnight in UTC already
    refused = await spend(world, "too-much", 301, billing_day)

    assert (refused.admitted, refused.refused_by, refused.retry_after_ms) == (False, "org:spend_month", 5 * HOUR_MS)
    assert refused.spend[0].resume_at_ms == local(ends)
    assert (await spend(world, "small", 300, billing_day)).admitted
    world.clock.now_ms = local(ends) - 1
    assert not (await spend(world, "last", 1, billing_day)).admitted
    world.clock.now_ms = local(ends)
    resumed = await spend(world, "resumed", 800, billing_day)
    assert (resumed.admitted, resumed.spend[0].spent_nano_usd) == (True, 0)


async def test_each_month_warns_anew(world: World) -> None:
    for month, at in enumerate(("2026-11-14T23:59", "2026-11-15T00:00", "2026-12-15T00:00")):
        world.clock.now_ms = local(at)
        await spend(world, f"half-{month}", 400, 15)
        await spend(world, f"whole-{month}", 400, 15)

    warned = [notice for notice in await world.notices("acme") if notice["type"] == "spend.warning"]
    assert [notice["spent_nano_usd"] for notice in warned] == [400 * USD, 800 * USD] * 3


@pytest.mark.parametrize(("before", "after"), [(1, 15), (15, 1), (20, 10), (10, 20), (28, 31)])
async def test_another_billing_day_gives_no_more_room_than_the_old_month_until_it_is_rebuilt(
    world: World, before: int, after: int
) -> None:
    """Whatever day the change comes on: what the old month has spent counts until it is over."""
    world.clock.now_ms = local("2026-11-05T12:00")
    assert (await spend(world, "old", 800, before)).admitted
    for day in range(5, before if before > 5 else 31):
        world.clock.now_ms = local(f"2026-11-{day:02d}T13:00")
        assert not (await spend(world, f"new-{day}", 1, after)).admitted
