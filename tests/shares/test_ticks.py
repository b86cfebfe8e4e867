"""What is done by the clock is done together."""

import asyncio

from tallygate.shares.ticks import Alarm, last_beat, tick, until_tick


async def test_whoever_waits_for_a_tick_wakes_at_a_whole_multiple_of_its_seconds_or_of_the_beats_that_they_have() -> None:
    loop = asyncio.get_running_loop()
    loop.time = lambda: 990.3  # type: ignore[method-assign]  # 1,100 beats have passed, which are 110 of 9 s
    assert [until_tick(most) for most in (0.02, 0.5, 0.9, 1.0, 2.0, 9.5)] == [0.02, 0.2, 0.6, 0.6, 1.5, 8.7]

    loop.time = lambda: 990.0  # type: ignore[method-assign]
    assert [until_tick(most) for most in (0.5, 1.0)] == [0.5, 0.9], "a tick that is now was waited for"


async def test_a_pause_of_several_beats_ends_with_one() -> None:
    asyncio.get_running_loop().time = lambda: 990.2  # type: ignore[method-assign]
    assert [round(last_beat(most), 6) for most in (0.1, 0.7, 0.9, 1.5, 1.6, 1.8)] == [0.1, 0.7, 0.7, 0.7, 1.6, 1.6]


async def test_whoever_waits_for_the_same_tick_is_woken_by_one_timer_in_their_order() -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at, woken = loop.call_at, list[tuple[str, float]]()

    def counted(when: float, *call: object) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *call)  # type: ignore[arg-type]

    async def waits(name: str, every: float) -> None:
        await tick(every)
        woken.append((name, loop.time()))

    loop.call_at = counted  # type: ignore[assignment,method-assign]
    await asyncio.gather(waits("a", 0.02), waits("b", 0.02), waits("c", 0.02), Alarm().wait(until_tick(0.02)))
    assert len(timers) == 1
    assert [name for name, _ in woken] == ["a", "b", "c"]
    assert all(0 <= at - timers[0] < 10 for _, at in woken), "a tick came before its time"

    await tick(0.02)
    assert timers[1] > timers[0], "a tick that is now was waited for"
    assert [round(when * 1000) % 20 for when in timers] == [0, 0]


async def test_who_was_cancelled_while_waiting_keeps_no_other_from_its_tick() -> None:
    leaves, stays = (asyncio.ensure_future(tick(0.02)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    await stays
    assert leaves.cancelled()


async def test_a_timer_that_is_early_by_a_hair_is_no_second_tick() -> None:
    loop = asyncio.get_running_loop()
    waits, time = [], loop.time
    loop.call_at = lambda when, *_: waits.append(when)  # type: ignore[assignment,method-assign,func-returns-value]
    loop.time = lambda: 1_000.4999999  # type: ignore[method-assign]
    waiting = asyncio.ensure_future(tick(0.5))
    await asyncio.sleep(0)
    loop.time = time  # type: ignore[method-assign]
    waiting.cancel()
    assert waits == [1_001.0]


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
