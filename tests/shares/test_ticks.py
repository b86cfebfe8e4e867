"""What is done by the clock is done together."""

import asyncio

from tallygate.shares.ticks import until_tick


async def test_whoever_waits_for_a_tick_wakes_at_a_whole_multiple_of_its_seconds() -> None:
    loop = asyncio.get_running_loop()
    loop.time = lambda: 1_000.3  # type: ignore[method-assign]
    assert [round(until_tick(every), 6) for every in (0.5, 1.0, 2.0, 10.0)] == [0.2, 0.7, 1.7, 9.7]

    loop.time = lambda: 1_000.5  # type: ignore[method-assign]
    assert [until_tick(every) for every in (0.5, 1.0)] == [0.5, 0.5], "a tick that is now was waited for"
