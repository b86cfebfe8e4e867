"""What is done by the clock is done together."""

import asyncio

from tallygate.shares.ticks import Alarm, last_tick, until_tick


async def test_whoever_waits_for_a_tick_wakes_at_a_whole_multiple_of_its_seconds() -> None:
    loop = asyncio.get_running_loop()
    loop.time = lambda: 1_000.3  # type: ignore[method-assign]
    assert [round(until_tick(every), 6) for every in (0.5, 1.0, 2.0, 10.0)] == [0.2, 0.7, 1.7, 9.7]

    loop.time = lambda: 1_000.5  # type: ignore[method-assign]
    assert [until_tick(every) for every in (0.5, 1.0)] == [0.5, 0.5], "a tick that is now was waited for"


async def test_a_pause_of_several_ticks_ends_with_one() -> None:
    asyncio.get_running_loop().time = lambda: 1_000.25  # type: ignore[method-assign]
    assert [last_tick(most, 0.5) for most in (0.1, 0.25, 0.5, 0.75, 1.6, 2.0)] == [0.1, 0.25, 0.25, 0.75, 1.25, 1.75]


async def test_an_alarm_ends_a_pause_that_is_under_way_and_else_the_next_one_until_it_is_cleared() -> None:
    alarm, never = Alarm(), 1e6
    pause = asyncio.ensure_future(alarm.wait(never))
    await asyncio.sleep(0)
    assert not pause.done()
    alarm.set()
    await pause
    await alarm.wait(never)

    alarm.clear()
    pause = asyncio.ensure_future(alarm.wait(never))
    await asyncio.sleep(0)
    assert not pause.done()
    pause.cancel()
    await asyncio.gather(pause, return_exceptions=True)
    alarm.set()  # nobody waits any more

    alarm.clear()
    await alarm.wait(0)
    assert not alarm.is_set, "the pause was over"
