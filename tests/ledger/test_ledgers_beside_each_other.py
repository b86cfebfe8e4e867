"""Several ledgers take events from one store under names of their own."""

from pathlib import Path

from tallygate.app.ledger_part import ledger_name
from tallygate.ledger.event_stream import GROUP, EventStreams
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import partition_keys

STREAM = partition_keys(0).events


async def consumers(store: RedisConnection) -> dict[bytes, int]:
    """Names with how many entries each has unfinished."""
    found = [
        dict(zip(facts[::2], facts[1::2], strict=True)) for facts in await store.command(b"XINFO", b"CONSUMERS", STREAM, GROUP)
    ]
    return {facts[b"name"]: facts[b"pending"] for facts in found}


def test_a_ledger_keeps_its_name_and_no_other_has_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()

    name = ledger_name(tmp_path / "one")

    assert ledger_name(tmp_path / "one") == name
    assert ledger_name(tmp_path / "other") != name


async def test_a_ledger_that_does_not_come_back_is_forgotten_unless_it_left_something_unfinished(
    redis_store: RedisConnection,
) -> None:
    gone, broken_off, here = (EventStreams(redis_store, name) for name in ("gone", "broken-off", "here"))
    await gone.fresh(1)
    await redis_store.command(b"XADD", STREAM, b"*", b"event", b"{}")
    assert len(await broken_off.fresh(1)) == 1
    assert (await consumers(redis_store)).keys() >= {b"broken-off"}

    assert await here.forget_consumers() == 0  # a day has not passed
    await here.forget_consumers(idle_ms=-1)

    assert await consumers(redis_store) == {b"broken-off": 1}


async def test_a_store_that_was_never_told_anything_has_nobody_to_forget(redis_store: RedisConnection) -> None:
    assert await EventStreams(redis_store, "here").forget_consumers() == 0
