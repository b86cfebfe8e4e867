"""The child's end of its connection to the supervisor: signals, the pipe that is closed to end it, and its ready line."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

_STDIN: Final = 0
_STDOUT: Final = 1
SECOND_AFTER_SECONDS: Final = 0.5  # uvloop may call a handler twice for one signal that comes right after another
LEAVING: Final = signal.SIGUSR1  # keep serving, but send clients elsewhere: SIGTERM follows


class Lifeline:
    """The orders that a child receives.

    drain   SIGTERM: accept nothing new, finish open requests, end
    end     a second SIGTERM, or the supervisor has died or closed the pipe: end now
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, which distinguish a second SIGTERM from a repeated call for the same one."""
        self.drain = asyncio.Event()
        self.end = asyncio.Event()
        self._clock = clock
        self._first_term_at = 0.0

    def attach(self, *, on_reload: Callable[[], None], on_leaving: Callable[[], None]) -> None:
        """Listen from here on; `on_reload` is called at SIGHUP, `on_leaving` when the end is announced."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        loop.add_signal_handler(LEAVING, on_leaving)
        os.set_blocking(_STDIN, False)
        loop.add_reader(_STDIN, self._on_stdin)

    def announce_ready(self) -> None:
        os.write(_STDOUT, b"ready\n")

    async def drained(self, drain: Callable[[float], Awaitable[None]], grace_seconds: float) -> None:
        """Wait until the end is requested, then drain as far as there is time."""
        await self.drain.wait()
        draining, ended = (asyncio.ensure_future(wait) for wait in (drain(grace_seconds), self.end.wait()))
        try:
            await asyncio.wait({draining, ended}, return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                draining.result()
        finally:
            draining.cancel()
            ended.cancel()

    def _on_term(self) -> None:
        now = self._clock()
        if not self.drain.is_set():
            self._first_term_at = now
            self.drain.set()
        elif now - self._first_term_at >= SECOND_AFTER_SECONDS:
            self.end.set()

    def _on_stdin(self) -> None:
        if not os.read(_STDIN, 1024):
            asyncio.get_running_loop().remove_reader(_STDIN)
            self.drain.set()
            self.end.set()
