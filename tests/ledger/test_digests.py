"""Weekly digests: right figures, when they are due, each once, in pieces, and no faster than receivers take them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest
from ledger_values import START_MS, an_entry
from notice_values import PAUSED, a_notice
from old_rollups import put_digests_back
from sqlalchemy import func, inspect, select, text

from tallygate.config.webhook_endpoint import DIGEST, NOTICE_TYPES, WebhookEndpoint
from tallygate.domain.organization import Organization, Plan
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger import usage_queries
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.notices import digests as digests_module
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.ledger.notices.digest import AFTER_MS, Digest, DigestNotice, LimitAtEnd, Share, Sums, due_week, week_from
from tallygate.ledger.notices.digest_figures import DigestFigures
from tallygate.ledger.notices.digests import LOOK_EVERY_MS, PATIENCE_MS, PIECE_MAX, ROOM, ROOM_EVERY_MS, Digests
from tallygate.ledger.notices.pages import NoticePages, NoticesQuery
from tallygate.ledger.notices.schema import DIGEST_WEEKS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WEEK = week_from(date(2026, 8, 24), "UTC")  # with START_MS on its Saturday
DUE_MS = WEEK.to_ms + AFTER_MS
OPS = WebhookEndpoint(name="ops", events=frozenset(NOTICE_TYPES))
SPEND_7D = SpendLimit(name="spend_7d", limit_nano_usd=100_000_000_000)


def an_organization(org: str = "acme", *, time_zone: str = "UTC", **plan: Any) -> Organization:
    return Organization(id=org, time_zone=time_zone, plan=Plan(id="plan", **plan))


def a_maker(database: Database, organizations: Sequence[Organization], *endpoints: WebhookEndpoint, page_url: str = "") -> Digests:
    """As of one more process."""
    figures = DigestFigures(database, page_url=page_url)
    return Digests(database, figures, organizations=lambda: organizations, endpoints=lambda: endpoints or (OPS,))


async def stored(database: Database, *orgs: str) -> list[DigestNotice]:
    query = NoticesQuery(orgs=orgs or ("acme",), types=[DIGEST], from_ms=0, to_ms=2 * DUE_MS, limit=1_000)
    return [notice for notice in await NoticePages(database).page(query) if isinstance(notice, DigestNotice)]


async def digest_of(database: Database, org: str = "acme") -> Digest:
    (notice,) = await stored(database, org)
    return notice.digest


async def test_it_has_the_week_beside_the_week_before_and_the_limits(database: Database) -> None:
    book = Book(database)
    entries = [
        an_entry(1, settled_at_ms=WEEK.from_ms - 1, cost_nano_usd=7_000, prompt_tokens=70),  # the week before
        an_entry(2, settled_at_ms=WEEK.from_ms, cost_nano_usd=20_000),
        an_entry(3, settled_at_ms=WEEK.to_ms - 1, cost_nano_usd=30_000, response_model="o1", credential="acme-test"),
        an_entry(4, settled_at_ms=WEEK.to_ms, cost_nano_usd=500_000),  # the week after
        an_entry(5, settled_at_ms=START_MS, cost_nano_usd=900_000, org="other"),
    ]
    paused = [a_notice(number, **PAUSED, at_ms=at_ms) for number, at_ms in ((1, WEEK.from_ms), (2, START_MS), (3, WEEK.to_ms))]
    await book.record(entries, notices=[*paused, a_notice(4)])
    refused = RefusalCount(org="acme", credential="acme-prod", capability="chat", refused_by="x", status=429, requests=9)
    await book.add_refusals("slot 0", [refused], at_ms=START_MS)
    month = SpendLimit(name="spend_month", limit_nano_usd=5, window_ms=0, shadow=True)
    maker = a_maker(database, [an_organization(spend_limits=(SPEND_7D, month))], page_url="https://usage.example.com")
    await maker.make_due(DUE_MS)

    assert await digest_of(database) == Digest(
        first_day="2026-08-24",
        last_day="2026-08-30",
        from_ms=WEEK.from_ms,
        to_ms=WEEK.to_ms,
        time_zone="UTC",
        history_from_ms=None,
        week=Sums(requests=2, refused=9, prompt_tokens=200, completion_tokens=40, spent_nano_usd=50_000),
        before=Sums(requests=1, refused=0, prompt_tokens=70, completion_tokens=20, spent_nano_usd=7_000),
        limits=(
            LimitAtEnd(limit_key="org:spend_7d", spent_nano_usd=50_000, limit_nano_usd=100_000_000_000, shadow=False),
            LimitAtEnd(limit_key="org:spend_month", spent_nano_usd=57_000, limit_nano_usd=5, shadow=True),
        ),
        models=(
            Share(name="o1", requests=1, spent_nano_usd=30_000),
            Share(name="gpt-4o-2024-08-06", requests=1, spent_nano_usd=20_000),
        ),
        credentials=(
            Share(name="acme-test", requests=1, spent_nano_usd=30_000),
            Share(name="acme-prod", requests=1, spent_nano_usd=20_000),
        ),
        pauses=2,
        url="https://usage.example.com/?org=acme&view=cost&range=custom&from=2026-08-24&until=2026-08-30",
    )
    (delivery,) = await Deliveries(database).latest(most=10)
    assert (delivery.event_id, delivery.endpoint) == ("ntc-acme-digest-2026-08-24", "ops")


def test_a_week_is_one_of_the_organizations_zone_and_due_an_hour_after_its_end() -> None:
    new_york = week_from(date(2026, 10, 26), "America/New_York")  # its Sunday has 25 hours
    assert new_york.to_ms - new_york.from_ms == 7 * DAY_MS + HOUR_MS
    assert due_week(new_york.to_ms + AFTER_MS, "America/New_York") == new_york
    assert due_week(new_york.to_ms + AFTER_MS - 1, "America/New_York") == new_york.before
    assert due_week(new_york.to_ms + AFTER_MS, "UTC").first_day == "2026-10-26"
    assert due_week(new_york.to_ms, "America/Los_Angeles").first_day == "2026-10-19"


async def test_each_zone_has_its_turn(database: Database) -> None:
    await Book(database).record([an_entry(1), an_entry(2, org="west")])
    maker = a_maker(database, [an_organization(), an_organization("west", time_zone="America/New_York")])
    assert await maker.make_due(DUE_MS - 1) == 2  # the week before, in which nobody had a request
    assert await stored(database, "acme", "west") == []
    now = DUE_MS + LOOK_EVERY_MS
    await maker.make_due(now)
    assert [notice.org for notice in await stored(database, "acme", "west")] == ["acme"]
    assert await maker.make_due(now) == 0
    await maker.make_due(now + 4 * HOUR_MS)
    assert (await digest_of(database, "west")).from_ms == WEEK.from_ms + 4 * HOUR_MS


async def test_whoever_has_no_requests_gets_none_also_if_some_arrive_late(database: Database) -> None:
    book, organizations = Book(database), [an_organization("acme"), an_organization("idle")]
    await book.record([an_entry(1, cost_nano_usd=100)])
    await a_maker(database, organizations).make_due(DUE_MS)
    await book.record([an_entry(2, cost_nano_usd=5), an_entry(3, org="idle")])
    for hours in range(0, 7 * 24, 12):
        await a_maker(database, organizations).make_due(DUE_MS + hours * HOUR_MS)

    (notice,) = await stored(database, "acme", "idle")
    assert (notice.org, notice.digest.week.spent_nano_usd) == ("acme", 100)


async def test_refused_requests_alone_are_worth_one(database: Database) -> None:
    refused = RefusalCount(org="acme", credential="", capability="chat", refused_by="x", status=429, requests=9)
    await Book(database).add_refusals("slot 0", [refused], at_ms=START_MS)
    await a_maker(database, [an_organization()]).make_due(DUE_MS)
    digest = await digest_of(database)
    assert (digest.week.refused, digest.week.requests, digest.models) == (9, 0, ())


async def test_a_plans_shorter_history_is_said_and_not_counted_as_a_week(database: Database) -> None:
    entries = [an_entry(number, settled_at_ms=WEEK.from_ms + number * DAY_MS) for number in range(7)]
    await Book(database).record([*entries, an_entry(8, settled_at_ms=WEEK.from_ms - 1)])
    organizations = [an_organization("acme", history_days=3), an_organization("long", history_days=8)]
    await Book(database).record([an_entry(9, org="long")])
    await a_maker(database, organizations).make_due(DUE_MS)
    digest, longer = await digest_of(database), await digest_of(database, "long")
    assert (digest.week.requests, digest.history_from_ms, digest.before) == (3, WEEK.to_ms - 3 * DAY_MS, None)
    assert (longer.week.requests, longer.history_from_ms, longer.before) == (1, None, None)


async def test_organizations_with_too_many_names_have_a_digest_without_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [an_entry(number, org="many", response_model=f"m{number}") for number in range(5)]
    await Book(database).record([*many, *(an_entry(10 + number, org=f"few{number}") for number in range(3))])
    monkeypatch.setattr(usage_queries, "ROWS_MAX", 4)
    organizations = [an_organization(org) for org in ("few0", "few1", "few2", "many")]
    await a_maker(database, organizations).make_due(DUE_MS)
    found = await stored(database, "few0", "few1", "few2", "many")
    models = {notice.org: [share.name for share in notice.digest.models] for notice in found}
    assert models == {"few0": ["gpt-4o-2024-08-06"], "few1": ["gpt-4o-2024-08-06"], "few2": ["gpt-4o-2024-08-06"], "many": []}


async def test_ledgers_at_once_and_restarted_ones_make_each_once(database: Database, open_another: Callable[[], Database]) -> None:
    organizations = [an_organization(f"o{number}") for number in range(8)]
    ids = [organization.id for organization in organizations]
    await Book(database).record([an_entry(number, org=org) for number, org in enumerate(ids)])
    await asyncio.gather(*(a_maker(open_another(), organizations).make_due(DUE_MS) for _ in range(4)))
    await a_maker(database, organizations).make_due(DUE_MS + HOUR_MS)

    assert sorted(notice.org for notice in await stored(database, *ids)) == ids
    assert len(await Deliveries(database).latest(most=100)) == 8
    changed = [an_organization("o0", time_zone="Asia/Tokyo")]  # its week of the same Monday has had its digest
    await a_maker(database, changed).make_due(DUE_MS + HOUR_MS)
    assert len(await stored(database, "o0")) == 1


async def test_a_ledger_that_ends_in_the_middle_leaves_nothing_half_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Book(database).record([an_entry(1)])
    record = digests_module.record_notices

    def cut_off(*arguments: Any, **named: Any) -> int:
        record(*arguments, **named)
        raise LedgerUnavailableError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(digests_module, "record_notices", cut_off)
        with pytest.raises(LedgerUnavailableError):
            await a_maker(database, [an_organization()]).make_due(DUE_MS)
    assert await stored(database) == []
    await a_maker(database, [an_organization()]).make_due(DUE_MS + HOUR_MS)
    assert len(await stored(database)) == len(await Deliveries(database).latest(most=10)) == 1


async def test_where_nobody_wants_them_there_is_nothing_to_do(database: Database) -> None:
    await Book(database).record([an_entry(1)])
    for endpoint in (
        WebhookEndpoint(name="ops"),  # without `events`: those of spend limits
        WebhookEndpoint(name="ops", events=OPS.events, is_enabled=False),
        WebhookEndpoint(name="ops", events=OPS.events, organizations=frozenset({"other"})),
    ):
        assert await a_maker(database, [an_organization()], endpoint).make_due(DUE_MS) == 0
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(DIGEST_WEEKS))).scalar_one() == 0


async def test_a_turn_of_the_week_is_taken_in_pieces_each_organization_once(database: Database) -> None:
    organizations = [an_organization(f"o{number:03d}") for number in range(2 * PIECE_MAX + 7)]
    await Book(database).record([an_entry(number, org=f"o{number:03d}") for number in range(0, len(organizations), 20)])
    maker = a_maker(database, organizations)
    assert [await maker.make_due(DUE_MS) for _ in range(4)] == [PIECE_MAX, PIECE_MAX, 7, 0]
    assert len(await stored(database, *(organization.id for organization in organizations))) == 6
    assert [await maker.make_due(DUE_MS + 7 * DAY_MS) for _ in range(4)] == [PIECE_MAX, PIECE_MAX, 7, 0]


async def test_a_busy_receiver_holds_back_its_own_organizations_for_half_a_day(database: Database) -> None:
    await Book(database).record([an_entry(1), an_entry(2, org="other")])
    busy = WebhookEndpoint(name="busy", events=OPS.events, organizations=frozenset({"acme"}))
    waiting = [a_notice(number) for number in range(ROOM)]
    await Book(database, endpoints_of=lambda _notice: ("busy",)).record([], notices=waiting)
    others = WebhookEndpoint(name="others", events=OPS.events, organizations=frozenset({"acme", "other"}))
    maker = a_maker(database, [an_organization(), an_organization("other")], busy, others)

    assert [await maker.make_due(DUE_MS) for _ in range(2)] == [1, 0]
    assert [notice.org for notice in await stored(database, "acme", "other")] == ["other"]
    await Deliveries(database).delivered((await claimed(database, "busy")), status=200, now_ms=DUE_MS)
    assert await maker.make_due(DUE_MS + ROOM_EVERY_MS) == 1
    assert len(await stored(database)) == 1

    await Book(database, endpoints_of=lambda _notice: ("busy",)).record([], notices=[a_notice(ROOM)])
    late = WEEK.to_ms + 7 * DAY_MS + PATIENCE_MS
    await Book(database).record([an_entry(3, settled_at_ms=WEEK.to_ms)])
    maker = a_maker(database, [an_organization()], busy, others)
    assert [await maker.make_due(late - 1), await maker.make_due(late + ROOM_EVERY_MS)] == [0, 1]
    assert len(await stored(database)) == 2


async def test_a_ledger_that_has_still_to_store_usage_makes_none_for_half_a_day(database: Database) -> None:
    await Book(database).record([an_entry(1)])
    maker = a_maker(database, [an_organization()])
    assert await maker.make_due(DUE_MS, lacks_usage=True) == 0
    assert await maker.make_due(DUE_MS + ROOM_EVERY_MS) == 1
    maker = a_maker(database, [an_organization("other")])
    assert await maker.make_due(WEEK.to_ms + PATIENCE_MS, lacks_usage=True) == 1


async def test_notices_from_before_digests_are_kept_as_they_were(database: Database) -> None:
    notices = [a_notice(1), a_notice(2, **PAUSED)]
    await Book(database, endpoints_of=lambda _notice: ("ops",)).record([], notices=notices)

    async def indexes() -> list[str | None]:
        async with database.read() as connection:
            return await connection.run_sync(lambda sync: sorted(one["name"] or "" for one in inspect(sync).get_indexes("notices")))

    before = await indexes()
    async with database.write() as connection:
        await connection.run_sync(put_digests_back)
        if database.dialect == "postgresql":  # SQLite cannot change a column
            await connection.execute(text("ALTER TABLE notices ALTER COLUMN limit_key SET NOT NULL"))
    await database.migrate()
    await Book(database).record([an_entry(1)])
    await a_maker(database, [an_organization()]).make_due(DUE_MS)

    found = await NoticePages(database).page(NoticesQuery(orgs=["acme"], from_ms=0, to_ms=DUE_MS, limit=9))
    assert found == notices[::-1]
    assert (await claimed(database, "ops")).notice in notices
    assert await indexes() == before
    assert len(await stored(database)) == 1


async def claimed(database: Database, endpoint: str) -> Any:
    return await Deliveries(database).claim(endpoint, now_ms=DUE_MS, lease_ms=1)
