"""Notices in the limiter's streams: in their own table with the events of their batch, each once, the unreadable set aside."""

import asyncio
from collections.abc import Callable

import pytest
from ledger_values import START_MS, a_fact, an_entry, assert_no_drift
from notice_values import PAUSED, RESUMED, a_notice, append_notice, notice_fields
from sqlalchemy import func, select
from test_ledger_writer import a_writer, append, backlog

from tallygate.config.section import is_identifier
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.entry import MalformedEntryError
from tallygate.ledger.notices.notice import WORD_CHARS_MAX, Notice, NoticeType, notice_of_stream
from tallygate.ledger.notices.schema import DELIVERIES, NOTICES
from tallygate.ledger.schema import MALFORMED
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import org_keys


async def counts(database: Database) -> tuple[int, int]:
    """Rows of notices and of deliveries."""
    async with database.read() as connection:
        notices = (await connection.execute(select(func.count()).select_from(NOTICES))).scalar_one()
        deliveries = (await connection.execute(select(func.count()).select_from(DELIVERIES))).scalar_one()
    return notices, deliveries


def to_two(notice: Notice) -> tuple[str, ...]:
    return ("ops", "billing") if notice.org == "acme" else ()


async def test_notices_are_stored_beside_the_events_of_their_batch(redis_store: RedisConnection, database: Database) -> None:
    await append(redis_store, a_fact(1))
    await append_notice(redis_store, 1)
    await append_notice(redis_store, 2, **PAUSED)
    await append_notice(redis_store, 3, **RESUMED, org="other")
    writer = a_writer(redis_store, Book(database, endpoints_of=to_two))

    assert await writer.step() == 4
    assert (await assert_no_drift(database))[0] == 1
    assert await counts(database) == (3, 4)
    assert await backlog(redis_store) == 0
    assert writer.counts.malformed == 0
    async with database.read() as connection:
        row = (await connection.execute(select(NOTICES).where(NOTICES.c.type == "spend.warning"))).mappings().one()
    assert row["spent_nano_usd"] == 80_000_000_001
    assert (row["threshold_permille"], row["refused_nano_usd"], row["resumes_at_ms"]) == (800, None, None)


async def test_a_notice_told_again_is_neither_stored_nor_sent_again(database: Database) -> None:
    book = Book(database, endpoints_of=to_two)
    await book.record([], notices=[a_notice(1), a_notice(1)])
    await book.record([], notices=[a_notice(1), a_notice(2)])

    assert await counts(database) == (2, 4)


async def test_a_notice_told_again_goes_to_no_endpoint_that_came_meanwhile(database: Database) -> None:
    await Book(database, endpoints_of=lambda _notice: ("ops",)).record([], notices=[a_notice(1)])
    await Book(database, endpoints_of=lambda _notice: ("ops", "later")).record([], notices=[a_notice(1)])

    assert await counts(database) == (1, 1)


async def test_two_writers_with_the_same_notices_store_each_once(open_another: Callable[[], Database]) -> None:
    books = [Book(open_another(), endpoints_of=to_two) for _ in range(4)]
    await asyncio.gather(*(book.record([], notices=[a_notice(number) for number in range(20)]) for book in books))

    assert await counts(open_another()) == (20, 40)


async def test_events_and_notices_of_a_batch_are_stored_together_or_not_at_all(database: Database) -> None:
    def cut_off(_notice: Notice) -> tuple[str, ...]:
        raise LedgerUnavailableError("cut off")

    with pytest.raises(LedgerUnavailableError):
        await Book(database, endpoints_of=cut_off).record([an_entry(1)], notices=[a_notice(1)])

    assert await counts(database) == (0, 0)
    assert (await assert_no_drift(database))[0] == 0


async def test_unreadable_notices_are_set_aside_and_block_nothing(
    redis_store: RedisConnection, database: Database, book: Book
) -> None:
    await append_notice(redis_store, 1, type="spend.nonsense")
    await append_notice(redis_store, 2, threshold_permille=None)
    await append_notice(redis_store, 3)
    writer = a_writer(redis_store, book)
    await writer.step()

    assert (await counts(database))[0] == 1
    assert writer.counts.malformed == 2
    assert await backlog(redis_store) == 0
    async with database.read() as connection:
        assert len((await connection.execute(select(MALFORMED.c.reason))).all()) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "spend.other"},
        {"threshold_permille": None},
        {"spent_nano_usd": -1},
        {"limit_nano_usd": 2**53},
        {"spent_nano_usd": 1.5},
        {"at_ms": 4_102_444_800_001},
        {"org": ""},
        {"org": "a b"},
        {"org": "a\r\nx-header: 1"},
        {"limit": "o" * (WORD_CHARS_MAX + 1)},
        {**PAUSED, "resumes_at_ms": None},
        {**PAUSED, "refused_nano_usd": None},
    ],
    ids=str,
)
def test_what_is_no_notice_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(MalformedEntryError):
        notice_of_stream(notice_fields(1, **changed))


def test_the_longest_ids_that_the_limiter_takes_fit() -> None:
    org, client = "o" * 128, "c" * 64
    assert org_keys(org)
    assert is_identifier(client)
    assert not is_identifier(client + "c")
    told = a_notice(1, org=org, limit=f"cred:{client}:spend_{'9' * 12}m:credential")
    assert told.org == org
    assert 256 < len(told.event_id) <= WORD_CHARS_MAX


def test_a_notice_without_its_fields_is_refused() -> None:
    for missing in (b"event", b"event_id"):
        fields = notice_fields(1)
        del fields[missing]
        with pytest.raises(MalformedEntryError):
            notice_of_stream(fields)


def test_a_pause_tells_what_was_refused_and_when_it_ends() -> None:
    notice = a_notice(1, **PAUSED)
    assert notice.type is NoticeType.PAUSED
    assert (notice.refused_nano_usd, notice.resumes_at_ms) == (900_000_000, START_MS + 3_600_000)
