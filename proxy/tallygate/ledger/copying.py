"""A SQLite ledger copied into an empty PostgreSQL: all of one instant in one transaction, so that there is all of it or nothing."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Boolean, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.directory.schema import DIRECTORY_VERSION
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.file_backup import BackupError, Contents, contents, reading
from tallygate.ledger.notices import schema as notices_schema
from tallygate.ledger.schema import ENTRIES, METADATA
from tallygate.ledger.table_version import newest_version

ROWS_AT_ONCE: Final = 5_000  # in memory, and in one COPY: a few megabytes
Progress = Callable[[int, int], None]  # of so many rows, how many are done
_WITH_ROWS: Final = frozenset({DIRECTORY_VERSION.name, notices_schema.DELIVERY_TOTALS.name})  # of a new ledger


async def copy_ledger(source: Path, target: Database, progress: Progress) -> Contents:
    """Copy every table, and compare the number of its rows, and entries and cost of every organization, before it counts.

    target   in PostgreSQL, migrated and without entries or organizations

    Raises BackupError, LedgerUnavailableError, UnstorableError, sqlite3.Error; then the target is as empty as before.
    """
    with reading(source) as ledger:
        ledger.execute("BEGIN")  # one snapshot, whatever is written meanwhile
        expected = contents(ledger, source)
        if expected.version != newest_version():
            raise BackupError(
                f"{source} has tables of version {expected.version}, this tallygate of {newest_version()}: start it once with that"
            )
        counts = {table.name: _count(ledger, table) for table in METADATA.sorted_tables}
        await _make_partitions(ledger, target)
        async with target.write() as connection:
            await target.wait_for_turn(connection, "copy")
            await _require_empty(connection)
            driver: Any = (await connection.get_raw_connection()).driver_connection
            done, total = 0, sum(counts.values())
            for table in METADATA.sorted_tables:
                columns = [column.name for column in table.columns]
                for rows in _chunks(ledger, table):
                    await driver.copy_records_to_table(table.name, records=rows, columns=columns)
                    done += len(rows)
                    progress(total, done)
                    await asyncio.sleep(0)
            await _continue_numbers(connection)
            await _compare(connection, expected, counts)
            await connection.execute(text("ANALYZE"))
    return expected


def _count(ledger: sqlite3.Connection, table: Table) -> int:
    [(count,)] = ledger.execute(f"SELECT COUNT(*) FROM {table.name}")  # noqa: S608 - a name of ours
    return int(count)


def _chunks(ledger: sqlite3.Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """The table's rows. SQLite has no booleans."""
    flags = [index for index, column in enumerate(table.columns) if isinstance(column.type, Boolean)]
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    cursor = ledger.execute(f"SELECT {names} FROM {table.name}")  # noqa: S608 - names of ours
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield [_with_flags(row, flags) for row in rows] if flags else rows


def _with_flags(row: Sequence[Any], flags: Sequence[int]) -> tuple[Any, ...]:
    return tuple(bool(value) if index in flags and value is not None else value for index, value in enumerate(row))


async def _make_partitions(ledger: sqlite3.Connection, target: Database) -> None:
    """Create a partition for each month that has entries; an event's id begins with its time in milliseconds."""
    [(first, last)] = ledger.execute("SELECT MIN(event_id), MAX(event_id) FROM entries")
    if first is not None:
        try:
            await EntryMonths(target).make(int(first[:12], 16), int(last[:12], 16))
        except ValueError:  # ids of somebody's own making: they go where all others go
            return


async def _require_empty(connection: AsyncConnection) -> None:
    """Raises BackupError. What a new ledger has is emptied: the copy brings its own."""
    for table in METADATA.sorted_tables:
        if table.name in _WITH_ROWS:
            await connection.execute(table.delete())
        elif await connection.scalar(select(func.count()).select_from(select(*table.columns).limit(1).subquery())):
            raise BackupError(f"the target has rows in its table {table.name}: give an empty database")


async def _continue_numbers(connection: AsyncConnection) -> None:
    """Let numbers that the database gives begin behind those that were copied."""
    for table in METADATA.sorted_tables:
        for column in table.primary_key.columns:
            if table.autoincrement_column is column:
                newest = await connection.scalar(select(func.max(column)))
                if newest is not None:
                    name = func.pg_get_serial_sequence(table.name, column.name)
                    await connection.execute(select(func.setval(name, newest)))


async def _compare(connection: AsyncConnection, expected: Contents, counts: dict[str, int]) -> None:
    """Raises BackupError, which undoes everything."""
    for table in METADATA.sorted_tables:
        found = await connection.scalar(select(func.count()).select_from(table))
        if found != counts[table.name]:
            raise BackupError(f"{found} of {counts[table.name]} rows of {table.name} arrived: nothing is kept")
    columns = ENTRIES.c
    sums = await connection.execute(
        select(columns.org, func.count(), func.sum(columns.cost_nano_usd)).group_by(columns.org).order_by(columns.org)
    )
    if tuple((org, entries, int(nano_usd)) for org, entries, nano_usd in sums) != expected.organizations:
        raise BackupError("the copy has other sums than the source: nothing is kept")
