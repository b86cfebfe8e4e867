"""When a process does what it does by the clock: all of it together.

To wake a process costs more than most of what it is woken for, and what is asked of the store in one turn of the loop is one write.
"""

import asyncio


def until_tick(every: float) -> float:
    """The seconds from now to the next whole multiple of `every` seconds on the loop's clock."""
    return every - asyncio.get_running_loop().time() % every


def last_tick(most: float, every: float) -> float:
    """The seconds from now to the last such multiple that is at most so many away; if none is, those."""
    first = until_tick(every)
    return most if first > most else first + (most - first) // every * every


class Alarm:
    """A pause of one that waits, which can be cut short. `asyncio.timeout` cancels the task for it, at several times the cost."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """End the pause, or the next one at once."""
        self.is_set = True
        self._end()

    def clear(self) -> None:
        self.is_set = False

    async def wait(self, seconds: float) -> None:
        """Return once it is set, or after so many seconds."""
        if self.is_set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._end)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
