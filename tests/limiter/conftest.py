"""Fixtures over the limiter's implementations."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

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
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """A `world` with options of its limiter, such as stream_max."""
    closers: list[Callable[[], Awaitable[None]]] = []

    async def make(**options: Any) -> World:
        if request.param == "reference":
            return reference_world(**options)
        if request.param == "fakeredis":
            client = FakeAsyncRedis(max_connections=2000)
            closers.append(client.aclose)
            return await redis_world(RedisPyScripts(client), **options)
        opened = RedisConnection(parse_address(request.getfixturevalue("valkey_url")), timeout_ms=10_000)
        await opened.open()
        closers.append(opened.close)
        return await redis_world(opened, **options)

    yield make
    for close in closers:
        await close()


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    """Each implementation in turn, at START_MS, with its partitions marked as complete."""
    return await make_world()
