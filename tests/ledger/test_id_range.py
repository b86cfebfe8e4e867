"""What is asked of PostgreSQL reads the months that can have it, and finds what lies in others all the same."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from ledger_values import START_MS, an_entry, assert_no_drift
from msgspec.structs import astuple
from new_ledger import new_ledger, postgres_ledger
from old_rollups import put_strays_back
from postgres_process import PostgresProcess, binaries
from sqlalchemy import Connection, event, text

from tallygate.ledger.audit import LedgerAudit
from tallygate.ledger.book import Book
from tallygate.ledger.copying import copy_ledger
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.entry_months import EntryMonth, EntryMonths
from tallygate.ledger.export.entry_pages import count_entries, entry_pages
from tallygate.ledger.export.selection import Selection
from tallygate.ledger.history import EntriesQuery, OrgScope
from tallygate.ledger.id_range import EARLY_MS, LATE_MS
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.read_invoice import BilledOrganization, read_invoice
from tallygate.ledger.lifetime_spend import spend_of_entries
from tallygate.ledger.migrations.versions import v0024_stray_days
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import ENTRIES
from tallygate.ledger.time_buckets import DAY_MS
from tallygate.ledger.usage_queries import UsageQueries

pytestmark = pytest.mark.process

ACME = (OrgScope(org="acme"),)
JUNE, DECEMBER = EntryMonth(2026, 6), EntryMonth(2026, 12)
NOVEMBER = EntryMonth(2026, 11)
ITS_IDS = ["entries_2026_10", "entries_2026_11", "entries_2026_12"]  # ids of ten days before, and of a day after


@pytest.fixture
async def url(postgres_server: PostgresProcess) -> AsyncIterator[str]:
    async with postgres_ledger(postgres_server) as url:
        yield url


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Database]:
    """Months from June to February."""
    database = open_database(url, Path())
    await EntryMonths(database).make(JUNE.start_ms, DECEMBER.start_ms)
    yield database
    await database.close()


def entry(number: int, *, id_ms: int, settled_at_ms: int) -> Entry:
    return an_entry(number, started_at_ms=id_ms, settled_at_ms=settled_at_ms)


async def stray_days(database: Database) -> list[int]:
    async with database.read() as connection:
        return sorted((await connection.execute(text("SELECT day_ms FROM stray_days"))).scalars())


@contextmanager
def heard(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The statements that readers run, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def hear(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    engine = database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", hear)
    yield statements
    event.remove(engine, "before_cursor_execute", hear)


async def partitions_read(url: str, statements: list[tuple[str, Any]]) -> list[list[str]]:
    """By PostgreSQL's own plan, the partitions that each statement about entries reads."""
    connection = await asyncpg.connect(url)
    found = []
    for statement, parameters in statements:
        if "entries." in statement:
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *parameters))
            found.append(sorted(set(re.findall(r"entries_(?:other|20\d\d_\d\d)", plan))))
    await connection.close()
    return found


async def page(database: Database) -> object:
    query = EntriesQuery(scopes=ACME, from_ms=NOVEMBER.start_ms, to_ms=NOVEMBER.end_ms)
    return await UsageQueries(database).entries_page(query)


async def export(database: Database) -> object:
    selection = Selection(scopes=ACME, as_of_ms=2**43, from_ms=NOVEMBER.start_ms, to_ms=NOVEMBER.end_ms)
    return [await count_entries(database, selection, at_most=9), [page async for page in entry_pages(database, selection)]]


async def invoice(database: Database) -> object:
    return await read_invoice(database, BilledOrganization(id="acme", name=""), BillingPeriod.month("2026-11", "UTC"), as_of_ms=0)


async def audit(database: Database) -> object:
    return await LedgerAudit(database).day("acme", NOVEMBER.start_ms, days=30)


@pytest.mark.parametrize("ask", [page, export, invoice, audit])
async def test_a_question_about_a_month_reads_the_months_that_can_have_its_entries(url: str, ledger: Database, ask: Any) -> None:
    months = [EntryMonth(2026, number) for number in range(7, 13)]
    await Book(ledger).record([entry(month.number, id_ms=month.start_ms, settled_at_ms=month.start_ms) for month in months])
    with heard(ledger) as statements:
        await ask(ledger)
    read = [tables for tables in await partitions_read(url, statements) if tables]
    assert read
    assert {table for tables in read for table in tables} <= set(ITS_IDS)
    assert ITS_IDS in read


async def spend(database: Database) -> object:
    async with database.read() as connection:
        return await spend_of_entries(connection, "acme")


async def postings(database: Database) -> object:
    return await LedgerAudit(database).postings("acme", JUNE.start_ms)


@pytest.mark.parametrize("ask", [spend, postings])
async def test_sums_of_a_long_life_read_a_few_months_at_a_time(url: str, ledger: Database, ask: Any) -> None:
    months = [EntryMonth(2026, number) for number in range(7, 13)]
    await Book(ledger).record([entry(month.number, id_ms=month.start_ms, settled_at_ms=month.start_ms) for month in months])
    with heard(ledger) as statements:
        await ask(ledger)
    first, *rest = [tables for tables in await partitions_read(url, statements) if tables]
    assert len(first) > 5  # its first and last entry
    assert rest
    assert all(len(tables) <= 4 for tables in rest)


_AT = EntryMonth(2026, 10)  # whose first instant divides partitions


@pytest.mark.parametrize(
    ("id_ms", "settled_at_ms", "is_stray"),
    [
        (_AT.start_ms - 1, _AT.start_ms - 1 + LATE_MS, False),
        (_AT.start_ms - 1, _AT.start_ms + LATE_MS, True),
        (_AT.start_ms, _AT.start_ms - EARLY_MS + 1, False),
        (_AT.start_ms, _AT.start_ms - EARLY_MS, True),
        (JUNE.start_ms, DECEMBER.start_ms, True),
        (DECEMBER.start_ms, JUNE.start_ms, True),
    ],
    ids=["as late as may be", "later", "as early as may be", "earlier", "half a year late", "half a year early"],
)
async def test_an_entry_far_from_its_id_is_found_and_its_day_is_noted(
    ledger: Database, id_ms: int, settled_at_ms: int, is_stray: bool
) -> None:
    await Book(ledger).record([entry(1, id_ms=id_ms, settled_at_ms=settled_at_ms)])
    assert await stray_days(ledger) == ([settled_at_ms // DAY_MS * DAY_MS] if is_stray else [])
    for low, high in ((settled_at_ms, settled_at_ms + 1), (settled_at_ms - DAY_MS, settled_at_ms + DAY_MS)):
        found = await UsageQueries(ledger).entries_page(EntriesQuery(scopes=ACME, from_ms=low, to_ms=high))
        selection = Selection(scopes=ACME, from_ms=low, to_ms=high, as_of_ms=2**43)
        assert len(found.entries) == await count_entries(ledger, selection, at_most=9) == 1
    assert (await assert_no_drift(ledger))[0] == 1
    assert await LedgerAudit(ledger).day("acme", settled_at_ms // DAY_MS * DAY_MS) == []


async def test_an_id_of_somebodys_own_making_is_found(ledger: Database) -> None:
    await Book(ledger).record([an_entry(number, event_id=f"order {number}") for number in range(3)])
    found = await UsageQueries(ledger).entries_page(EntriesQuery(scopes=ACME, from_ms=START_MS, to_ms=START_MS + 1))
    assert len(found.entries) == 3
    assert await stray_days(ledger) == [START_MS // DAY_MS * DAY_MS]


@pytest.mark.parametrize(("low", "high"), [(0, 2**62), (2**61, 2**62), (0, 0), (5, 5), (-5, 2**47), (START_MS, 2**47)])
async def test_any_range_may_be_asked_for(ledger: Database, low: int, high: int) -> None:
    await Book(ledger).record([an_entry()])
    found = await UsageQueries(ledger).entries_page(EntriesQuery(scopes=ACME, from_ms=low, to_ms=high))
    assert len(found.entries) == (low <= START_MS < high)


@pytest.fixture
async def older(url: str, ledger: Database) -> AsyncIterator[Database]:
    """A writer of the version before, which is at work while the ledger is upgraded, and stored something odd before that."""
    database, book = open_database(url, Path()), Book(ledger)
    await book.record([entry(1, id_ms=JUNE.start_ms, settled_at_ms=DECEMBER.start_ms), an_entry(2)])
    await book.fold()
    async with ledger.write() as connection:
        await connection.run_sync(put_strays_back)
    yield database
    await database.close()


async def store(database: Database, *entries: Entry) -> None:
    """As any version does."""
    async with database.write() as connection:
        await connection.run_sync(lambda sync: database.insert_new(sync, ENTRIES, [astuple(one) for one in entries]))


@pytest.fixture
async def until_somebody_waits_for(url: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    watching = await asyncpg.connect(url)

    async def wait(table: str) -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"
        while not await watching.fetchval(waiting, table):
            await asyncio.sleep(0.01)

    yield wait
    await watching.close()


async def test_what_an_older_writer_had_begun_is_noted(
    url: str, ledger: Database, older: Database, until_somebody_waits_for: Callable[[str], Awaitable[None]]
) -> None:
    odd = entry(3, id_ms=DECEMBER.start_ms, settled_at_ms=JUNE.start_ms)

    async with older.write() as connection:
        await connection.run_sync(lambda sync: older.insert_new(sync, ENTRIES, [astuple(odd)]))
        migration = asyncio.create_task(ledger.migrate())
        await until_somebody_waits_for("entries")
    await migration
    assert await stray_days(ledger) == [JUNE.start_ms, DECEMBER.start_ms]


async def test_older_writers_go_on_while_all_entries_are_read(
    ledger: Database, older: Database, until_somebody_waits_for: Callable[[str], Awaitable[None]]
) -> None:
    def begin(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            v0024_stray_days.upgrade()
        connection.execute(text("UPDATE ledger_version SET version_num = '0024'"))

    async with older.write() as connection:
        await connection.run_sync(begin)
    async with older.write() as connection:
        await connection.execute(text(f"LOCK TABLE {DECEMBER.next.table} IN ACCESS EXCLUSIVE MODE"))
        migration = asyncio.create_task(ledger.migrate())
        await until_somebody_waits_for(DECEMBER.next.table)
        odd = entry(3, id_ms=DECEMBER.start_ms, settled_at_ms=JUNE.start_ms)
        await store(older, an_entry(4), odd)
    await migration
    assert await stray_days(ledger) == [JUNE.start_ms, DECEMBER.start_ms]


async def test_the_trigger_is_there_before_all_entries_are_read(ledger: Database, older: Database) -> None:
    await ledger.migrate()
    same = "SELECT (SELECT xmin FROM pg_trigger WHERE tgrelid = 'entries'::regclass) = (SELECT xmin FROM ledger_version)"
    async with older.read() as connection:
        assert (await connection.execute(text(same))).scalar_one() is False
    assert await stray_days(ledger) == [DECEMBER.start_ms]


async def test_strays_of_a_file_that_is_copied_are_noted(url: str, tmp_path: Path) -> None:
    source = await new_ledger(tmp_path)
    await Book(source).record([entry(1, id_ms=JUNE.start_ms, settled_at_ms=DECEMBER.start_ms), an_entry(2)])
    await source.close()
    target = open_database(url, tmp_path)
    await copy_ledger(tmp_path / "ledger.db", target, lambda _total, _done: None)
    assert await stray_days(target) == [DECEMBER.start_ms]
    await target.close()


async def test_a_dump_brings_months_and_noted_days_back(
    postgres_server: PostgresProcess, url: str, ledger: Database, tmp_path: Path
) -> None:
    """As docs/operate.md says to."""
    await Book(ledger).record([entry(1, id_ms=JUNE.start_ms, settled_at_ms=DECEMBER.start_ms), an_entry(2)])
    dump = tmp_path / "ledger.dump"
    async with postgres_ledger(postgres_server) as target:
        connection = await asyncpg.connect(postgres_server.url())
        name = target.rpartition("/")[2]
        await connection.execute(f"DROP DATABASE {name}")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dumping = ("pg_dump", "--format=custom", f"--file={dump}", url)
        for program, *told in (dumping, ("pg_restore", "--exit-on-error", f"--dbname={target}", dump)):
            process = await asyncio.create_subprocess_exec(binaries() / program, *told)
            assert await process.wait() == 0
        restored = open_database(target, tmp_path)
        await restored.migrate()
        assert await stray_days(restored) == [DECEMBER.start_ms]
        assert await EntryMonths(restored).past(2**43) == await EntryMonths(ledger).past(2**43) != []
        await Book(restored).record([entry(3, id_ms=DECEMBER.start_ms, settled_at_ms=JUNE.start_ms)])
        assert await stray_days(restored) == [JUNE.start_ms, DECEMBER.start_ms]
        assert (await assert_no_drift(restored))[0] == 3
        await restored.close()
