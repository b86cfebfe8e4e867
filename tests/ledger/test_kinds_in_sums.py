"""Kinds of tokens and of spend in the rollups: moved with the entries, filled for what was there before, audited."""

import asyncio
import random
import signal
import sys
from collections.abc import Callable

import msgspec
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from ledger_values import ACME, START_MS, an_entry, assert_no_drift
from old_rollups import KINDS, put_kinds_back
from sqlalchemy import Connection, delete, inspect, select, text, update

from tallygate.domain.unit import Unit
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.ledger.audit import LedgerAudit, lifetime_drifts
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import Entry
from tallygate.ledger.history import Dimension, OrgScope, Usage, UsageQuery
from tallygate.ledger.migrations.versions import (
    v0020_kinds_in_rollups,
    v0024_stray_days,
    v0025_stray_days_before,
    v0026_recent_rollups,
)
from tallygate.ledger.schema import ENTRIES, ROLLUP_AMOUNTS, ROLLUPS, SERIES
from tallygate.ledger.series import Series
from tallygate.ledger.time_buckets import QUARTER_MS
from tallygate.ledger.usage_queries import UsageQueries

FAR = {"from_ms": 0, "to_ms": 2**42}


def billed(image_in: int = 0, image_out: int = 0, cached: int = 0) -> str | None:
    found = {Unit.INPUT_IMAGE.value: image_in, Unit.OUTPUT_IMAGE.value: image_out, Unit.CACHED_INPUT_IMAGE.value: cached}
    some = {name: number for name, number in found.items() if number}
    return msgspec.json.encode({"quantities": some}).decode() if some else None


def a_mixed_entry(source: random.Random, number: int, **changed: object) -> Entry:
    """An exchange with some of every kind, whose cost is the sum of its parts and what is left."""
    parts = {name: source.randrange(1_000) for name in source.sample(KIND_COSTS, 3)}
    fee = source.choice([0, 0, 70])
    return an_entry(
        number,
        **{
            "org": source.choice(["acme", "beta"]),
            "credential": source.choice(["key-1", "key-2", "key-3"]),
            "response_model": source.choice([None, "gpt-4o", "claude", "mistral", "grok", "gemini"]),
            "price_version": None,
            "status": source.choice([200, 200, 500]),
            "settled_at_ms": START_MS + source.randrange(300) * QUARTER_MS,
            "audio_prompt_tokens": source.choice([0, 9]),
            "audio_completion_tokens": source.choice([0, 5]),
            "billed": billed(source.choice([0, 0, 11]), source.choice([0, 0, 7]), source.choice([0, 0, 3])),
            "fee_nano_usd": fee,
            "cost_nano_usd": sum(parts.values()) + fee + source.choice([0, 13]),
            **parts,
            **changed,
        },
    )


async def fill(book: Book) -> None:
    """Exchanges under more names than an organization may have, holds that expired, and refusals."""
    source = random.Random(7)
    for _ in range(3):
        await book.record([a_mixed_entry(source, source.randrange(10**9)) for _ in range(60)])
    for number in range(5):
        same = {"org": "acme", "credential": "key-1", "settled_at_ms": START_MS + number}
        expired = a_mixed_entry(source, number, **same, kind="expired")
        await book.record([expired])
        await book.record([a_mixed_entry(source, number, **same, kind="late", expired_at_ms=START_MS + number)])
    refusal = RefusalCount(org="acme", credential="key-9", capability="chat", refused_by="tokens_1m", status=429, requests=7)
    await book.add_refusals("worker-0", [refusal], at_ms=START_MS)


async def content(database: Database) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Every rollup row under its labels, and every entry."""
    labels = [SERIES.c[name] for name in Series._fields]
    amounts = [column for column in ROLLUPS.columns if column.name != "series"]
    rows = select(*amounts, *labels).outerjoin(SERIES, SERIES.c.id == ROLLUPS.c.series)
    async with database.read() as connection:
        found = sorted(map(tuple, await connection.execute(rows)), key=str)
        return found, sorted(map(tuple, await connection.execute(select(ENTRIES))), key=str)


async def assert_right(database: Database) -> None:
    await assert_no_drift(database)
    audit = LedgerAudit(database)
    assert [drift for org, day in await audit.days() for drift in await audit.day(org, day)] == []


def as_before(connection: Connection) -> None:
    put_kinds_back(connection)
    of_credentials = (SERIES.c.capability == "", SERIES.c.outcome == "", SERIES.c.endpoint == "")
    connection.execute(delete(SERIES).where(*of_credentials))


async def test_parts_make_the_cost_in_every_sum(database: Database, book: Book, queries: UsageQueries) -> None:
    await fill(book)
    await assert_right(database)
    assert await lifetime_drifts(database, "acme") == []

    scopes = (ACME, OrgScope(org="beta"))
    assert Usage.__struct_fields__ == ROLLUP_AMOUNTS  # sums are made by their order
    wholes = await queries.usage(UsageQuery(scopes=scopes, **FAR))
    assert len(wholes) == 1
    async with database.read() as connection:
        entries = (await connection.execute(select(ENTRIES))).mappings().all()
    for name in (*KINDS, "cost_nano_usd"):
        assert getattr(wholes[0].usage, name) == sum(entry[name] for entry in entries)
        assert getattr(wholes[0].usage, name) > 0
    for group in ((), (Dimension.CREDENTIAL,), (Dimension.MODEL,), (Dimension.ORG, Dimension.STATUS), tuple(Dimension)):
        rows = await queries.usage(UsageQuery(scopes=scopes, **FAR, group_by=group))
        for name in KINDS:
            assert sum(getattr(row.usage, name) for row in rows) == getattr(wholes[0].usage, name)
        for row in rows:
            parts = [getattr(row.usage, name) for name in (*KIND_COSTS, "fee_nano_usd")]
            assert row.usage.other_nano_usd == row.usage.cost_nano_usd - sum(parts) >= 0


async def test_tokens_of_pictures_are_taken_back_with_their_exchange(database: Database, book: Book) -> None:
    same = {"settled_at_ms": START_MS}
    await book.record([an_entry(1, kind="expired", billed=billed(8, 2, 1), **same)])
    await book.record([an_entry(1, kind="late", billed=billed(5), expired_at_ms=START_MS, **same)])
    await book.record([an_entry(2, billed="[[[["), an_entry(3, billed='{"quantities": {"web_search": 1}}')])

    async with database.read() as connection:
        columns = ENTRIES.c.image_prompt_tokens, ENTRIES.c.image_completion_tokens
        rows = await connection.execute(select(*columns).order_by(ENTRIES.c.event_id, ENTRIES.c.sequence))
        assert [tuple(row) for row in rows] == [(9, 2), (-9, -2), (5, 0), (0, 0), (0, 0)]


async def test_a_drift_of_a_kind_is_found(database: Database, book: Book) -> None:
    await fill(book)
    await book.fold()
    for name in KINDS:
        async with database.write() as connection:
            at = (ROLLUPS.c.detail == "credential", ROLLUPS.c.length_ms == 86_400_000, ROLLUPS.c.org == "beta")
            await connection.execute(update(ROLLUPS).where(*at).values({name: ROLLUPS.c[name] + 1}))

    audit = LedgerAudit(database)
    drifts = [drift for org, day in await audit.days() for drift in await audit.day(org, day)]
    assert {(drift.what, drift.amount) for drift in drifts} == {("rollups.credential.1440m", name) for name in KINDS}


@pytest.mark.parametrize("rows_at_once", [7, 200_000])
async def test_a_ledger_without_kinds_gets_what_its_entries_have(
    database: Database, book: Book, open_another: Callable[[], Database], monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(v0020_kinds_in_rollups, "_ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr("tallygate.ledger.series.MODELS_PER_ORG_MAX", 3)
    await fill(book)
    await book.fold()
    before = await content(database)
    assert any("other" in row for row in before[0])

    def fill_again(connection: Connection) -> None:
        as_before(connection)
        with Operations.context(MigrationContext.configure(connection)):
            v0020_kinds_in_rollups.upgrade()
            v0024_stray_days.upgrade()  # which those who read entries ask
            v0025_stray_days_before.upgrade()
            v0026_recent_rollups.upgrade()

    async with database.write() as connection:
        await connection.run_sync(fill_again)

    assert await content(database) == before
    await Book(open_another()).record([a_mixed_entry(random.Random(1), 10**10)])
    await assert_right(database)


async def test_what_a_writer_of_the_version_before_has_begun_is_filled_too(
    database: Database, book: Book, open_another: Callable[[], Database]
) -> None:
    """And one that begins later waits for its new version: nothing is added without its kinds, and nothing is set aside."""
    await book.record([an_entry(1, cost_nano_usd=50, fee_nano_usd=20)])
    await book.fold()
    async with database.write() as connection:
        await connection.run_sync(put_kinds_back)
    if database.dialect == "postgresql":
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
        async with database.write() as writing:
            await writing.execute(text("UPDATE entries SET fee_nano_usd = 30"))
            migration = asyncio.create_task(open_another().migrate())
            async with database.read() as reading:
                while not migration.done() and not (await reading.execute(waiting)).scalar_one():
                    await asyncio.sleep(0.01)
            await writing.execute(text("UPDATE rollups SET cost_nano_usd = cost_nano_usd"))  # in the order of a writer
        await migration
    else:
        await open_another().migrate()

    async with database.read() as connection:
        fees = (await connection.execute(select(ROLLUPS.c.fee_nano_usd).distinct())).scalars().all()
    assert fees == [30 if database.dialect == "postgresql" else 20]
    amounts = (
        "requests, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost_nano_usd, refused"
    )
    with pytest.raises(LedgerUnavailableError):
        async with database.write() as connection:
            await connection.execute(
                text(
                    f"INSERT INTO rollups (length_ms, detail, org, bucket_ms, series_id, {amounts}) "  # noqa: S608
                    "VALUES (900000, 'org', 'acme', 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)"
                )
            )
    await assert_right(database)


KILLED_NEAR_ITS_END = """
import asyncio, os, signal, sys
from pathlib import Path
import sqlalchemy
from tallygate.ledger.opening import open_database

text = sqlalchemy.text

def killed(statement):
    if "SELECT 86400000, 'credential'" in statement:  # the last
        os.kill(os.getpid(), signal.SIGKILL)
    return text(statement)

sqlalchemy.text = killed
asyncio.run(open_database(sys.argv[1], Path()).migrate())
"""


@pytest.mark.process
async def test_a_migration_that_is_killed_is_begun_anew(
    database: Database, database_url: str, book: Book, open_another: Callable[[], Database]
) -> None:
    await fill(book)
    await book.fold()
    before = await content(database)
    async with database.write() as connection:
        await connection.run_sync(as_before)

    migrating = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_NEAR_ITS_END, database_url)
    assert await migrating.wait() == -signal.SIGKILL
    async with database.read() as connection:
        columns = await connection.run_sync(lambda sync: {column["name"] for column in inspect(sync).get_columns("rollups")})
        assert "series_id" in columns
        assert columns.isdisjoint(KINDS)
    await open_another().migrate()

    assert await content(database) == before
    await assert_right(database)
