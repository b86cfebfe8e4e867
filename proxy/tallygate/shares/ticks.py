"""When a process does what it does by the clock: all of it together.

To wake a process costs more than most of what it is woken for, and what is asked of the store in one turn of the loop is one write.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Final
from weakref import WeakKeyDictionary

_Waiting = list["asyncio.Future[None]"]
_WAITING: Final[MutableMapping[asyncio.AbstractEventLoop, dict[int, _Waiting]]] = WeakKeyDictionary()  # by the ms of their wake-up


def until_tick(every: float) -> float:
    """The seconds from now to the next whole multiple of `every` seconds on the loop's clock."""
    return every - asyncio.get_running_loop().time() % every


def last_tick(most: float, every: float) -> float:
    """The seconds from now to the last such multiple that is at most so many away; if none is, those."""
    first = until_tick(every)
    return most if first > most else first + (most - first) // every * every


async def tick(every: float) -> None:
    """Wait for the next whole multiple of `every` seconds on the loop's clock."""
    loop = asyncio.get_running_loop()
    now, step = round(loop.time() * 1000), round(every * 1000)  # whole, so that a timer that is early by a hair is no second tick
    await _woken_at(loop, now - now % step + step)


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
