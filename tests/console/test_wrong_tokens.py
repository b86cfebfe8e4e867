"""Wrong admin tokens wait, right ones do not, and neither memory nor the number of those who wait grows with the attempts."""

import asyncio

from tallygate.console.wrong_tokens import (
    ADDRESSES_MAX,
    FIRST_SECONDS,
    FREE,
    MOST_SECONDS,
    QUIET_MS,
    WAITING_MAX,
    WAITING_OF_ONE_MAX,
    WrongTokens,
)


class Clock:
    def __init__(self) -> None:
        self.now_ms = 0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def wrong_tokens(clock: Clock) -> WrongTokens:
    return WrongTokens(now_ms=lambda: clock.now_ms, sleep=clock.sleep)


async def test_the_first_are_free_and_then_each_waits_twice_as_long_up_to_a_bound() -> None:
    clock = Clock()
    wrong = wrong_tokens(clock)
    for _ in range(FREE + 8):
        assert await wrong.slow_down("10.0.0.1", "/metrics")

    assert clock.slept == [min(FIRST_SECONDS * 2**number, MOST_SECONDS) for number in range(8)]
    assert wrong.count == FREE + 8


async def test_a_quiet_minute_and_another_address_begin_anew() -> None:
    clock = Clock()
    wrong = wrong_tokens(clock)
    for _ in range(FREE):
        await wrong.slow_down("10.0.0.1", "/")
    await wrong.slow_down("10.0.0.2", "/")
    clock.now_ms += QUIET_MS
    await wrong.slow_down("10.0.0.1", "/")
    assert clock.slept == []


async def test_addresses_of_one_ipv6_network_are_one() -> None:
    clock = Clock()
    wrong = wrong_tokens(clock)
    for number in range(FREE + 1):
        await wrong.slow_down(f"2001:db8::{number:x}", "/")
    assert clock.slept == [FIRST_SECONDS]


async def test_those_who_wait_are_bounded_of_one_address_and_in_all() -> None:
    gate = asyncio.Event()

    async def held(_seconds: float) -> None:
        await gate.wait()

    wrong = WrongTokens(now_ms=lambda: 0, sleep=held)
    for address in range(100):
        for _ in range(FREE):
            await wrong.slow_down(f"10.0.0.{address}", "/")
    of_one = [asyncio.ensure_future(wrong.slow_down("10.0.0.1", "/")) for _ in range(WAITING_OF_ONE_MAX + 5)]
    await asyncio.sleep(0)
    assert [task.result() for task in of_one if task.done()] == [False] * 5
    others = [asyncio.ensure_future(wrong.slow_down(f"10.0.0.{number % 98 + 2}", "/")) for number in range(WAITING_MAX)]
    await asyncio.sleep(0)
    assert [task.result() for task in others if task.done()] == [False] * WAITING_OF_ONE_MAX
    gate.set()
    assert all(await asyncio.gather(*of_one[:WAITING_OF_ONE_MAX]))
    await asyncio.gather(*others)


async def test_only_so_many_addresses_are_remembered() -> None:
    wrong = wrong_tokens(Clock())
    for number in range(ADDRESSES_MAX + 100):
        await wrong.slow_down(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "/")
    assert len(wrong._addresses) == ADDRESSES_MAX
