"""The process behind the console's port as one thing: its server, what runs beside it, and reloads."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

from tallygate.config.holder import ConfigHolder
from tallygate.config.reloading import Reloading
from tallygate.console.readiness import Readiness
from tallygate.console.server import ConsoleServer

_LOG: Final = logging.getLogger(__name__)
CANCEL_AGAIN_SECONDS: Final = 0.2


class Console:
    """Runs in its own process, so that a slow scrape delays no request."""

    def __init__(
        self,
        *,
        server: ConsoleServer,
        readiness: Readiness,
        holder: ConfigHolder,
        opening: Sequence[Callable[[], Awaitable[None]]] = (),
        beside: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """beside: what else runs as long as the process does.

        opening: awaited in this order before it. closing: called in this order when all of it has ended.
        """
        self._server = server
        self._readiness = readiness
        self._holder = holder
        self._opening = tuple(opening)
        self._reloading = Reloading(self.read_again)
        self._beside = (self._reloading.reload_forever, *beside)
        self._closing = tuple(closing)
        self._running: list[asyncio.Task[None]] = []

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket, and do what else is to be done. Health is told before all is open."""
        await self._server.start(sock)
        for open_ in self._opening:
            await open_()
        self._running = [asyncio.get_running_loop().create_task(work()) for work in self._beside]

    def announce_leaving(self) -> None:
        """Say from now on that this process is not ready; serve on, so that the last counts can be read."""
        self._readiness.is_draining = True
        self._server.announce_leaving()

    async def drain(self, grace_seconds: float) -> None:
        """Take no new connection; return when the open requests are answered, or at the end of the grace."""
        self.announce_leaving()
        await self._server.drain(grace_seconds)

    async def close(self) -> None:
        """End now."""
        await _cancelled(self._running)
        await self._server.close()
        for close in self._closing:
            await close()

    def reload(self) -> None:
        """Have the configuration read again soon."""
        self._reloading.ask()

    async def read_again(self) -> None:
        """Read the configuration again; a bad one changes nothing but /readyz, which tells of it."""
        problems = await self._holder.reload()
        self._readiness.config_problems = problems
        for problem in problems:
            _LOG.error("configuration rejected", extra={"fields": {"problem": problem}})


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End tasks, however often they must be told: redis-py takes a cancellation while it connects for a failure to connect."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
