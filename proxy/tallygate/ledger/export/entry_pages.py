"""The entries of a selection, page by page.

Each page is a short transaction of its own: even a very slow reader keeps no connection and no old rows alive.
Entries never change, and those entered at as_of_ms or later are left out. So an export has
every entry that was committed before it began and entered before as_of_ms, each once. An entry that was being written at that
moment may or may not be included. A correction is never torn: its parts are committed together, entered at one instant, and
adjacent in the order of the export.
"""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, tuple_

from tallygate.ledger.export.columns import COLUMNS, NAMES, Row
from tallygate.ledger.export.selection import Selection
from tallygate.ledger.history import OrgScope
from tallygate.ledger.id_range import id_range
from tallygate.ledger.readable import Readable
from tallygate.ledger.schema import ENTRIES

PAGE_ROWS: Final = 500  # about 2 MB as Python objects
_POSITION: Final = (ENTRIES.c.settled_at_ms, ENTRIES.c.event_id, ENTRIES.c.sequence)
_SETTLED_AT, _EVENT_ID, _SEQUENCE = (NAMES.index(name) for name in ("settled_at", "event_id", "sequence"))


async def entry_pages(database: Readable, selection: Selection, *, page_rows: int = PAGE_ROWS) -> AsyncGenerator[Sequence[Row]]:
    """Rows by organization, then settlement, event and sequence; never an empty page. Raises LedgerUnavailableError."""
    wanted = select(*(ENTRIES.c[column.source].label(column.name) for column in COLUMNS)).order_by(*_POSITION).limit(page_rows)
    for scope in selection.scopes:
        page: Sequence[Row] = ()
        while not page or len(page) == page_rows:
            begins_ms = page[-1][_SETTLED_AT] if page else selection.begins_ms(scope)
            following = wanted.where(*_following(selection, scope, page))
            page = await database.ask(partial(_rows, following, begins_ms, selection.to_ms))
            if not page:
                break
            yield page


def _rows(statement: Select[Any], begins_ms: int, ends_ms: int, connection: Connection) -> Sequence[Row]:
    return connection.execute(statement.where(*id_range(connection, begins_ms, ends_ms))).all()


def _count(statement: Select[Any], begins_ms: int, ends_ms: int, connection: Connection) -> int:
    some = statement.where(*id_range(connection, begins_ms, ends_ms)).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def _following(selection: Selection, scope: OrgScope, page: Sequence[Row]) -> list[ColumnElement[bool]]:
    """The condition for rows after a page. SQLite seeks by one lower bound, so the range itself begins where the page ended."""
    if not page:
        return selection.conditions(scope)
    last = page[-1]
    edge = (last[_SETTLED_AT], last[_EVENT_ID], last[_SEQUENCE])
    return [*selection.conditions(scope, from_ms=edge[0]), tuple_(*_POSITION) > tuple_(*map(literal, edge))]


async def count_entries(database: Readable, selection: Selection, *, at_most: int) -> int:
    """Count the rows of the selection; at_most + 1 stands for any number above at_most. Raises LedgerUnavailableError."""
    found = 0
    for scope in selection.scopes:
        some = select(literal(1)).select_from(ENTRIES).where(*selection.conditions(scope)).limit(at_most + 1 - found)
        found += await database.ask(partial(_count, some, selection.begins_ms(scope), selection.to_ms))
        if found > at_most:
            break
    return found
