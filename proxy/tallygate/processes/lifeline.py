"""The child's end of its connection to the supervisor: signals, the pipe that is closed to end it, and its lines: ready, alive."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

_STDIN: Final = 0
_STDOUT: Final = 1
SECOND_AFTER_SECONDS: Final = 0.5  # uvloop may call a handler twice for one signal that comes right after another
LEAVING: Final = signal.SIGUSR1  # keep serving, but send clients elsewhere: SIGTERM follows
READY: Final = b"ready\n"
ALIVE: Final = b"alive\n"  # the answer to whatever comes through the pipe
ABANDONED_SECONDS: Final = 10.0  # from the closed pipe to the end of the process, whatever hinders it
_LOG: Final = logging.getLogger(__name__)


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
        self._is_ready = False

    async def run(self, life: Coroutine[Any, Any, None]) -> None:
        """Run the process's life, from its start on. If the pipe is closed before it was ready, it is cancelled.

        A thread watches the pipe: it sees the end while the loop is busy, and ends a process that survives being cancelled.
        """
        threading.Thread(target=self._watch_pipe, args=(asyncio.get_running_loop(),), name="lifeline", daemon=True).start()
        living, ended = asyncio.ensure_future(life), asyncio.ensure_future(self.end.wait())
        await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._is_ready or living.done():
            await living
        else:
            _LOG.warning("the supervisor is gone: this process ends before it has served")
            living.cancel()
            await asyncio.wait({living})

    def attach(self, *, on_reload: Callable[[], None], on_leaving: Callable[[], None]) -> None:
        """Listen to signals from here on; `on_reload` is called at SIGHUP, `on_leaving` when the end is announced."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        loop.add_signal_handler(LEAVING, on_leaving)

    def announce_ready(self) -> None:
        self._is_ready = True
        with contextlib.suppress(BrokenPipeError):  # the supervisor has died: the pipe that is watched says so too
            os.write(_STDOUT, READY)

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

    def _watch_pipe(self, loop: asyncio.AbstractEventLoop) -> None:
        while os.read(_STDIN, 1024):
            with contextlib.suppress(RuntimeError):  # the loop is closed, as below
                loop.call_soon_threadsafe(_answer)  # by the loop, since a process whose loop stands still serves nobody
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends anyway
            loop.call_soon_threadsafe(self._hang_up)
        time.sleep(ABANDONED_SECONDS)
        os._exit(1)  # what still runs does not obey; nothing is flushed, and its leases settle it

    def _hang_up(self) -> None:
        self.drain.set()
        self.end.set()


def _answer() -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(_STDOUT, ALIVE)
