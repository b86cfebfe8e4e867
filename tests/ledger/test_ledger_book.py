"""One event, one set of entries: whatever is told, however often, in whatever order."""

import asyncio
import random
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_values import START_MS, a_fact, an_entry, assert_no_drift, stream_fields, sums
from msgspec.structs import asdict
from sqlalchemy import Connection, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

import tallygate.ledger.directory.schema  # noqa: F401  # its tables are of the same metadata
from tallygate.ledger.book import Book, Malformed, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import Entry, Kind, MalformedEntryError, entry_of_stream
from tallygate.ledger.history import Dimension, EntriesQuery, OrgScope, UsageQuery
from tallygate.ledger.schema import AMOUNTS, ENTRIES, MALFORMED, METADATA
from tallygate.ledger.usage_queries import UsageQueries

EVER = {"from_ms": 0, "to_ms": 2**43}


async def test_the_migrations_build_the_declared_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "include_name": _is_ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or (
        name not in {"ledger_version", "stray_days"} and not (name or "").startswith(("entries_", "rollups_"))
    )


async def test_readers_of_postgresql_have_room_for_sums_and_writers_its_default(database: Database) -> None:
    if database.dialect == "sqlite":
        return

    async def room(connection: AsyncConnection) -> str:
        return str((await connection.execute(text("SHOW work_mem"))).scalar_one())

    async with database.read() as reading, database.write() as writing:
        assert (await room(reading), await room(writing)) == ("32MB", "4MB")


async def test_migrating_again_changes_nothing(database: Database, book: Book) -> None:
    await book.record([an_entry()])
    await database.migrate()

    assert (await assert_no_drift(database))[0] == 1


async def test_an_event_is_kept_with_all_its_facts(book: Book, queries: UsageQueries) -> None:
    entry = an_entry(client_request_id="mine", flags=("overrun",), first_byte_ms=None, price_version=None)
    await book.record([entry])

    page = await queries.entries_page(EntriesQuery(scopes=(OrgScope(org="acme"),), **EVER))
    assert page.entries == (entry,)


@pytest.mark.parametrize("times", range(1, 6))
async def test_an_event_told_again_counts_once(database: Database, book: Book, times: int) -> None:
    entries = [an_entry(number) for number in range(20)]
    once = await book.record(entries)
    expected = await sums(database)
    told = entries * times
    random.Random(times).shuffle(told)
    again = await book.record(told)

    assert (once.entries, once.repeated) == (20, 0)
    assert (again.entries, again.repeated) == (0, 20 * times)
    assert await sums(database) == expected


async def test_an_event_twice_in_one_batch_counts_once(database: Database, book: Book) -> None:
    recorded = await book.record([an_entry(), an_entry()])

    assert (recorded.entries, recorded.repeated) == (1, 1)
    assert (await assert_no_drift(database))[0] == 1


def _expired_then_late(final_nano_usd: int) -> tuple[Entry, Entry]:
    checkpoint = an_entry(kind="expired", cost_nano_usd=300, prompt_tokens=100, completion_tokens=7, cached_tokens=0)
    final = an_entry(
        kind="late",
        cost_nano_usd=final_nano_usd,
        posted=final_nano_usd - 300,
        settled_at_ms=START_MS + 3_600_000,
        expired_at_ms=START_MS,
        status=206,
    )
    return checkpoint, final


@pytest.mark.parametrize("final_nano_usd", [300, 450, 100])
@pytest.mark.parametrize("together", [True, False])
async def test_the_final_word_replaces_the_checkpoint(
    database: Database, book: Book, queries: UsageQueries, final_nano_usd: int, together: bool
) -> None:
    checkpoint, final = _expired_then_late(final_nano_usd)
    for batch in [[checkpoint, final]] if together else [[checkpoint], [final]]:
        await book.record(batch)

    requests, prompt, completion, cached, _, reasoning, cost, *_ = await assert_no_drift(database)
    assert (requests, prompt, completion, cached, reasoning, cost) == (1, 100, 20, 40, 5, final_nano_usd)
    rows = await queries.usage(UsageQuery(scopes=(OrgScope(org="acme"),), group_by=(Dimension.STATUS,), **EVER))
    assert [(row.group, row.usage.requests, row.usage.cost_nano_usd) for row in rows] == [(("206",), 1, final_nano_usd)]


async def test_what_a_late_word_takes_back_leaves_the_bucket_that_the_checkpoint_was_posted_to(
    book: Book, queries: UsageQueries
) -> None:
    checkpoint, final = _expired_then_late(100)
    await book.record([checkpoint, final])

    assert await queries.posted("acme", 0) == [(START_MS - START_MS % 300_000, 100)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_what_a_late_word_adds_counts_when_the_checkpoint_did(
    database: Database, book: Book, queries: UsageQueries, order: tuple[int, int]
) -> None:
    """One exchange counts at one time, in the limiter's windows and in every sum, whichever word is stored first."""
    told = _expired_then_late(450)
    for index in order:
        await book.record([told[index]])

    assert await queries.posted("acme", 0) == [(START_MS - START_MS % 300_000, 450)]
    async with database.read() as connection:
        assert (await connection.execute(select(ENTRIES.c.settled_at_ms).distinct())).scalars().all() == [START_MS]


async def test_any_order_of_checkpoint_and_final_word_comes_to_the_same(database: Database, book: Book) -> None:
    """Two writers may store them the wrong way round."""
    checkpoint, final = _expired_then_late(450)
    for batch in ([final], [checkpoint], [final], [checkpoint, final]):
        await book.record(batch)

    assert (await assert_no_drift(database))[0] == 1
    assert (await sums(database))["entries.posted"] == (450,)
    assert (await sums(database))["entries"][AMOUNTS.index("cost_nano_usd")] == 450


async def test_a_second_final_word_changes_nothing(database: Database, book: Book) -> None:
    """A limiter that has lost its memory posts a settlement that is told again as unheld."""
    await book.record([an_entry()])
    before = await sums(database)
    recorded = await book.record([an_entry(kind="unheld", settled_at_ms=START_MS + 90_000_000)])

    assert recorded.repeated == 1
    assert await sums(database) == before


async def test_two_writers_at_once_count_each_event_once(open_another: Callable[[], Database]) -> None:
    databases = [open_another() for _ in range(4)]
    entries = [an_entry(number, org=f"org-{number % 7}") for number in range(200)]

    async def write(database: Database, seed: int) -> None:
        mine = entries[:]
        random.Random(seed).shuffle(mine)
        book = Book(database)
        for start in range(0, len(mine), 40):
            await book.record(mine[start : start + 40])

    await asyncio.gather(*(write(database, seed) for seed, database in enumerate(databases)))

    assert (await assert_no_drift(databases[0]))[0] == 200


async def test_a_transaction_that_fails_leaves_nothing(database: Database, book: Book) -> None:
    async def half_a_transaction() -> None:
        async with database.write() as connection:
            await connection.execute(ENTRIES.insert(), [asdict(an_entry())])
            raise InterruptedError

    with pytest.raises(LedgerUnavailableError):
        await half_a_transaction()

    assert (await assert_no_drift(database))[0] == 0


async def test_text_that_databases_refuse_is_made_plain(book: Book, queries: UsageQueries) -> None:
    entry = an_entry(client_request_id="a\0b", request_model="x" * 5_000, response_model=None)
    await book.record([entry])

    page = await queries.entries_page(EntriesQuery(scopes=(OrgScope(org="acme"),), **EVER))
    assert page.entries[0].client_request_id == "a\ufffdb"
    assert page.entries[0].request_model == "x" * 1_024


@pytest.mark.parametrize(
    ("field", "word"),
    [
        (b"event", b"{}"),
        (b"event", b"not json"),
        (b"event", b'{"event_id": 1}'),
        (b"event_id", b"another"),
        (b"event_id", b"\xff"),
        (b"kind", b"gift"),
        (b"kind", b"reversed"),
        (b"settled_at_ms", b"soon"),
        (b"cost_nano_usd", b"9" * 30),
        (b"posted_nano_usd", b"1.5"),
    ],
)
def test_what_is_no_usage_event_is_told_apart(field: bytes, word: bytes) -> None:
    words = {**stream_fields(a_fact()), field: word}

    with pytest.raises(MalformedEntryError):
        entry_of_stream(words[b"event"], words)


async def test_malformed_entries_are_kept_once(database: Database, book: Book) -> None:
    odd = Malformed(partition=3, stream_id="1-0", reason="no JSON", fields="{}")
    for _ in range(2):
        await book.record([], [odd], now_ms=START_MS)

    async with database.read() as connection:
        assert (await connection.execute(select(MALFORMED.c.partition, MALFORMED.c.reason))).all() == [(3, "no JSON")]


async def test_refusals_are_counted_by_what_is_new(book: Book, queries: UsageQueries) -> None:
    def counted(requests: int) -> list[RefusalCount]:
        return [
            RefusalCount(
                org="acme", credential="acme-prod", capability="chat", refused_by="requests_1m", status=429, requests=requests
            )
        ]

    assert [await book.add_refusals("worker-0", counted(n), at_ms=START_MS) for n in (3, 3, 5)] == [3, 0, 2]
    assert await book.add_refusals("worker-1", counted(4), at_ms=START_MS) == 4
    assert await book.add_refusals("worker-0", counted(1), at_ms=START_MS) == 1  # its counter began anew

    rows = await queries.usage(
        UsageQuery(scopes=(OrgScope(org="acme"),), group_by=(Dimension.OUTCOME, Dimension.REFUSED_BY, Dimension.STATUS), **EVER)
    )
    assert [(row.group, row.usage.refused, row.usage.requests) for row in rows] == [(("refused", "requests_1m", "429"), 10, 0)]


def test_kinds_are_the_limiters_words() -> None:
    assert {kind.value for kind in Kind} >= {"settled", "released", "expired", "unheld", "late"}
