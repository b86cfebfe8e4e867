"""Last uses of credentials, from the workers that note them to the console that writes them."""

from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.last_used import claim_last_used, delete_claimed, record_last_used


async def test_what_was_noted_is_claimed_once(connection: RedisConnection) -> None:
    assert await claim_last_used(connection) == {}
    await record_last_used(connection, {"acme-prod": 1, "beta-prod": 2})
    assert await claim_last_used(connection) == {"acme-prod": 1, "beta-prod": 2}
    await delete_claimed(connection)
    assert await claim_last_used(connection) == {}


async def test_what_a_console_claimed_and_did_not_write_is_left_to_the_next(connection: RedisConnection) -> None:
    """Also while nothing new is noted, and before what is."""
    await record_last_used(connection, {"acme-prod": 1})
    await claim_last_used(connection)
    assert await claim_last_used(connection) == {"acme-prod": 1}
    await record_last_used(connection, {"acme-prod": 3})
    assert await claim_last_used(connection) == {"acme-prod": 1}
    await delete_claimed(connection)
    assert await claim_last_used(connection) == {"acme-prod": 3}
