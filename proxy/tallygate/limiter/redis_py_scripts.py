"""ScriptStore over a redis-py client: for Redis Cluster, and for fakeredis in tests."""

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from tallygate.domain.errors import StoreError
from tallygate.limiter.script import Script

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


class RedisPyScripts:
    """client must not retry by itself (`Retry(NoBackoff(), 0)`), and brings its own socket timeout."""

    def __init__(self, client: "Redis | RedisCluster") -> None:
        self._client: Any = client

    async def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        try:
            try:
                return await self._evaluate(script, keys, args)
            except RedisConnectionError:
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
