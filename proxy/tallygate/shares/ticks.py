"""When a process does what it does by the clock: all of it together.

To wake a process costs more than most of what it is woken for, and what is asked of the store in one turn of the loop is one write.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Final
from weakref import WeakKeyDictionary

# What is done every so many seconds is done at whole multiples of it: what may be a second old each time, what may be two seconds
# old every other time.
BEAT_SECONDS: Final = 0.9

_Waiting = list["asyncio.Future[None]"]
_WAITING: Final[MutableMapping[asyncio.AbstractEventLoop, dict[int, _Waiting]]] = WeakKeyDictionary()  # by the ms of their wake-up


def until_tick(most: float) -> float:
    """The seconds from now to the next whole multiple, on the loop's clock, of the most beats that `most` seconds have.

    If they have none, to the next multiple of themselves.
    """
    now = _now_ms(asyncio.get_running_loop())
    return (_next_tick_ms(now, most) - now) / 1000


def last_beat(most: float) -> float:
    """The seconds from now to the last beat that is at most so many away; if none is, those."""
    first = until_tick(BEAT_SECONDS)
    return most if first > most else first + (most - first) // BEAT_SECONDS * BEAT_SECONDS


async def tick(most: float) -> None:
    """Wait for the next such multiple."""
    loop = asyncio.get_running_loop()
    await _woken_at(loop, _next_tick_ms(_now_ms(loop), most))


def _next_tick_ms(now_ms: int, most: float) -> int:
    every, beat = round(most * 1000), round(BEAT_SECONDS * 1000)
    if every > beat:
        every -= every % beat
    return now_ms - now_ms % every + every


def _now_ms(loop: asyncio.AbstractEventLoop) -> int:
    return round(loop.time() * 1000)  # whole, so that a timer that is early by a hair is no second tick


def _woken_at(loop: asyncio.AbstractEventLoop, at_ms: int) -> "asyncio.Future[None]":
    """Done at this time of the loop's clock. One timer wakes all who wait for a time, in the order in which they came."""
    times = _WAITING.get(loop)
    if times is None:
        times = _WAITING[loop] = {}
    waiting = times.get(at_ms)
    if waiting is None:
        waiting = times[at_ms] = []
        loop.call_at(at_ms / 1000, _wake, times, at_ms)
    future = loop.create_future()
    waiting.append(future)
    return future


def _wake(times: dict[int, _Waiting], at_ms: int) -> None:
    for future in times.pop(at_ms):
        if not future.done():  # who waited may have been cancelled
            future.set_result(None)


class Alarm:
    """A pause of one that waits, which can be cut short. `asyncio.timeout` cancels the task for it, at several times the cost."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """End the pause, or the next one at once."""
        self.is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self.is_set = False

    async def wait(self, seconds: float) -> None:
        """Return once it is set, or after so many seconds."""
        if self.is_set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = _woken_at(loop, round((loop.time() + seconds) * 1000))
        try:
            await self._waiter
        finally:
            self._waiter = None
