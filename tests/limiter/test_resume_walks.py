"""A refusal finds the instant at which enough spend has left, whatever earlier refusals noted on their way through the week."""

from collections.abc import AsyncIterator
from random import Random

import pytest
from limiter_values import BUCKET_MS, START_MS, WEEK_BUCKETS, a_request, a_spend, an_account
from limiter_world import World, redis_world, reference_world

from tallygate.domain.admission import Decision
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import org_keys
from tallygate.limiter.redis_limiter import EXPIRED_MS

LIMIT = 100_000
SPEND = (a_spend(LIMIT),)


@pytest.fixture
async def worlds(valkey_url: str) -> AsyncIterator[tuple[World, World]]:
    connection = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await connection.open()
    yield reference_world(), await redis_world(connection)
    await connection.close()


async def _spend(worlds: tuple[World, World], name: str, cost: int) -> None:
    for world in worlds:
        request = a_request(name, hold=cost, spend=SPEND)
        await world.limiter.admit(request)
        await world.limiter.settle(an_account(request, cost))


async def _refused(worlds: tuple[World, World], name: str, hold: int) -> Decision:
    reference, found = [await world.limiter.admit(a_request(name, hold=hold, spend=SPEND)) for world in worlds]
    assert found == reference
    assert not found.admitted
    return found


def _advance(worlds: tuple[World, World], buckets: int) -> None:
    for world in worlds:
        world.clock.now_ms += buckets * BUCKET_MS


async def _note(worlds: tuple[World, World]) -> bytes | None:
    store = worlds[1].store
    assert store is not None
    note: bytes | None = await store.command(b"HGET", org_keys("acme").spend, b"org:spend_7d|walk")
    return note


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_needs_is_answered_as_by_the_model(worlds: tuple[World, World], seed: int) -> None:
    random = Random(seed)
    for number in range(60):
        await _spend(worlds, f"s{number}", 1 + random.randrange(2 * LIMIT // 130))
        _advance(worlds, random.randrange(80))
    notes = set()
    for number in range(120):
        if number % 10 == 0:
            _advance(worlds, random.randrange(9))
        left = LIMIT - (await worlds[0].limiter.read_windows("acme", SPEND))[0].spent_nano_usd
        await _refused(worlds, f"r{number}", min(left + 1 + random.randrange(LIMIT), LIMIT))
        notes.add(await _note(worlds))
    assert len(notes) > 5


async def test_what_is_taken_back_from_an_old_bucket_is_not_counted_by_a_note(worlds: tuple[World, World]) -> None:
    late = a_request("late", hold=LIMIT // 2, floor_nano_usd=LIMIT // 2, spend=SPEND)
    for world in worlds:
        await world.limiter.admit(late)
    _advance(worlds, 1)
    for world in worlds:
        await world.sweep("acme")  # the lease is over: the floor counts, in this bucket
    _advance(worlds, 100)
    await _spend(worlds, "more", LIMIT // 2)
    _advance(worlds, 100)
    await _spend(worlds, "again", 0)
    await _refused(worlds, "r1", LIMIT // 2 + 1)
    assert await _note(worlds)

    for world in worlds:
        await world.limiter.settle(an_account(late, LIMIT // 2 - 10))
    after = await _refused(worlds, "r2", LIMIT // 2 + 5)

    assert after.spend[0].spent_nano_usd == LIMIT - 10
    assert after.spend[0].resume_at_ms == START_MS + (101 + WEEK_BUCKETS + 1) * BUCKET_MS


async def test_a_note_is_forgotten_with_its_window(worlds: tuple[World, World]) -> None:
    await _spend(worlds, "s", LIMIT)
    _advance(worlds, 100)
    await _refused(worlds, "r", 1)
    _advance(worlds, WEEK_BUCKETS + 1 + EXPIRED_MS // BUCKET_MS)
    for world in worlds:
        while await world.sweep("acme"):
            pass
    assert await _note(worlds) is None
