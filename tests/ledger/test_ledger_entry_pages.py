"""Pages of entries that match a filter, found by what the rollups know, are those that reading everything would give."""

from dataclasses import replace

import pytest
from ledger_values import START_MS, an_entry
from msgspec import structs

from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.history import Dimension, EntriesQuery, OrgScope, UsageQuery
from tallygate.ledger.schema import ENTRIES
from tallygate.ledger.time_buckets import DAY_MS, QUARTER_MS
from tallygate.ledger.usage_queries import UsageQueries

D = Dimension
SCOPES = (OrgScope(org="acme"), OrgScope(org="beta", visible_from_ms=START_MS // DAY_MS * DAY_MS + 10 * DAY_MS))
RANGE = {"scopes": SCOPES, "from_ms": START_MS + 3 * QUARTER_MS + 7, "to_ms": START_MS + 70 * DAY_MS + 1_234}
FILTERS = (
    {D.STATUS: frozenset({"500"})},
    {D.STATUS: frozenset({"200"}), D.CAPABILITY: frozenset({"search"})},
    {D.CREDENTIAL: frozenset({"key-2"})},
    {D.MODEL: frozenset({"rare", "long" * 64})},
    {D.MODEL: frozenset({"long" * 100})},
    {D.MODEL: frozenset({"never"})},
    {D.ORG: frozenset({"beta"}), D.OUTCOME: frozenset({"success"})},
    {D.OUTCOME: frozenset({"refused"})},
    {D.REFUSED_BY: frozenset({""}), D.STATUS: frozenset({"500"})},
)


@pytest.fixture
async def written(book: Book, database: Database) -> list[Entry]:
    """80 days; some events have a later word that takes them under other labels, and everything of them with it."""
    entries = [
        an_entry(
            number,
            settled_at_ms=START_MS + number * DAY_MS // 4 + number * 1_000,
            org=("acme", "beta")[number % 2],
            credential=f"key-{number % 3}",
            capability=("chat", "search")[number % 5 == 0],
            status=(200, 500)[number % 41 == 0],
            response_model="rare" if number % 67 == 0 else "long" * 100 if number == 90 else "gpt-4o",
        )
        for number in range(320)
    ]
    expired = [an_entry(1_000 + day, kind="expired", settled_at_ms=START_MS + day * DAY_MS, status=500) for day in range(9)]
    late = [
        structs.replace(an_entry(1_000 + day, kind="late", settled_at_ms=START_MS + day * DAY_MS), status=200) for day in range(9)
    ]
    await book.record([*entries, *expired])
    await book.record(late)
    refusal = RefusalCount(org="acme", credential="key-2", capability="chat", refused_by="tokens_1m", status=500, requests=1_000)
    await book.add_refusals("worker-0", [refusal], at_ms=START_MS + 60 * DAY_MS)
    async with database.read() as connection:
        rows = (await connection.execute(ENTRIES.select())).mappings().all()
    return [Entry(**{name: row[name] for name in Entry.__struct_fields__}) for row in rows]


def _label(entry: Entry, dimension: Dimension) -> str:
    return "" if dimension is D.REFUSED_BY else str(getattr(entry, dimension.value))


def _expected(written: list[Entry], query: EntriesQuery) -> list[tuple[int, str, int]]:
    visible = {scope.org: scope.visible_from_ms for scope in query.scopes}
    return sorted(
        (
            (entry.settled_at_ms, entry.event_id, entry.sequence)
            for entry in written
            if max(query.from_ms, visible[entry.org]) <= entry.settled_at_ms < query.to_ms
            and all(_label(entry, dimension) in {value[:256] for value in wanted} for dimension, wanted in query.filters.items())
        ),
        reverse=query.newest_first,
    )


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_of_a_filter_are_what_reading_everything_gives(
    written: list[Entry], queries: UsageQueries, *, newest_first: bool
) -> None:
    for filters in FILTERS:
        query = EntriesQuery(**RANGE, filters=filters, limit=4, newest_first=newest_first)
        found: list[tuple[int, str, int]] = []
        while True:
            page = await queries.entries_page(query)
            found += [(entry.settled_at_ms, entry.event_id, entry.sequence) for entry in page.entries]
            if not page.cursor:
                break
            assert len(page.entries) == query.limit
            query = replace(query, cursor=page.cursor)
        assert found == _expected(written, query), filters


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("at_ms", [0, QUARTER_MS - 1])
async def test_a_page_that_ends_at_the_edge_of_a_bucket_is_followed_by_the_rest(
    book: Book, queries: UsageQueries, *, newest_first: bool, at_ms: int
) -> None:
    """Of the cursor's own bucket it is not known how much is left."""
    quarter = START_MS // QUARTER_MS * QUARTER_MS
    entries = [an_entry(n, settled_at_ms=quarter + (n // 6) * QUARTER_MS + at_ms, org="acme") for n in range(30)]
    await book.record(entries)
    query = EntriesQuery(
        scopes=SCOPES[:1],
        from_ms=quarter,
        to_ms=quarter + DAY_MS,
        filters={D.CAPABILITY: frozenset({"chat"})},
        limit=5,
        newest_first=newest_first,
    )
    found = 0
    while True:
        page = await queries.entries_page(query)
        found += len(page.entries)
        if not page.cursor:
            break
        query = replace(query, cursor=page.cursor)
    assert found == len(entries)


async def test_a_long_name_is_the_same_in_sums_and_entries(written: list[Entry], queries: UsageQueries) -> None:
    whole = {"scopes": (OrgScope(org="acme"),), "from_ms": 0, "to_ms": 2**42}
    rows = await queries.usage(UsageQuery(**whole, group_by=(D.MODEL,)))
    long = "long" * 64
    assert {row.group[0]: row.usage.requests for row in rows}[long] == 1
    for name in (long, "long" * 100):
        page = await queries.entries_page(EntriesQuery(**whole, filters={D.MODEL: frozenset({name})}))
        assert [entry.model for entry in page.entries] == [long]
        (row,) = await queries.usage(UsageQuery(**whole, filters={D.MODEL: frozenset({name})}))
        assert row.usage.requests == 1
    assert len(written) > 300


async def test_a_model_that_was_counted_as_other_is_still_found(
    book: Book, queries: UsageQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.series.SERIES_PER_ORG_MAX", 4)
    for number in range(6):
        await book.record([an_entry(number, response_model=f"model-{number}")])

    page = await queries.entries_page(
        EntriesQuery(scopes=SCOPES[:1], from_ms=0, to_ms=2**43, filters={D.MODEL: frozenset({"model-5"})})
    )
    assert [entry.response_model for entry in page.entries] == ["model-5"]


async def test_a_filter_that_nothing_matches_reads_no_entries(
    book: Book, queries: UsageQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    await book.record([an_entry(number, settled_at_ms=START_MS + number) for number in range(20)])
    read: list[object] = []
    monkeypatch.setattr("tallygate.ledger.usage_queries._positions", lambda *asked: read.append(asked))

    page = await queries.entries_page(EntriesQuery(**RANGE, filters={D.STATUS: frozenset({"418"})}))
    assert (page.entries, page.cursor, read) == ((), "", [])
