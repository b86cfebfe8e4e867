"""Reloads that are asked for, by a signal or a change of files, one after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


class Reloading:
    """Does `reload` when asked. Asked any number of times while one is under way, it does one more: that sees the last change."""

    def __init__(self, reload: Callable[[], Awaitable[None]]) -> None:
        self._reload = reload
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have it done soon; before `forever` runs, as soon as it does."""
        self._asked.set()

    async def forever(self) -> None:
        """What a process runs beside its work."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except Exception:  # noqa: BLE001  # whatever it was, the next change of files is read again
                _log.exception("the configuration could not be read again; the one before stays in force")
