"""Calls that are made together."""

import asyncio

import pytest

from tallygate.shares.together import answers


@pytest.mark.parametrize(("calls", "turns"), [(1, 0), (3, 1)])
async def test_one_call_begins_in_the_turn_of_who_makes_it_and_several_begin_together(calls: int, turns: int) -> None:
    begun: list[int] = []

    async def call(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(0)
        return -number

    asked = asyncio.ensure_future(answers([call(number) for number in range(calls)]))
    await asyncio.sleep(0)  # its first turn
    for _ in range(turns):
        assert not begun
        await asyncio.sleep(0)
    assert begun == list(range(calls))
    assert await asked == [-number for number in range(calls)]


async def test_no_call_has_no_answer() -> None:
    assert await answers([]) == []
