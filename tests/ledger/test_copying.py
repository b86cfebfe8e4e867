"""A SQLite ledger in an empty PostgreSQL: everything, checked, in bounded memory, or nothing."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from ledger_values import START_MS, an_entry, assert_no_drift
from new_ledger import new_ledger, postgres_ledger
from postgres_process import PostgresProcess
from sqlalchemy import func, insert, select, text

from tallygate.ledger import copying
from tallygate.ledger.book import Book
from tallygate.ledger.copying import copy_ledger
from tallygate.ledger.database import Database
from tallygate.ledger.directory.schema import AUDIT_LOG, CREDENTIALS, ORGANIZATIONS
from tallygate.ledger.file_backup import BackupError, checked
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import METADATA, SERIES

MONTH_MS = 31 * 86_400_000


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """Entries of three organizations in several months, and of the directory what has flags and numbers."""
    database = await new_ledger(tmp_path)
    book = Book(database)
    await book.record(
        [
            an_entry(number, org=f"org-{number % 3}", started_at_ms=at_ms, settled_at_ms=at_ms)
            for number, at_ms in ((number, START_MS + number % 4 * MONTH_MS) for number in range(60))
        ]
    )
    await book.record([an_entry(99, org="org-0")], taken={3: START_MS})
    async with database.write() as connection:
        await connection.execute(insert(ORGANIZATIONS), [_row(ORGANIZATIONS, id="org-0")])
        await connection.execute(insert(CREDENTIALS), [_row(CREDENTIALS, id="one", org="org-0", is_self_made=True)])
        await connection.execute(insert(AUDIT_LOG), [{**_row(AUDIT_LOG), "id": 41}])
    await database.close()
    return tmp_path / "ledger.db"


def _row(table: copying.Table, **values: object) -> dict[str, object]:
    """A row with something in each column that needs it."""
    needed = [column for column in table.columns if not column.nullable and column.server_default is None and column.name != "id"]
    return {column.name: False if column.type.python_type is bool else column.type.python_type("7") for column in needed} | values


@pytest.fixture
async def target(postgres_server: PostgresProcess) -> AsyncIterator[Database]:
    async with postgres_ledger(postgres_server) as url:
        database = open_database(url, Path())
        yield database
        await database.close()


def no_progress(_total: int, _done: int) -> None:
    """Nobody watches."""


async def rows(database: Database) -> dict[str, int]:
    async with database.read() as connection:
        return {
            table.name: int(await connection.scalar(select(func.count()).select_from(table)) or 0)
            for table in METADATA.sorted_tables
        }


async def test_everything_arrives_in_bounded_memory(source: Path, target: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 7)
    seen: list[tuple[int, int]] = []
    found = await copy_ledger(source, target, lambda total, done: seen.append((total, done)))

    assert found == checked(source)
    with closing(sqlite3.connect(source)) as ledger:
        tables = [
            name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        ]
        expected = {table: ledger.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608
    del expected["ledger_version"]
    assert await rows(target) == expected
    assert max(after - before for (_, before), (_, after) in pairwise(seen)) <= 7
    assert seen[-1] == (sum(expected.values()), sum(expected.values()))
    assert (await assert_no_drift(target))[0] == 61
    async with target.read() as connection:
        assert await connection.scalar(select(CREDENTIALS.c.is_self_made)) is True
        assert await connection.scalar(text("SELECT COUNT(*) FROM entries_other")) == 0  # each month has its partition


async def test_the_ledger_goes_on_behind_the_numbers_that_were_copied(source: Path, target: Database) -> None:
    await copy_ledger(source, target, no_progress)
    async with target.read() as connection:
        newest = int(await connection.scalar(select(func.max(SERIES.c.id))) or 0)
    await Book(target).record([an_entry(1_000, org="org-9")])
    async with target.write() as connection:
        await connection.execute(insert(AUDIT_LOG), [_row(AUDIT_LOG)])
        assert await connection.scalar(select(func.max(AUDIT_LOG.c.id))) == 42
        assert await connection.scalar(select(func.max(SERIES.c.id))) > newest

    await assert_no_drift(target)


async def test_a_database_with_rows_is_refused_and_left_as_it_is(source: Path, target: Database) -> None:
    await Book(target).record([an_entry(1, org="theirs")])
    before = await rows(target)
    with pytest.raises(BackupError, match="give an empty database"):
        await copy_ledger(source, target, no_progress)

    assert await rows(target) == before


async def test_after_a_failure_in_the_middle_nothing_is_there_and_it_can_begin_again(source: Path, target: Database) -> None:
    before = await rows(target)

    def fail(total: int, done: int) -> None:
        if done > total // 2:
            raise BackupError("the cable was pulled")

    with pytest.raises(BackupError, match="cable"):
        await copy_ledger(source, target, fail)
    assert await rows(target) == before
    await copy_ledger(source, target, no_progress)

    await assert_no_drift(target)


async def test_a_ledger_of_another_version_is_refused(source: Path, target: Database) -> None:
    with closing(sqlite3.connect(source)) as ledger:
        ledger.execute("UPDATE ledger_version SET version_num = '0007'")
        ledger.commit()
    with pytest.raises(BackupError, match="version 0007"):
        await copy_ledger(source, target, no_progress)
