"""Transactions of many statements (`Database.transact`): all or nothing, in one turn of a thread where the database is a file."""

import asyncio
import threading
from typing import Any

import pytest
from ledger_values import an_entry, assert_no_drift
from msgspec.structs import astuple
from new_ledger import new_ledger
from sqlalchemy import Connection, func, select, text

from tallygate.console.ledger_totals import LedgerTotals
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError, UnstorableError
from tallygate.ledger.schema import ENTRIES


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(ENTRIES)).scalar_one())


async def test_rows_that_are_there_already_are_told_from_new_ones(database: Database) -> None:
    first, second, third = (astuple(an_entry(number)) for number in (1, 2, 3))

    async def inserted(*rows: tuple[Any, ...]) -> list[bool]:
        return await database.transact(lambda connection: database.insert_new(connection, ENTRIES, rows))

    assert await inserted() == []
    assert await inserted(first, third) == [True, True]
    assert await inserted(first, second, third) == [False, True, False]
    assert await database.transact(count) == 3


async def test_work_that_fails_leaves_nothing(database: Database) -> None:
    def work(connection: Connection) -> None:
        database.insert_new(connection, ENTRIES, [astuple(an_entry(1))])
        raise LedgerUnavailableError("cut off")

    with pytest.raises(LedgerUnavailableError):
        await database.transact(work)
    assert await database.transact(count) == 0


async def test_a_row_that_the_database_refuses_is_named_as_such(database: Database) -> None:
    row = dict(zip(ENTRIES.c.keys(), astuple(an_entry(1)), strict=True)) | {"org": None}
    with pytest.raises(UnstorableError, match="org"):
        await database.transact(lambda connection: database.insert_new(connection, ENTRIES, [tuple(row.values())]))


async def test_a_database_without_the_table_is_away(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("DROP TABLE entries"))
    with pytest.raises(LedgerUnavailableError, match="entries"):
        await database.transact(lambda connection: database.insert_new(connection, ENTRIES, [astuple(an_entry(1))]))


def counted_turns(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that are made in the database's threads from now on."""
    turns: list[Any] = []
    do = database._threads.do

    def counted(work: Any) -> Any:
        turns.append(work)
        return do(work)

    monkeypatch.setattr(database._threads, "do", counted)
    return turns


async def test_recording_is_one_turn_of_a_thread_and_folding_another(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way there and back costs about as much as an event."""
    database = await new_ledger(tmp_path)
    book = Book(database)
    await book.record([an_entry(number) for number in range(5)], taken={3: 7})
    turns = counted_turns(database, monkeypatch)
    monkeypatch.setattr(database, "write", None)  # the way in which each statement is a turn
    recorded = await book.record([an_entry(number) for number in range(5, 10)], taken={3: 8})
    assert (recorded.entries, len(turns)) == (5, 1)
    await book.fold()
    monkeypatch.undo()

    assert len(turns) == 2
    await assert_no_drift(database)
    await database.close()


async def test_a_caller_that_is_cancelled_disturbs_nobody_who_comes_later(tmp_path: Any) -> None:
    database = await new_ledger(tmp_path)
    book, began, may_go_on = Book(database), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE series SET status = 0"))
        loop.call_soon_threadsafe(began.set)
        may_go_on.wait(10)

    first = asyncio.ensure_future(database.transact(work))
    await began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(book.record([an_entry(2)]))
    third = asyncio.ensure_future(database.check_writes())
    await asyncio.sleep(0)
    may_go_on.set()

    assert (await second).entries == 1
    await third
    assert (await assert_no_drift(database))[0] == 1
    await database.close()


async def test_a_question_sees_what_is_committed_and_changes_nothing(database: Database) -> None:
    assert await database.ask(count) == 0
    await Book(database).record([an_entry(1)])
    assert await database.ask(count) == 1


async def test_a_question_to_a_database_without_the_table_says_so(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("DROP TABLE entries"))
    with pytest.raises(LedgerUnavailableError, match="entries"):
        await database.ask(count)


async def test_the_totals_of_a_scrape_are_one_question(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = await new_ledger(tmp_path)
    await Book(database).record([an_entry(number, org=f"org-{number:03d}") for number in range(120)])
    turns = counted_turns(database, monkeypatch)
    monkeypatch.setattr(database, "read", None)
    totals = await LedgerTotals(database).fetch([f"org-{number:03d}" for number in range(120)])
    monkeypatch.undo()

    assert (len(turns), totals.organizations_skipped) == (1, 0)
    await database.close()


async def test_a_file_is_not_written_by_a_question(tmp_path: Any) -> None:
    database = await new_ledger(tmp_path)
    with pytest.raises(LedgerUnavailableError, match="readonly"):
        await database.ask(lambda connection: connection.execute(text("DELETE FROM entries")))
    await database.close()
