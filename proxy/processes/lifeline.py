"""The child's end of its ties to the supervisor: signals, the pipe that is closed to end it, and the word that it is ready."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

_STDIN: Final = 0
_STDOUT: Final = 1


class Lifeline:
    """What the child is told.

    drain   SIGTERM: take nothing new, finish what is open
    end     a second SIGTERM, or the supervisor is gone or wants us gone: end now
    """

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.end = asyncio.Event()

    def attach(self, on_reload: Callable[[], None]) -> None:
        """Listen from here on; `on_reload` is called at SIGHUP."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        os.set_blocking(_STDIN, False)
        loop.add_reader(_STDIN, self._on_stdin)

    def say_ready(self) -> None:
        os.write(_STDOUT, b"ready\n")

    def _on_term(self) -> None:
        if self.drain.is_set():
            self.end.set()
        self.drain.set()

    def _on_stdin(self) -> None:
        if not os.read(_STDIN, 1024):
            asyncio.get_running_loop().remove_reader(_STDIN)
            self.drain.set()
            self.end.set()


async def until_either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Wait for one of two events."""
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
