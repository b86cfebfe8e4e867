"""Rollups of every level: filled for what was there before them, moved with the entries, and read with as few rows as there are."""

import asyncio
import itertools
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_values import ACME, START_MS, an_entry, assert_no_drift, sums
from old_rollups import put_back, upgrade
from sqlalchemy import Connection, delete, func, inspect, select, text

from tallygate.commands.audit import audit_stretches
from tallygate.domain.organization import Organization, Plan
from tallygate.ledger.audit import LedgerAudit, lifetime_drifts
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import Database
from tallygate.ledger.history import Dimension, OrgScope, Usage, UsageQuery
from tallygate.ledger.rollup_rows import rollup_rows
from tallygate.ledger.rollups import FINEST, LEVELS, Level
from tallygate.ledger.schema import AMOUNTS, ENTRIES, LIFETIME_TOTALS, ROLLUP_AMOUNTS, ROLLUPS, SERIES
from tallygate.ledger.series import CREDENTIALS_FREE_MAX, MODELS_PER_ORG_MAX, Detail
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket, bucket_edges
from tallygate.ledger.usage_queries import UsageQueries

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati")
LENGTHS_MS = (
    (DAY_MS, HOUR_MS, QUARTER_MS),
    (DAY_MS, HOUR_MS, HOUR_MS // 2, QUARTER_MS),
    (DAY_MS, 4 * HOUR_MS, HOUR_MS, HOUR_MS // 2, QUARTER_MS),
)
starts = st.integers(1_300_000_000_000 // QUARTER_MS, 1_800_000_000_000 // QUARTER_MS).map(lambda quarter: quarter * QUARTER_MS)


@given(
    start=starts,
    quarters=st.integers(1, 6_000),
    zone=st.sampled_from(ZONES),
    bucket=st.sampled_from([None, *Bucket]),
    lengths=st.sampled_from(LENGTHS_MS),
)
def test_readings_give_each_bucket_every_quarter_of_an_hour_of_its_own_once(
    start: int, quarters: int, zone: str, bucket: Bucket | None, lengths: tuple[int, ...]
) -> None:
    """Rows with as much in them as they have quarters, put together as the SQL and the shares say, are each bucket's length."""
    end = start + quarters * QUARTER_MS
    inner = bucket_edges(start, end, bucket, zone) if bucket is not None else []
    edges = sorted({start, end, *(edge for edge in inner if start < edge < end)})
    found = [[0] * 2 for _ in edges[1:]]  # how many quarters, and the sum of their instants
    for reading in rollup_rows(edges, bucket, zone, lengths):
        shift, step = reading.divided or (0, 2**60)
        added_up: dict[int, list[int]] = {}
        for at in reading.starts:
            added_up.setdefault((at + shift) // step, []).append(at)
        for rows in added_up.values():
            for index, share in reading.shares_of(rows[-1]):
                for at in rows:
                    found[index][0] += share * reading.length_ms // QUARTER_MS
                    found[index][1] += share * sum(range(at, at + reading.length_ms, QUARTER_MS))

    assert found == [[(high - low) // QUARTER_MS, sum(range(low, high, QUARTER_MS))] for low, high in itertools.pairwise(edges)]


@pytest.mark.parametrize(("zone", "most"), [("UTC", 90), ("America/New_York", 91 + 92 * 2), ("Asia/Kolkata", 91 + 91 * 3)])
def test_a_days_edges_take_few_rows(zone: str, most: int) -> None:
    """Of 90 days: a row for each UTC day, and at most two or three for each edge; by hours alone it would be 2,160."""
    start = round(1_780_000_000_000 / DAY_MS) * DAY_MS
    end = start + 90 * DAY_MS
    edges = sorted({start, end, *(edge for edge in bucket_edges(start, end, Bucket.DAY, zone) if start < edge < end)})

    assert sum(len(reading.starts) for reading in rollup_rows(edges, Bucket.DAY, zone, LENGTHS_MS[-1])) <= most


async def _many(book: Book) -> None:
    """Of which the first half is folded."""
    entries = [
        an_entry(
            number,
            settled_at_ms=START_MS + number * 11 * QUARTER_MS,
            org=("acme", "beta")[number % 2],
            credential=f"key-{number % 3}",
            capability=("chat", "search")[number % 5 == 0],
            status=(200, 500)[number % 7 == 0],
            cost_nano_usd=number,
        )
        for number in range(400)
    ]
    await book.record(entries[::2])
    await book.fold()
    await book.record(entries[1::2])
    count = RefusalCount(org="acme", credential="key-1", capability="chat", refused_by="tokens_1m", status=429, requests=7)
    await book.add_refusals("worker-0", [count], at_ms=START_MS)


async def _drifts(database: Database) -> list[object]:
    audit = LedgerAudit(database)
    return [drift for org, day in await audit.days() for drift in await audit.day(org, day)]


async def test_every_level_has_entries_and_refusals(database: Database, book: Book) -> None:
    await _many(book)
    await book.fold()

    await assert_no_drift(database)
    assert await _drifts(database) == []
    async with database.read() as connection:
        level = (ROLLUPS.c.detail, ROLLUPS.c.length_ms)
        refused = await connection.execute(select(*level, func.sum(ROLLUPS.c.refused)).group_by(*level))
        assert {(detail, length_ms): count for detail, length_ms, count in refused} == dict.fromkeys(LEVELS, 7)


async def test_a_ledger_from_before_them_gets_its_kinds(
    database: Database, book: Book, open_another: Callable[[], Database]
) -> None:
    await _many(book)
    await book.fold()

    def as_before(connection: Connection) -> None:
        put_back(connection)
        connection.execute(text("DROP TABLE kind_rollup"))
        connection.execute(text("DELETE FROM org_rollup WHERE length_ms = 900000"))
        connection.execute(delete(SERIES).where(SERIES.c.credential == ""))
        upgrade(connection, "0005", "0006")
        upgrade(connection, "0013", "head")

    async with database.write() as connection:
        await connection.run_sync(as_before)

    await assert_no_drift(database)
    assert await _drifts(database) == []
    await Book(open_another()).record([an_entry(1_000, org="acme", credential="key-1", status=500)])
    assert await _drifts(database) == []


async def test_a_ledger_of_five_tables_is_carried_over_whole(
    database: Database, book: Book, queries: UsageQueries, open_another: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.migrations.versions.v0014_one_rollup_table._ROWS_AT_ONCE", 7)
    await _many(book)
    await book.fold()
    rows = select(ROLLUPS).order_by(*ROLLUPS.primary_key.columns)
    async with database.read() as connection:
        before = list(map(tuple, await connection.execute(rows)))
    async with database.write() as connection:
        await connection.run_sync(put_back)

    await open_another().migrate()

    async with database.read() as connection:
        assert list(map(tuple, await connection.execute(rows))) == before
        left = await connection.run_sync(lambda sync: [name for name in inspect(sync).get_table_names() if "rollup_" in name])
        assert left == []
    await Book(open_another()).record([an_entry(1_000, org="acme", credential="key-1", status=500)])
    await assert_no_drift(database)
    assert await _drifts(database) == []
    assert (await queries.usage(UsageQuery(scopes=(ACME,), from_ms=0, to_ms=2**42)))[0].usage.requests == 201


async def test_what_a_writer_of_the_version_before_has_begun_is_carried_over(
    database: Database, book: Book, open_another: Callable[[], Database]
) -> None:
    """SQLite has one writer anyway."""
    await book.record([an_entry(1, cost_nano_usd=5)])
    await book.fold()
    async with database.write() as connection:
        await connection.run_sync(put_back)
    if database.dialect == "sqlite":
        return
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
    async with database.write() as writing:
        for table in ("rollup_15m", "org_rollup"):
            await writing.execute(text(f"UPDATE {table} SET cost_nano_usd = cost_nano_usd + 7"))  # noqa: S608  # names of ours
        migration = asyncio.create_task(open_another().migrate())
        async with database.read() as reading:
            while not migration.done() and not (await reading.execute(waiting)).scalar_one():
                await asyncio.sleep(0.01)
    await migration

    found = await sums(database)
    cost = AMOUNTS.index("cost_nano_usd")
    assert {level.name: found[level.name][cost] for level in LEVELS} == {
        level.name: 5
        if level.detail in {Detail.KIND, Detail.CREDENTIAL} or level in {(Detail.SERIES, HOUR_MS), (Detail.SERIES, DAY_MS)}
        else 12
        for level in LEVELS
    }


KILLED_BEFORE_ITS_END = """
import asyncio, os, signal, sys
from pathlib import Path
from alembic import op
from tallygate.ledger.opening import open_database

drop_table = op.drop_table

def drop(name):
    if name == "org_rollup":  # the last of them
        os.kill(os.getpid(), signal.SIGKILL)
    drop_table(name)

op.drop_table = drop
asyncio.run(open_database(sys.argv[1], Path()).migrate())
"""


@pytest.mark.process
async def test_a_migration_that_is_killed_is_begun_anew(
    database: Database, database_url: str, book: Book, open_another: Callable[[], Database]
) -> None:
    await book.record([an_entry(number, credential=f"key-{number % 2}", cost_nano_usd=number) for number in range(5)])
    await book.fold()
    async with database.write() as connection:
        await connection.run_sync(put_back)

    migrating = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_BEFORE_ITS_END, database_url)
    assert await migrating.wait() == -signal.SIGKILL
    async with database.read() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert {"rollup_15m", "rollup_1h", "rollup_1d", "kind_rollup", "org_rollup"} < {*tables}
        assert "rollups" not in tables
    await open_another().migrate()

    await assert_no_drift(database)
    assert await _drifts(database) == []


async def test_a_ledger_from_before_fees_has_none(database: Database, book: Book, open_another: Callable[[], Database]) -> None:
    await _many(book)
    await book.fold()

    def as_before(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE entries DROP COLUMN fee_nano_usd"))
        put_back(connection)
        upgrade(connection, "0011", "0012")
        upgrade(connection, "0013", "head")

    async with database.write() as connection:
        await connection.run_sync(as_before)

    await Book(open_another()).record([an_entry(1_000, cost_nano_usd=5, fee_nano_usd=3)])
    await assert_no_drift(database)
    async with database.read() as connection:
        fees = select(ENTRIES.c.fee_nano_usd, func.count()).group_by(ENTRIES.c.fee_nano_usd).order_by(ENTRIES.c.fee_nano_usd)
        assert [tuple(row) for row in await connection.execute(fees)] == [(0, 400), (3, 1)]


async def test_with_and_without_credentials_the_sums_are_the_same(database: Database, book: Book, queries: UsageQueries) -> None:
    """Each question is answered from rollups of its own; they agree with each other."""
    await _many(book)
    asked = {"scopes": (ACME, OrgScope(org="beta")), "from_ms": START_MS - 9 * DAY_MS, "to_ms": START_MS + 60 * DAY_MS}
    for zone, bucket in zip(ZONES, itertools.cycle([Bucket.DAY, Bucket.WEEK, Bucket.MONTH, Bucket.HOUR]), strict=False):
        query = UsageQuery(**asked, bucket=bucket, time_zone=zone)
        whole = {row.start_ms: row.usage for row in await queries.usage(query)}
        for group_by in ((Dimension.STATUS,), (Dimension.CREDENTIAL, Dimension.STATUS), (Dimension.ORG, Dimension.CAPABILITY)):
            sums: dict[int, list[int]] = {}
            for row in await queries.usage(replace(query, group_by=group_by)):
                total = sums.setdefault(row.start_ms, [0, 0, 0])
                for index, amount in enumerate((row.usage.requests, row.usage.cost_nano_usd, row.usage.refused)):
                    assert amount >= 0
                    total[index] += amount
            assert sums == {at: [usage.requests, usage.cost_nano_usd, usage.refused] for at, usage in whole.items()}, zone


async def test_an_organization_past_its_series_keeps_kinds_and_series_equal(
    database: Database, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.series.SERIES_PER_ORG_MAX", 6)
    for number in range(12):
        await book.record([an_entry(number, response_model=f"model-{number}", cost_nano_usd=number)])
    await book.fold()

    models = {}
    async with database.read() as connection:
        for level in (FINEST, Level(Detail.KIND, DAY_MS)):
            sums = select(SERIES.c.model, func.sum(ROLLUPS.c.cost_nano_usd)).join(SERIES, SERIES.c.id == ROLLUPS.c.series)
            rows = await connection.execute(sums.where(level.rows()).group_by(SERIES.c.model))
            models[level.detail] = {model: int(cost) for model, cost in rows}

    assert models[Detail.SERIES] == models[Detail.KIND]
    assert models[Detail.KIND]["other"] > 0


async def test_invented_models_are_other_past_a_bound_and_priced_ones_keep_their_names(database: Database, book: Book) -> None:
    first = [an_entry(0, request_model="before", response_model=None, price_version=None)]
    invented = [
        an_entry(number, request_model=f"invented-{number}", response_model=None, price_version=None, cost_nano_usd=1)
        for number in range(1, MODELS_PER_ORG_MAX + 501)
    ]
    echoed = [an_entry(20_000, request_model="gpt-4o:zzz", response_model="gpt-4o:zzz", price_version="gpt-4o@2024-08-06")]
    priced = [an_entry(30_000, request_model="gpt-4o", response_model="gpt-4o", price_version="gpt-4o@2024-08-06")]
    mine = [an_entry(40_000, org="beta", request_model="own", response_model=None, price_version=None)]
    for batch in (first, invented, echoed, priced, first, mine):
        await book.record(batch)
    await Book(database).record([an_entry(50_000, request_model="yet-another", response_model=None, price_version=None)])
    await Book(database).fold()

    async with database.read() as connection:
        rows = (await connection.execute(select(SERIES.c.org, SERIES.c.model).distinct())).all()
        sums = select(SERIES.c.model, func.sum(ROLLUPS.c.requests)).join(SERIES, SERIES.c.id == ROLLUPS.c.series)
        of_series = await connection.execute(sums.where(FINEST.rows()).group_by(SERIES.c.model))
        requests = {model: int(count) for model, count in of_series}
        lifetime = (await connection.execute(select(LIFETIME_TOTALS.c.model).distinct())).scalars().all()
    models = {model for org, model in rows if org == "acme" and model}
    assert len(models) == MODELS_PER_ORG_MAX + 2  # with `other`, and the priced one that came when it was full
    assert {"before", "gpt-4o", "other"} <= models
    assert models.isdisjoint({"gpt-4o:zzz", "yet-another"})
    assert {model for org, model in rows if org == "beta" and model} == {"own"}
    assert sum(requests.values()) == MODELS_PER_ORG_MAX + 500 + 5
    assert set(lifetime) == {"other", "gpt-4o"}
    assert await _drifts(database) == []


async def test_clients_that_only_tokens_name_are_other_past_a_bound(database: Database, book: Book) -> None:
    invented = [
        an_entry(number, credential=f"client-{number}", flags=("unregistered",), cost_nano_usd=1) for number in range(2_000)
    ]
    for start in range(0, 2_000, 500):
        await book.record(invented[start : start + 500])
    registered = [an_entry(3_000, credential="late-but-registered", cost_nano_usd=1)]
    for batch in (registered, invented[:3], invented[-3:]):  # told again
        await book.record(batch)
    await Book(database).record([an_entry(4_000, credential="client-4000", flags=("uncertain", "unregistered"), cost_nano_usd=1)])

    async with database.read() as connection:
        of_totals = select(LIFETIME_TOTALS.c.credential, func.sum(LIFETIME_TOTALS.c.requests)).group_by(
            LIFETIME_TOTALS.c.credential
        )
        totals = {credential: int(count) for credential, count in await connection.execute(of_totals)}
        series = set((await connection.execute(select(SERIES.c.credential).where(SERIES.c.credential != "").distinct())).scalars())
    assert set(totals) == series
    assert len(totals) == CREDENTIALS_FREE_MAX + 2
    assert totals["other"] == 2_000 - CREDENTIALS_FREE_MAX + 1
    assert (totals["client-0"], totals["late-but-registered"]) == (1, 1)
    assert await _drifts(database) == []
    assert await lifetime_drifts(database, "acme") == []


async def test_the_audit_visits_the_days_that_have_something_and_no_others(database: Database, book: Book) -> None:
    two_years_ago = START_MS - 730 * DAY_MS
    await book.record([an_entry(1, settled_at_ms=two_years_ago), an_entry(2), an_entry(3, org="beta")])
    await book.add_refusals(
        "worker-0",
        [RefusalCount(org="acme", credential="key-1", capability="chat", refused_by="x", status=429, requests=7)],
        at_ms=START_MS - 10 * DAY_MS,
    )

    days = await LedgerAudit(database).days()

    assert list(days) == [("acme", at // DAY_MS * DAY_MS) for at in (two_years_ago, START_MS - 10 * DAY_MS, START_MS)] + [
        ("beta", START_MS // DAY_MS * DAY_MS)
    ]
    assert days[("beta", START_MS // DAY_MS * DAY_MS)] == 1 + 1  # its entry, and what is recent


async def test_a_sum_without_any_entry_is_found_wherever_it_lies(database: Database, book: Book) -> None:
    """Of days that no other sum knows, also of those that are looked at together."""
    await book.record([an_entry(day, settled_at_ms=START_MS + day * DAY_MS) for day in (0, 9)])
    bucket_ms = START_MS // HOUR_MS * HOUR_MS + 4 * DAY_MS
    amounts = dict.fromkeys(ROLLUP_AMOUNTS, 3)
    lost = ROLLUPS.insert().values(detail="org", length_ms=HOUR_MS, org="acme", bucket_ms=bucket_ms, series=0, **amounts)
    async with database.write() as connection:
        await connection.execute(lost)
    first = START_MS // DAY_MS * DAY_MS

    assert {(drift.what, drift.found) for drift in await _drifts(database)} == {("rollups.org.60m", 3)}
    assert await LedgerAudit(database).day("acme", first, days=10) == await _drifts(database)


def test_few_rows_are_audited_together_and_a_busy_day_by_itself() -> None:
    days = {("acme", 0): 2_000, ("acme", 3 * DAY_MS): 3_000, ("acme", 4 * DAY_MS): 1, ("beta", 0): 9_000, ("beta", DAY_MS): 1}

    assert audit_stretches(days) == [
        ("acme", 0, 3 * DAY_MS, 2),
        ("acme", 4 * DAY_MS, 4 * DAY_MS, 1),
        ("beta", 0, 0, 1),
        ("beta", DAY_MS, DAY_MS, 1),
    ]


async def test_today_is_the_day_of_the_organizations_zone_and_one_credentials_part_of_it(book: Book, queries: UsageQueries) -> None:
    organization = Organization(id="acme", name="Acme", plan=Plan(id="p", history_days=30), time_zone="America/New_York")
    midnight_ms = 1_787_976_000_000  # 2026-08-29T04:00:00Z
    await book.record(
        [
            an_entry(1, settled_at_ms=midnight_ms - 1),
            an_entry(2, settled_at_ms=midnight_ms),
            an_entry(3, settled_at_ms=START_MS, credential="other"),
            an_entry(4, settled_at_ms=START_MS, org="globex"),
        ]
    )
    whole, own = await queries.today(organization, "other", now_ms=lambda: START_MS)

    assert (whole.requests, own.requests) == (2, 1)
    assert whole.cost_nano_usd == 2 * own.cost_nano_usd > 0
    assert (await queries.today(organization, "never", now_ms=lambda: START_MS))[1] == Usage()
