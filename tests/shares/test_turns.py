"""Organizations take turns in threads, a step at a time."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Generator
from functools import partial

import pytest

from tallygate.shares.turns import Turns, at_once


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    made = Turns(threads=1, name="test")
    yield made
    made.close()


def steps(done: list[str], name: str, number: int) -> Generator[None, None, str]:
    for _ in range(number):
        done.append(name)
        yield
    return name


async def test_a_newcomer_waits_for_one_step_of_whoever_brought_much(turns: Turns) -> None:
    done: list[str] = []
    crowd = [asyncio.ensure_future(turns.run_in_turn("crowd", steps(done, "crowd", 3))) for _ in range(75)]
    await asyncio.sleep(0)

    assert await turns.run_in_turn("victim", steps(done, "victim", 4)) == "victim"
    assert done.count("crowd") <= 3 * done.count("victim")
    assert await asyncio.gather(*crowd) == ["crowd"] * 75


async def test_one_organizations_work_is_done_in_its_order(turns: Turns) -> None:
    done: list[str] = []
    await asyncio.gather(*[turns.run_in_turn("one", steps(done, name, 2)) for name in "abc"])
    assert done == ["a", "a", "b", "b", "c", "c"]


async def test_work_is_done_in_another_thread_and_its_error_is_the_callers(turns: Turns) -> None:
    assert await turns.run_in_turn("one", at_once(threading.get_ident)) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await turns.run_in_turn("one", at_once(lambda: 1 // 0))
    assert turns.queued("one") == 0


async def test_work_that_nobody_waits_for_any_more_is_dropped(turns: Turns) -> None:
    done: list[str] = []
    gate = threading.Event()
    first = asyncio.ensure_future(turns.run_in_turn("one", at_once(gate.wait)))
    second = asyncio.ensure_future(turns.run_in_turn("one", steps(done, "second", 3)))
    await asyncio.sleep(0)
    assert turns.queued("one") == 2

    second.cancel()
    gate.set()
    assert await first
    await turns.run_in_turn("one", at_once(int))
    assert not done
    assert turns.queued("one") == 0


async def test_closing_ends_whoever_waits(turns: Turns) -> None:
    gate = threading.Event()
    running = asyncio.ensure_future(turns.run_in_turn("one", at_once(gate.wait)))
    waiting = asyncio.ensure_future(turns.run_in_turn("one", at_once(int)))
    await asyncio.sleep(0)
    turns.close()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await running


async def test_an_error_keeps_nothing_of_the_work_alive(turns: Turns) -> None:
    class Body:
        """What the work is about."""

    def refuse(body: Body) -> None:
        raise ValueError(str(body))

    async def ask() -> "weakref.ref[Body]":
        body = Body()
        with pytest.raises(ValueError, match="Body"):
            await turns.run_in_turn("one", at_once(partial(refuse, body)))
        return weakref.ref(body)

    gc.collect()
    gc.disable()
    try:
        kept = [await ask() for _ in range(3)]
        await asyncio.sleep(0.05)
        await turns.run_in_turn("one", at_once(int))
        assert [one() for one in kept] == [None, None, None]
    finally:
        gc.enable()
