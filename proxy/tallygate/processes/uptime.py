"""For how long none of some processes has been up, noted as it happens: whoever looks once a second may miss that one was."""

import asyncio
from collections.abc import Callable


class Uptime:
    """What the processes of one kind tell.

    up   set while one is up at least
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds."""
        self.up = asyncio.Event()
        self._clock = clock
        self._number = 0
        self._down_since = clock()

    def came_up(self) -> None:
        self._number += 1
        self.up.set()

    def went_down(self) -> None:
        self._number -= 1
        if not self._number:
            self._down_since = self._clock()
            self.up.clear()

    def down_seconds(self) -> float:
        """Return how long none has been up, since this was made at most; 0 while one is."""
        return 0.0 if self._number else self._clock() - self._down_since
