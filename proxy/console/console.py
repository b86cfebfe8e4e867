"""The console as one thing: its server, the sweep of expired holds, and reloads."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

from proxy.config.holder import ConfigHolder
from proxy.console.ports import Store
from proxy.console.readiness import Readiness
from proxy.console.server import ConsoleServer
from proxy.domain.errors import StoreError

_LOG: Final = logging.getLogger(__name__)
SWEEP_EVERY_SECONDS: Final = 1.0


class Console:
    """Runs in its own process, so that a slow scrape delays no request."""

    def __init__(
        self,
        *,
        server: ConsoleServer,
        readiness: Readiness,
        store: Store,
        holder: ConfigHolder,
        beside: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """beside: what else runs as long as the console does. on_close: called when all has ended."""
        self._server = server
        self._readiness = readiness
        self._store = store
        self._holder = holder
        self._beside = (self._sweep, *beside)
        self._on_close = on_close
        self._running: list[asyncio.Task[None]] = []

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket, sweep, and do what else is to be done."""
        await self._server.start(sock)
        self._running = [asyncio.get_running_loop().create_task(work()) for work in self._beside]

    def drain(self) -> None:
        """Say from now on that the gateway is not ready; serve on, so that the last counts can be read."""
        self._readiness.is_draining = True

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.close()
        await self._store.close()
        if self._on_close is not None:
            await self._on_close()

    def reload(self) -> None:
        """Read the configuration again; a bad one changes nothing but /readyz, which tells of it."""
        problems = self._holder.reload()
        self._readiness.config_problems = problems
        for problem in problems:
            _LOG.error("configuration rejected", extra={"fields": {"problem": problem}})

    async def _sweep(self) -> None:
        while True:
            try:
                swept = await self._store.sweep()
            except StoreError as error:
                _LOG.warning("no sweep of expired holds", extra={"fields": {"reason": str(error)}})
            else:
                if swept:
                    _LOG.warning("holds expired and were settled at their checkpoint", extra={"fields": {"holds": swept}})
            await asyncio.sleep(SWEEP_EVERY_SECONDS)
