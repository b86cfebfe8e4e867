"""What is lost or wrong is found and put right: windows, rollups, prices, old entries."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from ledger_values import START_MS, an_entry, assert_no_drift, assert_no_drift_of_rollups, sums
from limiter_at_work import ORGANIZATIONS, WEEK, LimiterAtWork, an_organization
from prices import price_of, repriced
from sqlalchemy import Table, func, select, update

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.surcharges import Surcharge
from tallygate.domain.admission import Account
from tallygate.domain.price import Price
from tallygate.domain.usage import usage_of_totals
from tallygate.gateway.exchange.caller_limits import limits_of
from tallygate.ledger.audit import LedgerAudit, LimiterAudit, lifetime_drifts
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Kind
from tallygate.ledger.history import OrgScope, UsageQuery
from tallygate.ledger.limiter_windows import windows_of
from tallygate.ledger.postings import read_postings
from tallygate.ledger.reprice import RepriceQuery, Repricing
from tallygate.ledger.retention import Retention, visible_from_ms
from tallygate.ledger.rollups import LEVELS, RECENT, Level
from tallygate.ledger.schema import AMOUNTS, ENTRIES, ROLLUP_AMOUNTS, ROLLUPS, SPEND_BUCKETS
from tallygate.ledger.time_buckets import DAY_MS
from tallygate.ledger.usage_queries import UsageQueries
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.generation import (
    RestoreRefusedError,
    mark_partition,
    restore_window,
    stream_facts,
    unmarked_partitions,
)
from tallygate.limiter.keys import org_keys, partition_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.sweep import Sweeper


def test_windows_have_the_keys_that_admission_uses() -> None:
    organization = an_organization()
    own = replace(organization.credentials[0], spend_limits=(replace(WEEK, name="own"),))
    organization = replace(organization, credentials=(own, organization.credentials[1]))
    found = {window.demand.key for window in windows_of(organization, START_MS)}
    used = {key for credential in organization.credentials for key, _ in limits_of(organization, credential, "chat").spend}

    assert found == used


async def test_ledger_and_limiter_agree_at_rest(at_work: LimiterAtWork) -> None:
    assert await at_work.drifts() == []
    assert sum(await at_work.spent()) > 0
    await assert_no_drift(at_work.database)


async def test_windows_that_agree_are_read_once_and_others_before_and_after_the_ledger(at_work: LimiterAtWork) -> None:
    await at_work.spend(ORGANIZATIONS[0], "acme-prod", 700)
    await at_work.writer.drain()
    reads: list[Any] = []
    in_flight: list[int] = []

    class Counted:
        is_cluster = False
        command = at_work.store.command

        async def run_script(self, *call: Any) -> Any:
            reads.append(call)
            in_flight.append(1 + (in_flight[-1] if in_flight else 0))
            answer = await at_work.store.run_script(*call)
            in_flight.append(in_flight[-1] - 1)
            return answer

    audit = LimiterAudit(at_work.database, Counted(), at_work.scripts)
    windows = [window async for window, drifts in audit.windows(ORGANIZATIONS, await at_work.now_ms()) if not drifts]
    assert len(reads) == len(windows) == 8

    await at_work.spend(ORGANIZATIONS[0], "acme-prod", 50)  # which waits in its stream
    reads.clear()
    assert not [drifts async for _, drifts in audit.windows(ORGANIZATIONS, await at_work.now_ms()) if drifts]
    assert len(reads) == 8 + 2 * 3, "of its organization and of its credential"
    assert max(in_flight) == 2, "an admission waits for no more of them"


async def test_a_limiter_that_lost_its_data_is_closed_until_the_ledger_has_rebuilt_it(at_work: LimiterAtWork) -> None:
    before = await at_work.spent()
    await at_work.store.command(b"FLUSHALL")
    assert len(await unmarked_partitions(at_work.store)) == 64

    assert await at_work.rebuild() == 64
    assert await unmarked_partitions(at_work.store) == ()
    assert await at_work.spent() == before
    assert await at_work.drifts() == []
    assert await at_work.rebuild() == 0


async def test_a_settlement_that_the_limiter_had_forgotten_and_takes_again_is_taken_out_of_its_windows(
    at_work: LimiterAtWork,
) -> None:
    acme = ORGANIZATIONS[0]
    request = await at_work.admit(acme, "acme-prod")
    account = Account(admission=request, cost_nano_usd=400, prompt_tokens=1, completion_tokens=1, event=request.event)
    assert not (await at_work.limiter.settle(account)).unheld
    await at_work.writer.drain()
    before, stored = await at_work.spent(), await assert_no_drift(at_work.database)
    assert not await unmarked_partitions(at_work.store)

    await at_work.store.command(b"HDEL", org_keys("acme").holds, request.reservation_id.encode())  # as time makes it forget
    await asyncio.sleep(0.002)
    assert (await at_work.limiter.settle(account)).unheld
    assert await at_work.spent() != before
    await at_work.writer.drain()

    assert await unmarked_partitions(at_work.store) == (partition_of("acme"),)
    assert await at_work.rebuild() == 1
    assert await at_work.spent() == before
    assert await at_work.drifts() == []
    assert await assert_no_drift(at_work.database) == stored


async def test_a_hold_that_came_back_with_older_data_and_expired_is_taken_out_of_the_windows(at_work: LimiterAtWork) -> None:
    acme, keys = ORGANIZATIONS[0], org_keys("acme")
    request = await at_work.admit(acme, "acme-prod")
    checkpoint = Account(admission=request, cost_nano_usd=90, prompt_tokens=1, completion_tokens=0, event=request.event)
    await at_work.limiter.checkpoint([checkpoint])
    held = await at_work.store.command(b"HGET", keys.holds, request.reservation_id.encode())
    account = Account(admission=request, cost_nano_usd=400, prompt_tokens=1, completion_tokens=1, event=request.event)
    await at_work.limiter.settle(account)
    await at_work.writer.drain()
    before = await at_work.spent()

    await at_work.store.command(b"HSET", keys.holds, request.reservation_id.encode(), held)
    await at_work.store.command(b"ZADD", keys.due, b"1", request.reservation_id.encode())
    await at_work.store.command(b"ZADD", partition_keys(partition_of("acme")).orgs, b"1", b"acme")
    assert await Sweeper(at_work.store, at_work.scripts).step() == 1
    assert await at_work.spent() != before
    await at_work.writer.drain()

    assert await at_work.rebuild() == 1
    assert await at_work.spent() == before
    await assert_no_drift(at_work.database)


async def test_a_partition_opens_only_when_its_stream_is_stored(at_work: LimiterAtWork) -> None:
    acme = ORGANIZATIONS[0]
    await at_work.spend(acme, "acme-prod", 55)
    before = await at_work.spent()
    await at_work.store.command(b"DEL", b"tg:{p%02d}:generation" % partition_of("acme"))

    assert await at_work.rebuild() == 0
    await at_work.writer.drain()
    assert await at_work.rebuild() == 1
    assert await at_work.spent() == before


async def test_a_window_is_not_restored_over_spend_that_the_ledger_does_not_know(at_work: LimiterAtWork) -> None:
    """Two conditions, each of which stands between a slow rebuild and an overshoot."""
    acme, partition = ORGANIZATIONS[0], partition_of("acme")
    (demand, *_) = await at_work.demands(acme, "acme-prod")
    last = (await stream_facts(at_work.store, partition)).last_event
    with pytest.raises(RestoreRefusedError, match="admits already"):
        await restore_window(at_work.store, at_work.scripts, "acme", demand, [], after_event=last)

    await at_work.spend(acme, "acme-prod", 55)
    await at_work.store.command(b"DEL", b"tg:{p%02d}:generation" % partition)
    with pytest.raises(RestoreRefusedError, match="another event"):
        await restore_window(at_work.store, at_work.scripts, "acme", demand, [], after_event=last)


async def test_what_is_appended_while_a_window_is_restored_keeps_its_partition_closed(
    at_work: LimiterAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold that expires between the reading of the ledger and the restoring of the window would be lost."""
    partition = partition_of("acme")
    await at_work.store.command(b"DEL", b"tg:{p%02d}:generation" % partition)

    async def read_and_append(*asked: Any) -> Any:
        found = await read_postings(*asked)
        await at_work.store.command(b"XADD", partition_keys(partition).events, b"*", b"event", b"{}")
        return found

    monkeypatch.setattr("tallygate.ledger.rebuild.read_postings", read_and_append)
    assert await at_work.rebuild() == 0
    monkeypatch.undo()
    await at_work.writer.drain()
    assert await at_work.rebuild() == 1


async def test_a_late_settlement_leaves_no_drift(at_work: LimiterAtWork) -> None:
    acme = ORGANIZATIONS[0]
    request = await at_work.admit(acme, "acme-prod")
    await at_work.limiter.checkpoint(
        [Account(admission=request, cost_nano_usd=400, prompt_tokens=3, completion_tokens=9, event=request.event)]
    )
    later = await at_work.now_ms() + 40_000
    swept = RedisLimiter(at_work.store, at_work.scripts, now_ms=lambda: later)
    await swept.admit(
        msgspec.structs.replace(request, reservation_id=request.reservation_id[:-1] + "f")
    )  # collects the expired hold
    await at_work.limiter.settle(
        Account(admission=request, cost_nano_usd=150, prompt_tokens=3, completion_tokens=2, event=request.event)
    )
    await at_work.writer.drain()

    assert await at_work.drifts() == []
    await assert_no_drift(at_work.database)


async def test_a_window_that_lost_spend_is_found_and_repaired(at_work: LimiterAtWork) -> None:
    before = await at_work.spent()
    acme = ORGANIZATIONS[0]
    (demand, *_) = await at_work.demands(acme, "acme-prod")
    await restore_window(at_work.store, at_work.scripts, "acme", demand, [])
    drifts = await at_work.drifts()
    assert sum(drift.nano_usd for drift in drifts) == 2 * (100 + 230 + 7)

    await at_work.store.command(b"DEL", b"tg:{p%02d}:generation" % partition_of("acme"))
    await at_work.rebuild()

    assert await at_work.drifts() == []
    assert await at_work.spent() == before


async def _ledger_drifts(database: Database) -> list[Any]:
    audit = LedgerAudit(database)
    found = [drift for org, day in await audit.days() for drift in await audit.day(org, day)]
    return found + [drift for org in ("acme", "beta") for drift in await audit.postings(org, 0)]


async def _some_days(book: Book) -> None:
    entries = [
        an_entry(number, settled_at_ms=START_MS + number * 7_000_000, started_at_ms=START_MS, org=("acme", "beta")[number % 2])
        for number in range(60)
    ]
    late = an_entry(900, kind="late", settled_at_ms=START_MS + 9_000_000, cost_nano_usd=70, posted=20)
    await book.record(entries[:30])
    await book.fold()
    await book.record([*entries[30:], an_entry(900, kind="expired", cost_nano_usd=50), late])


async def test_an_audit_of_a_sound_ledger_finds_nothing(database: Database, book: Book) -> None:
    await _some_days(book)

    assert await _ledger_drifts(database) == []


@pytest.mark.parametrize("days_late", [0, 3, 120])
@pytest.mark.parametrize("words", [["expired", "unheld"], ["expired", "settled"], ["expired", "late"], ["late"], ["settled"]])
async def test_a_word_that_is_posted_after_the_historys_edge_is_no_drift(
    database: Database, book: Book, words: list[str], days_late: int
) -> None:
    """Its exchange counts at the time of its expiry, which retention removes before the bucket that the word was posted to."""
    now = START_MS // DAY_MS * DAY_MS + 140 * DAY_MS
    edge = now - 30 * DAY_MS
    counted, posted = edge - 60_000 - days_late * DAY_MS, edge + 60_000
    for word in words:
        is_first = word == words[0]
        at = {"settled_at_ms": counted if is_first else posted, "expired_at_ms": counted if word == "late" else None}
        await book.record([an_entry(1, kind=word, **at, posted=30 if is_first else 450)])
    await book.record([an_entry(2, settled_at_ms=posted)])
    audit = LedgerAudit(database)
    assert await audit.postings("acme", edge) == await audit.postings("acme", now - 139 * DAY_MS) == []

    removed = await Retention(database, pause_seconds=0).purge([an_organization("acme", history_days=30)], now)

    assert removed > 0
    assert await audit.postings("acme", edge) == []
    assert await lifetime_drifts(database, "acme") == []
    async with database.write() as connection:
        await connection.execute(update(SPEND_BUCKETS).values(purged_nano_usd=SPEND_BUCKETS.c.purged_nano_usd + 1))
    assert {drift.found - drift.expected for drift in await audit.postings("acme", edge)} == {-1}


@pytest.mark.parametrize(
    ("table", "column", "level"),
    [
        *((ROLLUPS, amount, level) for level, amount in zip(LEVELS, itertools.cycle(ROLLUP_AMOUNTS), strict=False)),
        (ROLLUPS, "requests", RECENT),
        (SPEND_BUCKETS, "posted_nano_usd", None),
        (ENTRIES, "requests", None),
    ],
)
async def test_an_audit_finds_any_edited_sum(
    database: Database, book: Book, table: Table, column: str, level: Level | None
) -> None:
    await _some_days(book)
    async with database.write() as connection:
        of_level = [] if level is None else [level.rows()]
        key = (await connection.execute(select(*table.primary_key.columns).where(*of_level).limit(1))).one()
        same = [one == value for one, value in zip(table.primary_key.columns, key, strict=True)]
        await connection.execute(update(table).where(*same).values({column: table.c[column] + 1}))

    drifts = await _ledger_drifts(database)
    assert {drift.amount for drift in drifts} == {column}
    assert {abs(drift.found - drift.expected) for drift in drifts} == {1}


async def test_what_is_beyond_the_history_goes_and_the_rest_still_adds_up(
    database: Database, book: Book, queries: UsageQueries
) -> None:
    now = START_MS + 100 * DAY_MS
    for org in ("acme", "beta"):
        await book.record(
            [
                an_entry(number + ord(org[0]) * 10_000, org=org, settled_at_ms=START_MS + number * DAY_MS // 20)
                for number in range(1_900)
            ]
        )
    organizations = (an_organization("acme", history_days=30), an_organization("beta", history_days=None))
    before = await sums(database)
    retention = Retention(database, pause_seconds=0)
    removed = await retention.purge(organizations, now)

    visible = visible_from_ms(organizations[0], now)
    async with database.read() as connection:
        oldest = dict(
            (await connection.execute(select(ENTRIES.c.org, func.min(ENTRIES.c.settled_at_ms)).group_by(ENTRIES.c.org))).all()
        )
    assert visible <= oldest["acme"] < visible + DAY_MS // 20
    assert oldest["beta"] == START_MS
    assert removed > 1_000
    assert (await sums(database))["entries"] < before["entries"]
    await assert_no_drift_of_rollups(database)
    assert await retention.purge(organizations, now) == 0
    rows = await queries.usage(UsageQuery(scopes=(OrgScope(org="acme", visible_from_ms=visible),), from_ms=0, to_ms=2**42))
    assert rows[0].usage.requests == (await sums(database))["entries"][0] - 1_900


OLD = price_of(model="gpt-4o", version="gpt-4o@2024", effective_ms=0, input=2_500_000, output=10_000_000, cached_input=1_250_000)
NEW = repriced(OLD, version="gpt-4o@2024b", input=2_000_000, cached_input=500_000)


def _priced(number: int, price: Price, **changed: Any) -> Any:
    counts = usage_of_totals(prompt=100 + number, completion=20, cached=40, reasoning=5)
    fields = {"prompt_tokens": 100 + number, "cost_nano_usd": price.cost_nano_usd(counts), "price_version": price.version}
    return an_entry(number, **{**fields, **changed})


async def test_a_corrected_price_is_entered_as_differences(database: Database, book: Book) -> None:
    await book.record([_priced(number, OLD) for number in range(30)])
    await book.record([_priced(40, OLD, request_model="other", response_model="other")])
    query = RepriceQuery(model="gpt-4o", from_ms=START_MS, to_ms=START_MS + 1, orgs=frozenset({"acme"}))
    repricing = Repricing(database, PriceCatalogue([NEW]))
    expected = sum(_priced(number, NEW).cost_nano_usd for number in range(30)) + _priced(40, OLD).cost_nano_usd

    before = await sums(database)
    dry = await repricing.page(query, "", now_ms=START_MS, apply=False)
    assert (dry.looked_at, len(dry.corrections)) == (31, 30)
    assert await sums(database) == before

    applied = await repricing.page(query, "", now_ms=START_MS + DAY_MS, apply=True)
    differences = [sum(entry.cost_nano_usd for entry in page.corrections) for page in (applied, dry)]
    assert differences[0] == differences[1] < 0
    after = dict(zip(AMOUNTS, await assert_no_drift(database), strict=True))
    assert (after["requests"], after["prompt_tokens"], after["cost_nano_usd"]) == (
        before["entries"][0],
        before["entries"][1],
        expected,
    )
    assert (await sums(database))["entries.posted"] == before["entries.posted"], "the limiter's windows keep what they took"
    again = await repricing.page(query, "", now_ms=START_MS, apply=True)
    assert again.corrections == ()


async def test_what_was_agreed_on_for_the_model_asked_charges_it_anew_too(database: Database, book: Book) -> None:
    old, new = repriced(OLD, model="house", version="house@2024"), repriced(NEW, model="house", version="house@2024b")
    await book.record([_priced(1, old, request_model="house", response_model="gpt-4o")])
    query = RepriceQuery(model="house", from_ms=START_MS, to_ms=START_MS + 1, orgs=frozenset({"acme"}))
    prices = PriceCatalogue([new], listed=PriceCatalogue([OLD]))
    page = await Repricing(database, prices).page(query, "", now_ms=START_MS, apply=True)
    (correction,) = page.corrections
    assert correction.price_version == new.version
    assert correction.cost_nano_usd == _priced(1, new).cost_nano_usd - _priced(1, old).cost_nano_usd


async def test_a_region_in_the_name_asked_is_charged_anew_too(database: Database, book: Book) -> None:
    surcharges = (Surcharge(("us.x.*",), 1_100_000),)
    prices = PriceCatalogue([], listed=PriceCatalogue([OLD], surcharges=surcharges))
    regional = prices.find("gpt-4o", START_MS, asked="us.x.gpt-4o")
    assert regional is not None
    assert regional.version != OLD.version
    asked = {"request_model": "us.x.gpt-4o", "response_model": "gpt-4o"}
    await book.record([_priced(1, OLD, **asked), _priced(2, regional, **asked)])
    query = RepriceQuery(model="gpt-4o", from_ms=START_MS, to_ms=START_MS + 1, orgs=frozenset({"acme"}))
    (correction,) = (await Repricing(database, prices).page(query, "", now_ms=START_MS, apply=True)).corrections
    assert correction.cost_nano_usd == _priced(1, regional).cost_nano_usd - _priced(1, OLD).cost_nano_usd > 0


async def test_a_correction_leaves_the_original_as_it_was(database: Database, book: Book) -> None:
    original = _priced(1, OLD)
    await book.record([original])
    query = RepriceQuery(model="gpt-4o", from_ms=0, to_ms=2**42, orgs=frozenset({"acme"}))
    (correction,) = (await Repricing(database, PriceCatalogue([NEW])).page(query, "", now_ms=START_MS + 5, apply=True)).corrections

    assert (correction.kind, correction.sequence, correction.requests, correction.prompt_tokens) == (Kind.REPRICED, 1, 0, 0)
    assert (correction.settled_at_ms, correction.entered_at_ms) == (original.settled_at_ms, START_MS + 5)
    async with database.read() as connection:
        kept = (await connection.execute(select(ENTRIES.c.cost_nano_usd).where(ENTRIES.c.sequence == 0))).scalar_one()
    assert kept == original.cost_nano_usd


async def test_marks_of_a_race_stay(redis_store: RedisConnection) -> None:
    await mark_partition(redis_store, 3, "first")
    await mark_partition(redis_store, 3, "second")

    assert await redis_store.command(b"GET", b"tg:{p03}:generation") == b"first"
