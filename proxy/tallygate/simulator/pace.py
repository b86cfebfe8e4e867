"""The pace of generated tokens, so that a mock answer takes time like a real one."""

from collections.abc import Awaitable, Callable
from typing import Final

EVENTS_PER_TURN: Final = 8  # without a pace, events sent before other requests get a turn


class Pace:
    """The first token `delay_ms` after the start, the others evenly, `tps` a second; both 0: as fast as possible.

    Tokens are due at fixed times, so the next wake-up compensates for a late one: the mean rate is exact.
    """

    def __init__(self, *, delay_ms: int, tps: int, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._now = now
        self._sleep = sleep
        self._first_at = now() + delay_ms / 1000
        self._seconds_per_token = 1 / tps if tps else 0.0
        self.is_free = not delay_ms and not tps
        self._turns = 0

    async def until(self, generated: int) -> None:
        """Wait until `generated` tokens are out; 0 and 1 are the wait for the first token."""
        if self.is_free:
            self._turns += 1
            if self._turns % EVENTS_PER_TURN == 0:
                await self._sleep(0)
            return
        due = self._first_at + max(0, generated - 1) * self._seconds_per_token
        await self._sleep(max(0.0, due - self._now()))
