"""Months of entries in PostgreSQL: made ahead, emptied and dropped without anybody waiting, and without any event lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_values import START_MS, an_entry, assert_no_drift
from limiter_at_work import an_organization
from msgspec.structs import replace
from new_ledger import new_ledger, postgres_ledger
from pgbouncer_process import running_pgbouncer
from postgres_process import PostgresProcess
from sqlalchemy import select, text

from tallygate.domain.organization import Organization
from tallygate.ledger import entry_months, expired_months
from tallygate.ledger.audit import LedgerAudit, lifetime_drifts
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.entry_months import EntryMonth, EntryMonths
from tallygate.ledger.expired_months import ExpiredMonths
from tallygate.ledger.opening import open_database
from tallygate.ledger.retention import Retention, visible_from_ms
from tallygate.ledger.schema import LIFETIME_SPEND, PURGED_TOTALS, SPEND_BUCKETS
from tallygate.ledger.time_buckets import DAY_MS

pytestmark = pytest.mark.process

AUGUST = EntryMonth(2026, 8)
AHEAD_MS = START_MS + 200 * DAY_MS
_MONTHS = len(range(8, 12 + 5 + 1))  # from August until that, and two more


@pytest.fixture
async def url(postgres_server: PostgresProcess) -> AsyncIterator[str]:
    async with postgres_ledger(postgres_server) as url:
        yield url


@pytest.fixture
async def open_ledger(url: str) -> AsyncIterator[Callable[..., Database]]:
    """Opens the ledger, by its own address or through a pooler's."""
    opened: list[Database] = []

    def again(address: str = url) -> Database:
        opened.append(open_database(address, Path()))
        return opened[-1]

    yield again
    for database in opened:
        await database.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Database]) -> Database:
    return open_ledger()


async def partitions(database: Database) -> dict[str, int]:
    """Rows of each partition of the entries."""
    async with database.read() as connection:
        rows = await connection.execute(text("SELECT tableoid::regclass::text, count(*) FROM entries GROUP BY 1"))
        counts = {row[0]: row[1] for row in rows}
        named = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass")
        return {name: counts.get(name, 0) for name in sorted((await connection.execute(named)).scalars())}


def test_a_months_partition_begins_and_ends_with_the_month() -> None:
    month = EntryMonth(2026, 12)

    assert (month.table, EntryMonth.at(month.end_ms - 1), month.next) == ("entries_2026_12", month, EntryMonth.at(month.end_ms))
    assert (int(month.first_id, 16), int(month.end_id, 16)) == (1_796_083_200_000, 1_798_761_600_000)


async def test_there_are_none_on_sqlite(tmp_path: Path) -> None:
    database = open_database("", tmp_path)
    await EntryMonths(database).make(START_MS, START_MS)
    assert await EntryMonths(database).past(AHEAD_MS) == []
    assert list(tmp_path.iterdir()) == []
    await database.close()


async def test_months_have_their_partitions_and_empty_ones_go(ledger: Database) -> None:
    months = EntryMonths(ledger)
    await months.make(START_MS, START_MS)
    await months.make(START_MS, START_MS + 40 * DAY_MS)
    await Book(ledger).record([an_entry()])
    assert await partitions(ledger) == {"entries_2026_08": 1} | dict.fromkeys(
        ("entries_2026_09", "entries_2026_10", "entries_2026_11", "entries_2026_12", "entries_other"), 0
    )
    assert await months.past(AHEAD_MS) == [EntryMonth(2026, number) for number in range(8, 13)]

    await Retention(ledger, pause_seconds=0).purge((an_organization(history_days=1),), AHEAD_MS)
    assert await partitions(ledger) == {"entries_other": 0}


async def test_an_event_needs_no_partition_and_a_month_takes_what_came_before_it(ledger: Database) -> None:
    """Of a gateway whose clock was ahead, or of a ledger that could not make the month in time: each counts once all the same."""
    book = Book(ledger)
    early = [an_entry(number, started_at_ms=AHEAD_MS) for number in range(3)]
    await book.record([*early, an_entry(9)])
    assert await partitions(ledger) == {"entries_other": 4}

    await EntryMonths(ledger).make(START_MS, AHEAD_MS)
    found = await partitions(ledger)
    assert (found[EntryMonth.at(AHEAD_MS).table], found[AUGUST.table], found["entries_other"]) == (3, 1, 0)
    assert (await book.record([*early, an_entry(9)])).repeated == 4
    assert (await assert_no_drift(ledger))[0] == 4


async def test_too_many_entries_stay_where_they_are(ledger: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_months, "MOVED_MAX", 2)
    await Book(ledger).record([an_entry(number) for number in range(3)])
    await EntryMonths(ledger).make(START_MS, START_MS)

    found = await partitions(ledger)
    assert (AUGUST.table in found, AUGUST.next.table in found, found["entries_other"]) == (False, True, 3)
    assert (await assert_no_drift(ledger))[0] == 3


async def test_an_event_of_a_month_that_was_dropped_is_stored(ledger: Database) -> None:
    months = EntryMonths(ledger)
    await months.make(START_MS, START_MS)
    await months.drop_empty(AHEAD_MS)
    assert await Book(ledger).record([an_entry()])
    assert await partitions(ledger) == {"entries_other": 1}
    assert (await assert_no_drift(ledger))[0] == 1


async def test_a_month_that_is_in_use_is_made_and_dropped_later_and_nobody_waits_meanwhile(
    ledger: Database, open_ledger: Callable[..., Database]
) -> None:
    """As while `pg_dump` reads."""
    months, book = EntryMonths(ledger), Book(ledger)
    await months.make(START_MS, START_MS)
    async with open_ledger().read() as reading:
        await reading.execute(text("SELECT count(*) FROM entries"))
        before = await partitions(ledger)
        await months.make(AHEAD_MS, AHEAD_MS)
        await months.drop_empty(AHEAD_MS)
        assert await partitions(ledger) == before
        await book.record([an_entry(1, started_at_ms=AHEAD_MS)])
    await months.make(AHEAD_MS, AHEAD_MS)
    await months.drop_empty(AHEAD_MS)

    assert await partitions(ledger) == {"entries_2027_03": 1, "entries_2027_04": 0, "entries_2027_05": 0, "entries_other": 0}


@pytest.fixture(params=["itself", "behind a pooler"])
def address(request: pytest.FixtureRequest, postgres_server: PostgresProcess, url: str) -> Iterator[str]:
    if request.param == "itself":
        yield url
        return
    with running_pgbouncer(postgres_server, "transaction", sessions=4) as pooler:
        yield pooler.url(url.rpartition("/")[2])


async def test_ledgers_that_start_at_once_make_each_month_once(address: str, open_ledger: Callable[..., Database]) -> None:
    ledgers = [open_ledger(address) for _ in range(3)]
    await asyncio.gather(*(EntryMonths(database).make(START_MS, AHEAD_MS) for database in ledgers))
    assert len(await partitions(ledgers[0])) == _MONTHS + 1


async def test_ledgers_that_make_the_same_months_while_others_write_do_not_mind_each_other(
    address: str, open_ledger: Callable[..., Database]
) -> None:
    ledgers = [open_ledger(address) for _ in range(3)]
    events = [an_entry(number, started_at_ms=START_MS + number % 8 * 30 * DAY_MS) for number in range(120)]

    async def record(database: Database, *, batch: int) -> None:
        for start in range(0, len(events), batch):
            await Book(database).record(events[start : start + batch])

    await asyncio.gather(
        *(EntryMonths(database).make(START_MS, AHEAD_MS) for database in ledgers),
        *(record(database, batch=10 + at) for at, database in enumerate(ledgers)),
    )
    await EntryMonths(ledgers[0]).make(START_MS, AHEAD_MS)
    found = await partitions(ledgers[0])
    assert len(found) == _MONTHS + 1
    assert (sum(found.values()), found["entries_other"]) == (120, 0)
    assert (await assert_no_drift(ledgers[0]))[0] == 120


HISTORIES = {"acme": 30, "beta": 60}
PURGED_AT_MS = START_MS + 100 * DAY_MS
AUGUSTS_ENTRIES = 2 * (20 + 3 * 3)


def organizations(**histories: int | None) -> list[Organization]:
    return [an_organization(org, history_days=days) for org, days in (HISTORIES | histories).items()]


def late(number: int, org: str, *, days_ago: int) -> list[Entry]:
    """An event that expired, and whose final amounts were posted when its month was long over."""
    told = {"org": org, "credential": f"{org}-{number % 2}"}
    expired = an_entry(number, kind="expired", **told)
    posted_at_ms = PURGED_AT_MS - days_ago * DAY_MS
    return [expired, replace(an_entry(number, settled_at_ms=posted_at_ms, cost_nano_usd=7_000, **told), posted_at_ms=posted_at_ms)]


async def fill(database: Database, *more: Entry) -> None:
    """August of two organizations, and later entries that nobody's history has lost."""
    await EntryMonths(database).make(START_MS, PURGED_AT_MS)
    book = Book(database)
    await book.record([an_entry(number, org=org) for number, org in enumerate(["acme", "beta"] * 20)])
    words = [late(100 + days + at, org, days_ago=days) for days in (10, 45, 80) for at, org in enumerate(HISTORIES)]
    for entry in [*itertools.chain(*words), *more]:
        await book.record([entry])
    await book.record([an_entry(200, started_at_ms=PURGED_AT_MS, settled_at_ms=PURGED_AT_MS)])


async def remembered(database: Database) -> list[list[tuple[Any, ...]]]:
    """Everything that is kept of what is removed."""
    async with database.read() as connection:
        return [
            sorted(map(tuple, await connection.execute(select(table)))) for table in (LIFETIME_SPEND, SPEND_BUCKETS, PURGED_TOTALS)
        ]


async def test_a_month_that_nobody_keeps_goes_at_once_and_leaves_what_its_rows_would(ledger: Database, tmp_path: Path) -> None:
    by_rows = await new_ledger(tmp_path)
    for database in (ledger, by_rows):
        await fill(database)
    assert await ExpiredMonths(ledger).empty(histories(organizations()), PURGED_AT_MS) == AUGUSTS_ENTRIES
    assert (await partitions(ledger))[AUGUST.table] == 0

    for database in (ledger, by_rows):
        await Retention(database, pause_seconds=0).purge(organizations(), PURGED_AT_MS)
        assert [await lifetime_drifts(database, org) for org in HISTORIES] == [[], []]
        visible = histories(organizations())
        assert [await LedgerAudit(database).postings(org, visible[org]) for org in HISTORIES] == [[], []]
    assert await remembered(ledger) == await remembered(by_rows)
    assert AUGUST.table not in await partitions(ledger)
    await by_rows.close()


@pytest.mark.parametrize(
    ("which", "more"),
    [
        (organizations(beta=None), ()),
        (organizations(beta=120), ()),
        (organizations(beta=30)[:1], ()),  # beta has left the configuration
        (organizations(), (an_entry(50, settled_at_ms=PURGED_AT_MS - DAY_MS),)),
    ],
    ids=["unlimited", "longer", "unknown", "settled long after it began"],
)
async def test_a_month_of_which_anything_is_kept_stays_and_loses_rows(
    ledger: Database, which: list[Organization], more: tuple[Entry, ...]
) -> None:
    await fill(ledger, *more)
    assert await ExpiredMonths(ledger).empty(histories(which), PURGED_AT_MS) == 0
    assert (await partitions(ledger))[AUGUST.table] == AUGUSTS_ENTRIES + len(more)
    await Retention(ledger, pause_seconds=0).purge(which, PURGED_AT_MS)
    assert (await partitions(ledger))[AUGUST.table] == (1 if more else AUGUSTS_ENTRIES // 2)


async def test_a_month_that_somebody_reads_loses_its_rows_one_by_one(
    ledger: Database, open_ledger: Callable[..., Database]
) -> None:
    await fill(ledger)
    async with open_ledger().read() as reading:
        await reading.execute(text("SELECT count(*) FROM entries"))
        assert await ExpiredMonths(ledger).empty(histories(organizations()), PURGED_AT_MS) == 0
        await Retention(ledger, pause_seconds=0).purge(organizations(), PURGED_AT_MS)
    found = await partitions(ledger)
    assert (found[AUGUST.table], sum(found.values())) == (0, 1)
    assert [await lifetime_drifts(ledger, org) for org in HISTORIES] == [[], []]


async def test_an_event_that_comes_at_the_last_moment_keeps_its_month(
    ledger: Database, open_ledger: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(ledger)
    look = expired_months._is_expired
    comes = iter([an_entry(50, settled_at_ms=PURGED_AT_MS)])

    async def then_comes(*told: Any) -> bool:
        found = await look(*told)
        for entry in comes:
            await Book(open_ledger()).record([entry])
        return found

    monkeypatch.setattr(expired_months, "_is_expired", then_comes)
    assert await ExpiredMonths(ledger).empty(histories(organizations()), PURGED_AT_MS) == 0
    assert (await partitions(ledger))[AUGUST.table] == AUGUSTS_ENTRIES + 1


def histories(which: list[Organization]) -> dict[str, int]:
    return {organization.id: visible_from_ms(organization, PURGED_AT_MS) for organization in which}
