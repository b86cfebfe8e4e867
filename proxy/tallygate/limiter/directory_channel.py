"""Announcements to every process that the directory has changed: one channel of the limiter's Redis.

A message only prompts a poll; a process that misses it finds the change at its next one. So nothing here must succeed. Copies of a
PostgreSQL directory poll less while they hear the channel (`ledger/directory/replica.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import Command, RedisConnection
from tallygate.shares.ticks import tick

CHANNEL: Final = b"tg:directory"
_RECONNECT_SECONDS: Final = 1.0
_PING_SECONDS: Final = 5.0  # between pings, by which a connection that nobody closed is found to be dead
_TIMEOUT_MS: Final = 1_000
_NAME: Final = "tallygate-directory"
_log = logging.getLogger(__name__)


class DirectoryChannel:
    """What one process hears of the channel. Belongs to one event loop."""

    def __init__(self, url: str) -> None:
        self._woken: Callable[[], None] = _nobody
        self._connection = RedisConnection(
            parse_address(url), timeout_ms=_TIMEOUT_MS, name=_NAME, on_run=self._subscribe, on_push=self._on_message
        )

    @property
    def is_heard(self) -> bool:
        """Whether it is subscribed. A connection that died unseen is found within _PING_SECONDS."""
        return self._connection.is_up

    async def listen_forever(self, on_message: Callable[[], None]) -> None:
        """Call on_message for each message, and once for each new connection: what was announced while there was none is lost."""
        self._woken = on_message
        try:
            while not await self._opened():  # noqa: ASYNC110 - nobody announces that the store is there
                await asyncio.sleep(_RECONNECT_SECONDS)
            while True:
                await tick(_PING_SECONDS)
                with suppress(StoreError):
                    await self._connection.command(b"PING")
        finally:
            await self._connection.close()

    async def _opened(self) -> bool:
        try:
            await self._connection.open()
        except StoreError as error:
            _log.info("directory changes are not announced for now: %s", error)
            return False
        return True

    async def _subscribe(self, command: Command, _info: bytes) -> None:
        await command(b"SUBSCRIBE", CHANNEL)
        self._on_message()

    def _on_message(self) -> None:
        self._woken()


async def announce_change(url: str) -> None:
    """Announce a change to all listeners. Without a store nothing is announced, and every process polls."""
    connection = RedisConnection(parse_address(url), timeout_ms=_TIMEOUT_MS, name=_NAME)
    try:
        await connection.open()
        await connection.command(b"PUBLISH", CHANNEL, b"changed")
    except StoreError as error:
        _log.warning("a directory change is not announced, and takes effect within 15 seconds: %s", error)
    finally:
        await connection.close()


def _nobody() -> None:
    """Nobody listens yet."""
