"""A ledger that was put back from an older state, beside a store that knows more: nothing lowers what was spent."""

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from ledger_values import assert_no_drift
from limiter_at_work import ORGANIZATIONS, LimiterAtWork
from marked_partitions import mark_all
from new_ledger import new_ledger
from sqlalchemy import delete, func, select, update

from tallygate.ledger.continuity import Continuity
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import STREAM_POSITIONS
from tallygate.limiter.fence import Fence
from tallygate.limiter.generation import close_partition, unmarked_partitions
from tallygate.limiter.keys import partition_of

ACME, BETA = ORGANIZATIONS
LATER = {"acme": 5_000, "beta": 42}  # spent after the older state


@pytest.fixture
async def older_copy(database_url: str, tmp_path: Path) -> AsyncIterator[Callable[[Database], Awaitable[Database]]]:
    """Makes a copy of the ledger as it is now."""
    copies: list[Database] = []

    async def copy(database: Database) -> Database:
        if database.dialect == "sqlite":
            (tmp_path / "older").mkdir()
            with sqlite3.connect(tmp_path / "ledger.db") as source, sqlite3.connect(tmp_path / "older" / "ledger.db") as target:
                source.backup(target)
            copies.append(open_database("", tmp_path / "older"))
            return copies[-1]
        await database.close()
        base, _, name = database_url.rpartition("/")
        connection = await asyncpg.connect(f"{base}/postgres")
        await connection.execute(f"CREATE DATABASE {name}_older TEMPLATE {name}")
        await connection.close()
        copies.append(open_database(f"{base}/{name}_older", Path()))
        return copies[-1]

    yield copy
    for database in copies:
        await database.close()


@pytest.fixture
async def older(at_work: LimiterAtWork, older_copy: Callable[[Database], Awaitable[Database]]) -> LimiterAtWork:
    """The same store beside an older state of its ledger. What was spent since has left the store's streams."""
    copy = await older_copy(at_work.database)
    await at_work.spend(ACME, "acme-prod", LATER["acme"])
    await at_work.spend(BETA, "beta-test", LATER["beta"])
    await at_work.writer.drain()
    return LimiterAtWork(at_work.store, copy)


async def restart(at_work: LimiterAtWork) -> None:
    """As after a restart of the store: all partitions are fenced off, and have what they had."""
    await Fence(at_work.scripts.fence).check_run_id(at_work.store.command, await at_work.store.command(b"INFO", b"server"))


async def test_an_older_ledger_does_not_lower_what_was_spent(
    at_work: LimiterAtWork, older: LimiterAtWork, caplog: pytest.LogCaptureFixture
) -> None:
    spent = await at_work.spent()
    await restart(older)
    rebuild = older.rebuilding()
    with caplog.at_level(logging.ERROR):
        await rebuild.open(await rebuild.closed())
        await rebuild.open(await rebuild.closed())

    assert set(await unmarked_partitions(older.store)) == {partition_of("acme"), partition_of("beta")}
    assert await at_work.spent() == spent
    lack = rebuild.continuity.lack
    assert lack.nano_usd == LATER
    assert 0 < lack.from_ms < lack.until_ms
    [logged] = [record for record in caplog.records if "older than the limiter's store" in record.message]
    assert (logged.fields["organizations"], logged.fields["lacks_nano_usd"]) == (2, 5_042)  # type: ignore[attr-defined]


async def test_events_that_it_stores_meanwhile_do_not_hide_what_it_lacks(older: LimiterAtWork) -> None:
    """Of an organization whose partition is closed, as settlements without a spend limit would be."""
    await older.spend(ACME, "acme-prod", 11)
    await older.writer.drain()
    await restart(older)
    rebuild = older.rebuilding()
    await rebuild.open(await rebuild.closed())

    assert rebuild.continuity.lack.nano_usd == LATER


async def test_the_newer_ledger_put_back_opens_everything(at_work: LimiterAtWork, older: LimiterAtWork) -> None:
    spent = await at_work.spent()
    await restart(older)
    await older.rebuild()
    rebuild = at_work.rebuilding()
    await rebuild.open(await rebuild.closed())

    assert await unmarked_partitions(older.store) == ()
    assert await at_work.spent() == spent
    assert not rebuild.continuity.lack.gaps


async def test_an_operator_may_accept_the_older_ledger(older: LimiterAtWork) -> None:
    await restart(older)
    await older.rebuild()
    await Continuity(older.database, older.store, older.scripts).check()
    accepting = Continuity(older.database, older.store, older.scripts)
    assert (await accepting.compare(ORGANIZATIONS, await older.now_ms())).nano_usd == LATER
    await accepting.accept()
    await older.rebuild()

    assert await unmarked_partitions(older.store) == ()
    assert await older.drifts() == []


async def test_an_empty_ledger_beside_a_store_that_has_spent_is_refused(at_work: LimiterAtWork, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    empty = LimiterAtWork(at_work.store, await new_ledger(tmp_path / "new"))
    spent = await at_work.spent()
    await restart(empty)
    rebuild = empty.rebuilding()
    await rebuild.open(await rebuild.closed())
    lack = rebuild.continuity.lack
    await empty.database.close()

    assert await at_work.spent() == spent
    assert (set(lack.nano_usd), lack.from_ms) == ({"acme", "beta"}, 0)
    assert set(await unmarked_partitions(at_work.store)) == {partition_of("acme"), partition_of("beta")}


async def test_an_empty_ledger_is_told_though_it_knows_no_organization_to_compare(at_work: LimiterAtWork, tmp_path: Path) -> None:
    """As those that were made by commands, which were in the ledger that is gone."""
    (tmp_path / "new").mkdir()
    empty = LimiterAtWork(at_work.store, await new_ledger(tmp_path / "new"))
    continuity = Continuity(empty.database, empty.store, empty.scripts)
    lack = await continuity.compare((), await empty.now_ms())
    assert {gap.partition for gap in lack.gaps} == {partition_of("acme"), partition_of("beta")}
    await continuity.accept()
    lack = await continuity.compare((), await empty.now_ms())
    await empty.database.close()

    assert not lack.gaps


async def test_a_ledger_of_a_version_that_kept_no_positions_is_rebuilt_from_once_it_has_as_much(at_work: LimiterAtWork) -> None:
    async with at_work.database.write() as connection:
        await connection.execute(delete(STREAM_POSITIONS))
    spent = await at_work.spent()
    await restart(at_work)
    rebuild = at_work.rebuilding()
    await rebuild.open(await rebuild.closed())

    assert await unmarked_partitions(at_work.store) == ()
    assert await at_work.spent() == spent
    assert not rebuild.continuity.lack.gaps
    async with at_work.database.read() as connection:
        known = await connection.scalar(select(func.count()).where(STREAM_POSITIONS.c.lacks_until_ms.is_not(None)))
    assert known == 0


async def test_while_the_store_runs_an_older_ledger_is_found_without_a_rebuild(older: LimiterAtWork) -> None:
    await mark_all(older.store, "first")
    continuity = Continuity(older.database, older.store, older.scripts)
    lack = await continuity.compare(ORGANIZATIONS, await older.now_ms())

    assert lack.nano_usd == LATER
    assert await unmarked_partitions(older.store) == ()  # the store has the right spend, and keeps holding everybody to it


async def test_a_store_that_lost_its_data_is_rebuilt_from_any_ledger(older: LimiterAtWork) -> None:
    await older.store.command(b"FLUSHALL")
    await older.rebuild()

    assert await unmarked_partitions(older.store) == ()
    assert await older.drifts() == []


async def test_a_window_that_counted_too_much_is_rebuilt_if_the_ledger_has_every_event(at_work: LimiterAtWork) -> None:
    spent = await at_work.spent()
    for key in await at_work.store.command(b"KEYS", b"tg:*:acme:spend"):
        fields = await at_work.store.command(b"HKEYS", key)
        for field in (name for name in fields if name.endswith(b"|spent")):
            await at_work.store.command(b"HINCRBY", key, field, b"900")
    assert await at_work.spent() != spent
    await close_partition(at_work.store, partition_of("acme"))
    await at_work.rebuild()

    assert await at_work.spent() == spent
    await assert_no_drift(at_work.database)


async def test_a_database_that_becomes_older_under_a_writer_is_compared_before_it_is_written(at_work: LimiterAtWork) -> None:
    """As PostgreSQL does when a standby is promoted, or a dump restored: the pool connects anew, without an error."""
    columns = STREAM_POSITIONS.c
    at = columns.partition == partition_of("acme")
    async with at_work.database.write() as connection:
        position = int(await connection.scalar(select(columns.taken_ms).where(at)) or 0)
        await connection.execute(update(STREAM_POSITIONS).where(at).values(taken_ms=position - 10_000))
    await at_work.database.close()  # its connections, of which the next ones are new
    await at_work.spend(ACME, "acme-prod", 11)
    with pytest.raises(LedgerUnavailableError, match="older than what was committed"):
        await at_work.writer.step()
    await at_work.writer.drain()

    async with at_work.database.read() as connection:
        [(since, until)] = await connection.execute(select(columns.lacks_from_ms, columns.lacks_until_ms).where(at))
    assert (since, until) == (position - 10_000, position)
