"""Statements in the form that each database takes fastest, made once from the tables.

PostgreSQL takes many rows as an array for each column; SQLite takes them one at a time, by its own driver.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Executable, Select, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import Table

Question = Callable[[Connection, Mapping[str, Any]], Sequence[tuple[Any, ...]]]  # the rows for these parameters


def rows_of(statement: Select[Any], connection: Connection, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    return list(map(tuple, connection.execute(statement, parameters)))


def question_in_sqlite(statement: Select[Any]) -> Question:
    """By the driver itself: SQLAlchemy's way to a statement that it knows, and to its rows, takes as long as most answers."""
    compiled = statement.compile(dialect=sqlite.dialect())
    text, names, own = str(compiled), compiled.positiontup or (), compiled.params

    def rows(connection: Connection, parameters: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        values = [parameters[name] if name in parameters else own[name] for name in names]
        cursor = connection.connection.cursor()
        cursor.execute(text, values)
        return cursor.fetchall()

    return rows


def run_in_sqlite(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run a statement for each row, by the driver itself."""
    connection.connection.cursor().executemany(statement, rows)


def sqlite_text(statement: Any, **told: Any) -> str:
    """The text of a statement with a mark for each value: SQLAlchemy's way to it, row by row, takes longer than the driver."""
    return str(statement.compile(dialect=sqlite.dialect(), **told))


@cache
def insertion_of_arrays(table: Table) -> Executable:
    return _insert_of_arrays(table, table.columns).on_conflict_do_nothing().returning(*table.primary_key.columns)


@cache
def insertion_of_rows(table: Table) -> str:
    return sqlite_text(sqlite.insert(table).on_conflict_do_nothing())


@cache
def addition_of_arrays(table: Table, amounts: tuple[str, ...]) -> Executable:
    statement: Executable = _adding(_insert_of_arrays(table, table.columns), table, amounts)
    return statement


@cache
def addition_of_rows(table: Table, amounts: tuple[str, ...]) -> str:
    return sqlite_text(_adding(sqlite.insert(table), table, amounts))


@cache
def numbered_insertion_of_arrays(table: Table) -> Executable:
    columns = [column for column in table.columns if column.name != "id"]
    return _insert_of_arrays(table, columns).on_conflict_do_nothing().returning(*table.columns)


@cache
def numbered_insertion_of_rows(table: Table) -> str:
    statement = sqlite.insert(table).on_conflict_do_nothing().returning(table.c.id)
    return sqlite_text(statement, column_keys=[column.name for column in table.columns if column.name != "id"])


def _insert_of_arrays(table: Table, columns: Iterable[Column[Any]]) -> postgresql.Insert:
    """An insert of many rows whose parameters are these columns of theirs, each as an array."""
    names = [column.name for column in columns]
    arrays = (bindparam(name, type_=postgresql.ARRAY(table.c[name].type)) for name in names)
    return postgresql.insert(table).from_select(names, select(func.unnest(*arrays).table_valued(*names).render_derived()))


def arrays(columns: Iterable[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip((column.name for column in columns), map(list, zip(*rows, strict=True)), strict=True))


def _adding(statement: Any, table: Table, amounts: Sequence[str]) -> Any:
    sums = {name: table.c[name] + statement.excluded[name] for name in amounts}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=sums)
