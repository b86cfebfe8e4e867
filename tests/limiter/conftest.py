"""Fixtures over the limiter's implementations."""

from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis
from limiter_world import World, redis_world, reference_world

from bench.redis_py_scripts import RedisPyScripts
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection


@pytest.fixture
async def connection(valkey_url: str) -> AsyncIterator[RedisConnection]:
    """The limiter's own connection to an empty real Valkey."""
    opened = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(params=["reference", "fakeredis", "valkey"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each implementation in turn, at START_MS, with its partitions marked as complete."""
    if request.param == "reference":
        yield reference_world()
    elif request.param == "fakeredis":
        client = FakeAsyncRedis(max_connections=2000)
        yield await redis_world(RedisPyScripts(client))
        await client.aclose()
    else:
        opened = RedisConnection(parse_address(request.getfixturevalue("valkey_url")), timeout_ms=10_000)
        await opened.open()
        yield await redis_world(opened)
        await opened.close()
