"""The process behind the console's port as one object: its server, its background tasks, and reloads."""

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
        """beside: background tasks that run as long as the process does.

        opening: awaited in this order before them. closing: called in this order after all of them have ended.
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
        """Serve on a listening socket and start the background tasks. Health checks are answered before everything is open."""
        await self._server.start(sock)
        for open_ in self._opening:
            await open_()
        self._running = [asyncio.get_running_loop().create_task(work()) for work in self._beside]

    def announce_leaving(self) -> None:
        """Report from now on that this process is not ready, but keep serving, so that the last counts can be read."""
        self._readiness.is_draining = True
        self._server.announce_leaving()

    async def drain(self, grace_seconds: float) -> None:
        """Accept no new connection; return when open requests are answered, or at the end of the grace."""
        self.announce_leaving()
        await self._server.drain(grace_seconds)

    async def close(self) -> None:
        """End now."""
        await _cancelled(self._running)
        await self._server.close()
        for close in self._closing:
            await close()

    def reload(self) -> None:
        """Request a reload of the configuration."""
        self._reloading.ask()

    async def read_again(self) -> None:
        """Read the configuration again; a bad one changes nothing except /readyz, which reports it."""
        problems = await self._holder.reload()
        self._readiness.config_problems = problems
        for problem in problems:
            _LOG.error("configuration not reloaded: %s", problem)
        if problems:
            return
        changes = self._holder.changes
        _LOG.info("configuration reloaded", extra={"fields": {"version": self._holder.current.version, **changes.by_kind}})
        if changes.organizations_removed:
            _LOG.warning(
                "organizations are no longer in organizations.yaml: their keys are refused, unless the database has them",
                extra={"fields": {"organizations": changes.organizations_removed}},
            )


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks repeatedly until they end: a library may take a cancellation while it connects for a failure to connect."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
