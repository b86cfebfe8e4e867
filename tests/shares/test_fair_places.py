"""Places are shared, and waited for in turn."""

import asyncio

from tallygate.shares.fair_places import FairPlaces


async def test_one_organization_leaves_room_for_a_newcomer_and_waits_for_itself() -> None:
    places = FairPlaces(8)
    crowd = [asyncio.ensure_future(places.acquire("crowd", seconds=10)) for _ in range(20)]
    await asyncio.sleep(0)
    assert sum(one.done() for one in crowd) == places.taken == 6
    assert await places.acquire("victim", seconds=0)

    places.release("crowd")
    await asyncio.sleep(0)
    assert sum(one.done() for one in crowd) == 6  # its share is smaller now that there are two
    places.release("victim")
    await asyncio.sleep(0)
    assert sum(one.done() for one in crowd) == 7
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert not places._waiting


async def test_organizations_are_served_in_turn_and_each_in_its_own_order() -> None:
    places = FairPlaces(1)
    assert await places.acquire("first", seconds=10)
    served: list[str] = []

    async def wait(org: str, name: str) -> None:
        assert await places.acquire(org, seconds=10)
        served.append(name)
        places.release(org)

    waiting = [asyncio.ensure_future(wait(name[0], name)) for name in ("a1", "a2", "b1", "a3", "b2")]
    await asyncio.sleep(0)
    places.release("first")
    await asyncio.gather(*waiting)
    assert served == ["a1", "b1", "a2", "b2", "a3"]
    assert places.taken == 0


async def test_who_waits_for_too_long_has_none_and_keeps_none() -> None:
    places = FairPlaces(1)
    assert await places.acquire("one", seconds=10)
    assert not await places.acquire("two", seconds=0.01)
    places.release("one")
    assert places.taken == 0
    assert await places.acquire("two", seconds=0)
