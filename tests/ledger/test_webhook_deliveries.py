"""The tables of deliveries, on both databases: claimed once, ended once, read page after page."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from ledger_values import START_MS
from notice_values import PAUSED, a_notice

from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.notices.deliveries import ERROR_CHARS_MAX, Claimed, Deliveries, Result, count_results, count_waiting
from tallygate.ledger.notices.notice import NoticeType
from tallygate.ledger.notices.pages import NoticePages, NoticesQuery
from tallygate.ledger.notices.record import DeliveryState

NOW = START_MS + 1_000
LEASE = 30_000


async def store(database: Database, count: int, *endpoints: str) -> None:
    book = Book(database, endpoints_of=lambda _notice: endpoints)
    await book.record([], notices=[a_notice(number) for number in range(count)], now_ms=NOW)


async def claim(deliveries: Deliveries, *, now_ms: int = NOW, endpoint: str = "ops") -> Claimed:
    claimed = await deliveries.claim(endpoint, now_ms=now_ms, lease_ms=LEASE)
    assert claimed is not None
    return claimed


async def test_many_processes_claim_every_delivery_once(open_another: Callable[[], Database]) -> None:
    await store(open_another(), 30, "ops", "other")

    async def claim_all(deliveries: Deliveries) -> list[str]:
        taken = []
        while (claimed := await deliveries.claim("ops", now_ms=NOW, lease_ms=LEASE)) is not None:
            taken.append(claimed.notice.event_id)
        return taken

    parts = await asyncio.gather(*(claim_all(Deliveries(open_another())) for _ in range(4)))
    taken = [event_id for part in parts for event_id in part]
    assert len(taken) == 30
    assert len(set(taken)) == 30


async def test_without_endpoints_the_database_is_not_asked() -> None:
    assert await Deliveries(cast("Database", None)).due((), NOW) == frozenset()


async def test_what_happened_first_is_sent_first(database: Database) -> None:
    await store(database, 3, "ops")
    deliveries = Deliveries(database)
    assert [(await claim(deliveries)).notice for _ in range(3)] == [a_notice(number) for number in range(3)]
    assert await deliveries.claim("ops", now_ms=NOW, lease_ms=LEASE) is None


async def test_a_lease_holds_until_it_ends(database: Database) -> None:
    await store(database, 1, "ops")
    deliveries = Deliveries(database)
    first = await claim(deliveries)
    assert await deliveries.due(["ops", "other"], NOW + LEASE - 1) == frozenset()
    assert await deliveries.claim("ops", now_ms=NOW + LEASE - 1, lease_ms=LEASE) is None
    assert await deliveries.due(["ops", "other"], NOW + LEASE) == {"ops"}
    assert await claim(deliveries, now_ms=NOW + LEASE) == first
    await deliveries.let_go(first)
    assert await claim(deliveries, now_ms=NOW + LEASE + 1) == first


async def test_an_attempt_is_recorded_once_though_two_processes_made_it(database: Database) -> None:
    await store(database, 1, "ops")
    deliveries = Deliveries(database)
    first = await claim(deliveries)
    second = await claim(deliveries, now_ms=NOW + LEASE)
    for claimed in (first, second):
        await deliveries.failed(claimed, status=500, error="x" * 999, next_at_ms=NOW + 60_000, now_ms=NOW)
    (row,) = await deliveries.latest(most=9)
    assert (row.attempts, row.last_status, row.last_error) == (1, 500, "x" * ERROR_CHARS_MAX)
    assert (await database.ask(count_results(database)))[Result.RETRIED] == 1

    for claimed in (first, second):
        await deliveries.delivered(claimed, status=200, now_ms=NOW)
    await deliveries.failed(second, status=500, error="late", next_at_ms=None, now_ms=NOW)
    (row,) = await deliveries.latest(most=9)
    assert (row.state, row.attempts, row.ended_at_ms, row.last_error) == (DeliveryState.DELIVERED, 2, NOW, None)
    assert await database.ask(count_results(database)) == {Result.DELIVERED: 1, Result.RETRIED: 1, Result.GIVEN_UP: 0}


async def test_a_queue_beyond_its_bound_keeps_the_newest_and_what_is_being_sent(database: Database) -> None:
    await store(database, 5, "ops", "other")
    deliveries = Deliveries(database)
    being_sent = await claim(deliveries)
    assert await deliveries.give_up_beyond("ops", 2, now_ms=NOW) == 2
    assert await deliveries.give_up_beyond("other", 5, now_ms=NOW) == 0
    states = {row.event_id: row.state for row in await deliveries.latest(most=99, endpoint="ops")}
    assert states[being_sent.notice.event_id] is DeliveryState.WAITING
    given_up = [event_id for event_id, state in states.items() if state is DeliveryState.GIVEN_UP]
    assert sorted(given_up) == [a_notice(1).event_id, a_notice(2).event_id]
    assert (await database.ask(count_results(database)))[Result.GIVEN_UP] == 2
    assert await database.ask(count_waiting(database)) == 8


async def test_retried_deliveries_begin_anew_and_their_endpoint_is_not_gone(database: Database) -> None:
    await store(database, 2, "ops")
    deliveries = Deliveries(database)
    await deliveries.mark_gone("ops", "of-then", now_ms=NOW)
    await deliveries.mark_gone("ops", "of-now", now_ms=NOW)
    assert await deliveries.gone() == {"ops": "of-now"}
    assert await deliveries.give_up_gone("ops", now_ms=NOW) == 2
    assert await deliveries.retry(now_ms=NOW + 5, endpoint="other") == 0
    assert await deliveries.gone() == {"ops": "of-now"}
    assert await deliveries.retry(now_ms=NOW + 5, endpoint="ops") == 2
    assert await deliveries.gone() == {}
    rows = await deliveries.latest(most=9)
    assert {(row.state, row.attempts, row.due_at_ms, row.ended_at_ms) for row in rows} == {
        (DeliveryState.WAITING, 0, NOW + 5, None)
    }


async def test_old_notices_go_with_their_deliveries_unless_one_waits(database: Database) -> None:
    await store(database, 2, "ops")
    deliveries = Deliveries(database)
    await deliveries.delivered(await claim(deliveries), status=200, now_ms=NOW)
    assert await deliveries.purge(NOW) == 0
    assert await deliveries.purge(NOW + 1) == 1
    assert [row.event_id for row in await deliveries.latest(most=9)] == [a_notice(1).event_id]


async def test_pages_of_notices_hold_each_once_newest_first(database: Database) -> None:
    same_time = [a_notice(5, limit=f"org:window_{number}") for number in range(4)]
    others = [a_notice(number) for number in range(8)] + [a_notice(9, **PAUSED), a_notice(3, org="other")]
    await Book(database).record([], notices=[*same_time, *others], now_ms=NOW)
    pages = NoticePages(database)

    async def read(**asked: object) -> list[str]:
        found: list[str] = []
        after = None
        for _ in range(99):
            base = {"orgs": ["acme"], "from_ms": 0, "to_ms": NOW * 2, "limit": 3}
            page = await pages.page(NoticesQuery(**{**base, **asked, "after": after}))
            found += [notice.event_id for notice in page]
            if len(page) < 3:
                return found
            after = (page[-1].at_ms, page[-1].event_id)
        raise AssertionError("the pages do not end")

    of_acme = sorted((notice for notice in (*same_time, *others) if notice.org == "acme"), key=lambda n: (n.at_ms, n.event_id))
    assert await read() == [notice.event_id for notice in of_acme][::-1]
    assert await read(types=[NoticeType.PAUSED]) == [a_notice(9, **PAUSED).event_id]
    assert await read(orgs=["other"]) == [a_notice(3, org="other").event_id]
    assert await read(orgs=["nobody"]) == []
    assert len(await read(from_ms=START_MS + 5, to_ms=START_MS + 6)) == 5
    assert len(await read(orgs=["acme", "other"])) == 14


@pytest.mark.parametrize("most", [1, 3])
async def test_deliveries_of_notices_are_read_together(database: Database, most: int) -> None:
    await store(database, most, "ops", "a_second")
    ids = [a_notice(number).event_id for number in range(most)]
    found = await Deliveries(database).of_notices([*ids, "unknown"])
    assert {event_id: [row.endpoint for row in rows] for event_id, rows in found.items()} == {
        **{event_id: ["a_second", "ops"] for event_id in ids},
        "unknown": [],
    }
