"""Announcements to every process that the directory has changed: one channel of the limiter's Redis.

A message only prompts a poll; a process that misses it finds the change at its next one. So nothing here must succeed.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import Command, RedisConnection

CHANNEL: Final = b"tg:directory"
_RECONNECT_SECONDS: Final = 1.0
_PING_SECONDS: Final = 30.0  # between pings, by which a connection that nobody closed is found to be dead
_TIMEOUT_MS: Final = 1_000
_NAME: Final = "tallygate-directory"
_log = logging.getLogger(__name__)


async def listen_forever(url: str, on_message: Callable[[], None]) -> None:
    """Call on_message for each message, and once for each new connection: what was announced while there was none is lost."""

    async def subscribe(command: Command, _info: bytes) -> None:
        await command(b"SUBSCRIBE", CHANNEL)
        on_message()

    connection = RedisConnection(parse_address(url), timeout_ms=_TIMEOUT_MS, name=_NAME, on_run=subscribe, on_push=on_message)
    try:
        while not await _opened(connection):  # noqa: ASYNC110 - nobody announces that the store is there
            await asyncio.sleep(_RECONNECT_SECONDS)
        while True:
            await asyncio.sleep(_PING_SECONDS)
            with suppress(StoreError):
                await connection.command(b"PING")
    finally:
        await connection.close()


async def announce_change(url: str) -> None:
    """Announce a change to all listeners. Without a store nothing is announced, and every process polls."""
    connection = RedisConnection(parse_address(url), timeout_ms=_TIMEOUT_MS, name=_NAME)
    try:
        await connection.open()
        await connection.command(b"PUBLISH", CHANNEL, b"changed")
    except StoreError as error:
        _log.info("a directory change is not announced: %s", error)
    finally:
        await connection.close()


async def _opened(connection: RedisConnection) -> bool:
    try:
        await connection.open()
    except StoreError as error:
        _log.info("directory changes are not announced for now: %s", error)
        return False
    return True
