"""What a look-up of an object's owner asks, and what it does when nobody answers."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tallygate.domain.errors import StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.domain.organization import Organization, Plan
from tallygate.gateway import object_owners
from tallygate.gateway.object_owners import ObjectOwners, OwnersBusyError
from tallygate.limiter.object_marks import MemoryObjectMarks

ACME = Organization(id="acme", name="", plan=Plan(id="paid", history_days=7))
BIG = Organization(id="big", name="", plan=Plan(id="paid"))
DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS + 5


def an_object(id_: str = "file-1") -> MadeObject:
    return MadeObject(kind="file", id=id_, upstream="default")


class Records:
    """A ledger that counts its questions. open: answers once it is set."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, MadeObject], int | None] = {}
        self.asked: list[tuple[str, int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.is_away = False
        self.at_once = self.at_once_max = 0

    async def __call__(self, org: str, objects: Sequence[MadeObject], *, since_ms: int) -> Mapping[MadeObject, int | None]:
        self.asked.append((org, since_ms))
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.is_away:
            raise StoreError("away")
        return {made: self.kept[org, made] for made in objects if (org, made) in self.kept}


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.marks, self.records = MemoryObjectMarks(), Records()
        self.owners = ObjectOwners(self.marks, self.records, clock=lambda: self.now, now_ms=lambda: NOW_MS)


@pytest.fixture
def world() -> World:
    return World()


async def test_what_is_marked_costs_no_question_to_the_ledger(world: World) -> None:
    world.owners.remember(ACME, [an_object()])

    assert await world.owners.owned(ACME, [an_object()]) == {an_object(): None}
    assert world.records.asked == []


async def test_what_the_store_forgot_is_asked_once_within_the_history_and_marked_again(world: World) -> None:
    world.records.kept["acme", an_object()] = 7
    for _ in range(2):
        assert await world.owners.owned(ACME, [an_object()]) == {an_object(): 7}

    assert world.records.asked == [("acme", 993 * DAY_MS)]


async def test_an_unknown_object_is_remembered_for_less_than_a_second(world: World) -> None:
    for _ in range(100):
        assert await world.owners.owned(ACME, [an_object()]) == {}
    assert len(world.records.asked) == 1

    world.records.kept["acme", an_object()] = None
    world.now += 0.99
    assert await world.owners.owned(ACME, [an_object()]) == {an_object(): None}


async def test_what_is_made_is_known_though_it_was_unknown_before(world: World) -> None:
    await world.owners.owned(ACME, [an_object()])
    world.owners.remember(ACME, [an_object()])

    assert an_object() in await world.owners.owned(ACME, [an_object()])


async def test_without_the_store_the_ledger_alone_tells_and_without_both_nobody(world: World) -> None:
    world.marks.is_away = True
    world.records.kept["acme", an_object()] = None
    assert an_object() in await world.owners.owned(ACME, [an_object()])

    world.records.is_away = True
    with pytest.raises(StoreError):
        await world.owners.owned(ACME, [an_object("file-2")])
    world.owners.remember(ACME, [an_object()])  # the event tells the ledger
    world.owners.forget(ACME, [an_object()])


async def test_guessing_is_bounded_and_leaves_room_for_others(world: World) -> None:
    world.records.open.clear()
    world.records.kept["big", an_object()] = None
    guesses = [asyncio.ensure_future(world.owners.owned(ACME, [an_object(f"file-{n}")])) for n in range(100)]
    asked = asyncio.ensure_future(world.owners.owned(BIG, [an_object()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(world.records.asked) == [("acme", 993 * DAY_MS)] * 2 + [("big", 0)]
    world.records.open.set()

    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    refused = sum(isinstance(outcome, OwnersBusyError) for outcome in outcomes)
    assert refused == 100 - object_owners.WAITING_MAX
    assert await asked == {an_object(): None}
    assert world.records.at_once_max <= object_owners.ASKED_MAX


async def test_a_ledger_that_does_not_answer_in_time_is_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_owners, "ANSWER_SECONDS", 0.01)
    world.records.open.clear()

    with pytest.raises(StoreError):
        await world.owners.owned(ACME, [an_object()])
