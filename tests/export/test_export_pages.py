"""Which rows an export holds, in which order, and how much of them is in memory."""

import gc
import sqlite3
import sys
from contextlib import closing

import pytest
from export_values import EVER_MS, START_MS, a_correction, an_entry, everything, odd_entries
from msgspec import structs
from msgspec.structs import asdict
from search import cases
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import dialect

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Kind
from tallygate.ledger.export.columns import NAMES
from tallygate.ledger.export.csv_rows import CsvRows
from tallygate.ledger.export.entry_pages import _POSITION, PAGE_ROWS, _following, count_entries, entry_pages
from tallygate.ledger.export.stream import export_pieces
from tallygate.ledger.history import Dimension, OrgScope
from tallygate.ledger.schema import ENTRIES

ROWS = cases(short=15_000, steady=15_000, deep=100_000)  # 30 pages at least
EVENT, SEQUENCE, ORG = NAMES.index("event_id"), NAMES.index("sequence"), NAMES.index("org")


async def rows_of(database, selection, **options):
    return [row async for page in entry_pages(database, selection, **options) for row in page]


def keys(rows):
    return [(row[ORG], row[EVENT], row[SEQUENCE]) for row in rows]


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7, 40, 500])
async def test_every_entry_is_exported_once_whatever_the_page(database: Database, book: Book, page_rows: int) -> None:
    entries = [an_entry(number, org=f"org-{number % 3}", settled_at_ms=START_MS + number // 5) for number in range(40)]
    await book.record(entries)

    rows = await rows_of(database, everything("org-1", "org-0", "org-2"), page_rows=page_rows)

    order = {"org-1": 0, "org-0": 1, "org-2": 2}
    expected = sorted(entries, key=lambda entry: (order[entry.org], entry.settled_at_ms, entry.event_id))
    assert keys(rows) == [(entry.org, entry.event_id, 0) for entry in expected]


async def test_a_range_has_its_beginning_and_not_its_end(database: Database, book: Book) -> None:
    await book.record([an_entry(number) for number in range(5)])

    rows = await rows_of(database, everything(from_ms=START_MS + 1, to_ms=START_MS + 4))

    assert [row[EVENT] for row in rows] == [an_entry(number).event_id for number in (1, 2, 3)]


async def test_nothing_of_other_organizations_or_before_the_history_is_exported(database: Database, book: Book) -> None:
    await book.record([an_entry(1), an_entry(2), an_entry(3, org="globex")])

    rows = await rows_of(database, everything(scopes=(OrgScope(org="acme", visible_from_ms=START_MS + 2),)))

    assert keys(rows) == [("acme", an_entry(2).event_id, 0)]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        (Dimension.CREDENTIAL, "acme-dev", [2]),
        (Dimension.CAPABILITY, "embeddings", [3]),
        (Dimension.MODEL, "gpt-4o-2024-08-06", [2, 3, 6]),
        (Dimension.MODEL, "gpt-4o", [4]),  # no model answered: the one asked for
        (Dimension.MODEL, "", [5]),
        (Dimension.ENDPOINT, "/v1/completions", [6]),
        (Dimension.STATUS, "429", [4]),
        (Dimension.OUTCOME, "truncated", [6]),
        (Dimension.CREDENTIAL, "nobody", []),
    ],
)
async def test_filters_keep_what_they_name(database: Database, book: Book, name, value, found) -> None:
    entries = {
        2: an_entry(2, credential="acme-dev"),
        3: an_entry(3, capability="embeddings"),
        4: an_entry(4, status=429, response_model=""),
        5: an_entry(5, request_model=None, response_model=None),
        6: an_entry(6, endpoint="/v1/completions", outcome="truncated"),
    }
    await book.record(list(entries.values()))
    selection = everything(filters={name: frozenset({value})})

    assert [row[EVENT] for row in await rows_of(database, selection)] == [entries[number].event_id for number in found]
    assert await count_entries(database, selection, at_most=10) == len(found)


@pytest.mark.parametrize("filters", [{Dimension.STATUS: {"2oo"}}, {Dimension.REFUSED_BY: {"x"}}, {Dimension.ORG: {"globex"}}])
def test_filters_that_entries_do_not_have_are_refused(filters) -> None:
    with pytest.raises(ValueError, match=r"status|cannot be filtered"):
        everything(filters=filters)


async def test_an_export_as_of_an_instant_stays_as_it_was_then(database: Database, book: Book) -> None:
    entries = [an_entry(number) for number in range(4)]
    await book.record(entries)
    selection = everything(as_of_ms=START_MS + 1_000)
    before = await rows_of(database, selection)
    async with database.write() as connection:
        numbering = await book.correct(connection, [a_correction(entry, -7) for entry in entries])
    book.committed(numbering)

    assert await rows_of(database, selection) == before
    assert len(await rows_of(database, everything())) == 8


async def test_a_correction_that_comes_between_two_pages_is_whole_or_absent(database: Database, book: Book) -> None:
    """Rows of an event always add up to something that it came to at some time."""
    entries = [an_entry(number, kind=Kind.EXPIRED, cost_nano_usd=300) for number in range(6)]
    await book.record(entries)
    costs: dict[str, int] = {}
    async for page in entry_pages(database, everything(), page_rows=2):
        for row in page:
            costs[row[EVENT]] = costs.get(row[EVENT], 0) + row[NAMES.index("cost_nano_usd")]
        finals = [structs.replace(entry, kind=Kind.LATE, cost_nano_usd=450, posted_nano_usd=150) for entry in entries]
        await book.record(finals)

    assert set(costs.values()) <= {300, 450}
    assert sorted(costs.values())[:2] == [300, 450]  # the first was exported before, the second after


@pytest.mark.parametrize(("at_most", "found"), [(0, 1), (3, 4), (16, 16), (100, 16)])
async def test_counting_stops_one_above_its_bound(database: Database, book: Book, at_most: int, found: int) -> None:
    await book.record(odd_entries())

    assert await count_entries(database, everything("globex", "acme"), at_most=at_most) == found


@pytest.mark.search
async def test_any_number_of_rows_pass_with_a_page_in_memory(sqlite: Database) -> None:
    row = asdict(an_entry())
    async with sqlite.write() as connection:
        for start in range(0, ROWS, 5_000):
            rows = [
                {**row, "event_id": f"{number:032x}", "settled_at_ms": number, "started_at_ms": number}
                for number in range(start, start + 5_000)
            ]
            await connection.execute(ENTRIES.insert(), rows)
    del rows
    gc.collect()  # what other tests left must not go while this one counts
    exported, blocks = 0, []
    async for piece in export_pieces(sqlite, everything(to_ms=EVER_MS), CsvRows()):
        exported += piece.rows
        blocks.append(sys.getallocatedblocks())

    assert exported == ROWS
    page_blocks = PAGE_ROWS * (len(NAMES) + 1)  # were every value an object of its own
    assert max(blocks[2:]) - min(blocks[2:]) < 2 * page_blocks


async def test_the_last_page_is_found_as_quickly_as_the_first(sqlite: Database, tmp_path) -> None:
    """Counted in steps of SQLite's machine: a page that looked at all rows before it would make an export quadratic."""
    await Book(sqlite).record([an_entry(number) for number in range(2_000)])
    pages = [page async for page in entry_pages(sqlite, everything(), page_rows=100)]
    scope = everything().scopes[0]

    def steps(page) -> int:
        counted = [0]
        chosen = select(ENTRIES.c.event_id).where(*_following(everything(), scope, page)).order_by(*_POSITION).limit(100)
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            connection.set_progress_handler(lambda: counted.__setitem__(0, counted[0] + 1), 10)
            connection.execute(str(chosen.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))).fetchall()
        return counted[0]

    assert len(pages) == 20
    assert 0 < steps(pages[-2]) < 2 * steps(pages[0])
