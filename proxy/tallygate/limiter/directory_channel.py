"""Announcements to every process that the directory has changed: one channel of the limiter's Redis.

A message only prompts a poll; a process that misses it finds the change at its next one. So nothing here must succeed.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

CHANNEL: Final = "tg:directory"
_RECONNECT_SECONDS: Final = 1.0
_READ_SECONDS: Final = 30.0  # without a message, then the connection is tried with a ping
_PUBLISH_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


async def listen_forever(url: str, on_message: Callable[[], None]) -> None:
    """Call on_message for each message, and once for each new connection: what was announced while there was none is lost."""
    while True:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=_RECONNECT_SECONDS)
        try:
            async with client.pubsub() as channel:
                await channel.subscribe(CHANNEL)
                on_message()
                while True:
                    if await channel.get_message(ignore_subscribe_messages=True, timeout=_READ_SECONDS) is not None:
                        on_message()
                    else:
                        await channel.ping()
        except (RedisError, OSError, TimeoutError) as error:
            _log.info("directory changes are not announced for now: %s", type(error).__name__)
        finally:
            await client.aclose()
        await asyncio.sleep(_RECONNECT_SECONDS)


async def announce_change(url: str) -> None:
    """Announce a change to all listeners. Without a store nothing is announced, and every process polls."""
    client = Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=_PUBLISH_SECONDS, socket_timeout=_PUBLISH_SECONDS
    )
    try:
        await client.publish(CHANNEL, "changed")
    except (RedisError, OSError, TimeoutError) as error:
        _log.info("a directory change is not announced: %s", type(error).__name__)
    finally:
        await client.aclose()
