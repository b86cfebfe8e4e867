"""ScriptStore over a redis-py client: what the limiter's own connection is compared with, and the way of tests to fakeredis."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from tallygate.domain.errors import StoreError
from tallygate.limiter.script import Script


class RedisPyScripts:
    """client must not retry by itself (`Retry(NoBackoff(), 0)`), and brings its own socket timeout."""

    is_cluster = False

    def __init__(self, client: Redis) -> None:
        self._client: Any = client
        self.resent = 0

    async def run_script(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        try:
            try:
                return await self._evaluate(script, keys, args)
            except RedisConnectionError:
                self.resent += 1
                return await self._evaluate(script, keys, args)  # the one retry: the same id, so applied once
        except (RedisError, OSError) as error:
            raise StoreError(f"{script.name}: {error}") from error

    async def _evaluate(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        try:
            return await self._client.evalsha(script.sha.decode(), len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(script.source.decode(), len(keys), *keys, *args)

    async def command(self, *parts: bytes) -> Any:
        try:
            return await self._client.execute_command(*parts)
        except (RedisError, OSError) as error:
            raise StoreError(f"{parts[0].decode()}: {error}") from error
