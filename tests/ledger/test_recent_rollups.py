"""What is recent is in one row of the rollups, later in those of every level: no question and no audit can tell which."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from ledger_values import START_MS, an_entry, assert_no_drift
from sqlalchemy import func, select

from tallygate.ledger.audit import LedgerAudit, lifetime_drifts
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.history import Dimension, EntriesQuery, OrgScope, UsageQuery
from tallygate.ledger.rollups import LEVELS, RECENT
from tallygate.ledger.schema import ROLLUPS
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket
from tallygate.ledger.usage_queries import UsageQueries

ORGS = ("acme", "beta")
SCOPES = tuple(OrgScope(org=org, visible_from_ms=START_MS + 3 * HOUR_MS) for org in ORGS)
RANGE = {"scopes": SCOPES, "from_ms": START_MS - DAY_MS, "to_ms": START_MS + 40 * DAY_MS}
ZONES = ("UTC", "Asia/Kolkata", "America/New_York")
GROUPS = ((), (Dimension.CREDENTIAL,), (Dimension.MODEL, Dimension.STATUS), (Dimension.ORG,))


def some_entries(first: int, count: int) -> list[Any]:
    return [
        an_entry(
            number,
            settled_at_ms=START_MS + number * 7 * QUARTER_MS,
            org=ORGS[number % 2],
            credential=f"key-{number % 3}",
            status=(200, 500)[number % 7 == 0],
            cost_nano_usd=number,
        )
        for number in range(first, first + count)
    ]


async def rows_of(database: Database) -> dict[tuple[str, int], int]:
    level = (ROLLUPS.c.detail, ROLLUPS.c.length_ms)
    async with database.read() as connection:
        rows = await connection.execute(select(*level, func.count()).group_by(*level))
        return {(detail, length_ms): count for detail, length_ms, count in rows}


async def answers(queries: UsageQueries) -> list[object]:
    """Questions of each kind: by bucket and zone, by labels, filtered, and single entries by a filter."""
    found: list[object] = []
    for bucket, zone, group_by in zip((None, *Bucket, *Bucket), itertools.cycle(ZONES), itertools.cycle(GROUPS), strict=False):
        found += await queries.usage(UsageQuery(**RANGE, bucket=bucket, time_zone=zone, group_by=group_by))
    only = {Dimension.STATUS: frozenset({"500"})}
    found.append(await queries.usage(UsageQuery(**RANGE, bucket=Bucket.DAY, filters=only)))
    for newest_first in (True, False):
        asked = EntriesQuery(**RANGE, filters=only, limit=5, newest_first=newest_first)
        page = await queries.entries_page(asked)
        found.append([entry.event_id for entry in page.entries])
    return found


async def assert_audited(database: Database) -> None:
    await assert_no_drift(database)
    audit = LedgerAudit(database)
    assert [drift for org, day in await audit.days() for drift in await audit.day(org, day)] == []
    for org in ORGS:
        assert await lifetime_drifts(database, org) == []


async def test_no_answer_depends_on_what_is_folded(database: Database, book: Book, queries: UsageQueries) -> None:
    refusal = RefusalCount(org="acme", credential="key-1", capability="chat", refused_by="tokens_1m", status=429, requests=7)
    await book.record(some_entries(0, 200))
    await book.add_refusals("worker-0", [refusal], at_ms=START_MS + 5 * HOUR_MS + 1)
    assert set(await rows_of(database)) == {RECENT}
    recent = await answers(queries)
    await assert_audited(database)

    await book.fold()
    assert set(await rows_of(database)) == set(LEVELS)
    assert await answers(queries) == recent
    await assert_audited(database)

    await book.record(some_entries(200, 100))
    partly = await answers(queries)
    assert partly != recent
    await assert_audited(database)
    await book.fold()
    assert await answers(queries) == partly


async def test_many_rows_are_folded_some_at_a_time(database: Database, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rollups", "book"):
        monkeypatch.setattr(f"tallygate.ledger.{module}.FOLDED_AT_ONCE", 7)
    await book.record(some_entries(0, 50))

    await book.fold()

    assert set(await rows_of(database)) == set(LEVELS)
    await assert_audited(database)


async def test_ledgers_fold_at_once_while_others_write(database: Database, open_another: Callable[[], Database]) -> None:
    async def record(book: Book, first: int) -> None:
        for start in range(first, first + 60, 10):
            await book.record(some_entries(start, 10))

    async def fold(book: Book) -> None:
        for _ in range(8):
            await book.fold()
            await asyncio.sleep(0)

    books = [Book(open_another()) for _ in range(4)]
    await asyncio.gather(record(books[0], 0), record(books[1], 60), record(books[2], 0), fold(books[2]), fold(books[3]))

    await assert_audited(database)


async def test_a_fold_that_is_undone_leaves_everything_as_it_was(
    database: Database, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    await book.record(some_entries(0, 50))
    before = await rows_of(database)
    with monkeypatch.context() as patched:
        patched.setattr("tallygate.ledger.rollups._IN_ORDER", [*[(HOUR_MS, "org", LEVELS[-1].detail)], None])
        with pytest.raises(TypeError):
            await book.fold()

    assert await rows_of(database) == before
    await book.fold()
    await assert_audited(database)
