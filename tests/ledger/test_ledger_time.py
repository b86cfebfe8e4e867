"""Days, weeks and months of every time zone add up to the range they divide."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_values import ACME, an_entry
from new_ledger import new_ledger
from search import cases

from tallygate.domain.calendar_months import month_at
from tallygate.ledger.book import Book
from tallygate.ledger.history import Dimension, OrgScope, UsageQuery
from tallygate.ledger.opening import open_database
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket, bucket_edges, bucket_of, cover, stretches
from tallygate.ledger.usage_queries import UsageQueries

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
LONGEST_MS = {
    Bucket.QUARTER_HOUR: QUARTER_MS,
    Bucket.HOUR: HOUR_MS,
    Bucket.DAY: DAY_MS,
    Bucket.WEEK: 7 * DAY_MS,
    Bucket.MONTH: 31 * DAY_MS,
}
quarters = st.integers(1_400_000_000_000 // QUARTER_MS, 2_000_000_000_000 // QUARTER_MS).map(lambda quarter: quarter * QUARTER_MS)
# Around changes of the clock and ends of months, where mistakes are
edges_2026 = st.sampled_from(
    [
        round(datetime(2026, month, day, tzinfo=UTC).timestamp()) * 1000
        for month, day in [(3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1), (12, 31), (2, 28), (3, 31)]
    ]
)
starts = st.one_of(quarters, st.builds(lambda edge, off: edge + off * QUARTER_MS, edges_2026, st.integers(-150, 150)))


@given(start=starts, length=st.integers(1, 4_000), zone=st.sampled_from(ZONES), bucket=st.sampled_from(list(Bucket)))
def test_buckets_divide_a_range_without_gap_or_overlap(start: int, length: int, zone: str, bucket: Bucket) -> None:
    end = start + length * QUARTER_MS
    edges = bucket_edges(start, end, bucket, zone)

    assert edges[0] <= start
    assert edges[-1] >= end
    assert edges == sorted(edges)
    assert max(later - earlier for earlier, later in itertools.pairwise(edges)) <= LONGEST_MS[bucket] + 25 * HOUR_MS
    for at in (start, start + (end - start) // 2, end - 1):
        index = bucket_of(edges, at)
        assert edges[index] <= at < edges[index + 1]


@given(quarters, st.integers(1, 800), st.sampled_from(ZONES), st.integers(1, 31))
@settings(max_examples=cases(short=40, steady=100, deep=300))
def test_months_are_those_that_a_limit_of_the_organization_counts(start: int, days: int, zone: str, billing_day: int) -> None:
    edges = bucket_edges(start, start + days * DAY_MS, Bucket.MONTH, zone, billing_day)

    months = [month_at(edge + DAY_MS, zone, billing_day) for edge in edges]
    assert [month.start_ms // QUARTER_MS * QUARTER_MS for month in months] == edges
    assert all(month.end_ms == following.start_ms for month, following in itertools.pairwise(months))


def test_a_change_within_an_hour_cuts_that_hour_in_two() -> None:
    """Lord Howe's clock goes back by half an hour, at 15:00 UTC on 4 April 2026."""
    change = round(datetime(2026, 4, 4, 15, tzinfo=UTC).timestamp()) * 1000
    edges = bucket_edges(change - HOUR_MS, change + HOUR_MS, Bucket.HOUR, "Australia/Lord_Howe")

    assert edges == [change - HOUR_MS, change, change + HOUR_MS // 2, change + HOUR_MS]


@given(start=starts, days=st.integers(1, 40), zone=st.sampled_from(ZONES))
def test_a_day_holds_the_instants_that_its_zone_says(start: int, days: int, zone: str) -> None:
    local = ZoneInfo(zone)
    edges = bucket_edges(start, start + days * DAY_MS, Bucket.DAY, zone)
    for at in range(edges[0], edges[-1], 7 * QUARTER_MS):
        index = bucket_of(edges, at)
        same_day = datetime.fromtimestamp(edges[index] / 1000, local).date() == datetime.fromtimestamp(at / 1000, local).date()
        assert same_day, f"{zone} {at}"


@given(start=starts, length=st.integers(1, 4_000))
def test_rollup_rows_cover_a_range_once(start: int, length: int) -> None:
    end = start + length * QUARTER_MS
    pieces = list(cover(start, end, (DAY_MS, HOUR_MS, QUARTER_MS)))

    assert pieces[0][1] == start
    assert pieces[-1][2] == end
    assert all(earlier[2] == later[1] for earlier, later in itertools.pairwise(pieces))
    assert all(low % row == 0 and high % row == 0 and low < high for row, low, high in pieces)


@given(start=starts, days=st.integers(1, 400), zone=st.sampled_from(ZONES))
def test_stretches_have_one_offset_each(start: int, days: int, zone: str) -> None:
    end = start + days * DAY_MS
    found = stretches(start, end, zone)
    local = ZoneInfo(zone)

    assert (found[0].start_ms, found[-1].end_ms) == (start, end)
    assert all(earlier.end_ms == later.start_ms for earlier, later in itertools.pairwise(found))
    for stretch in found:
        for at in {stretch.start_ms, stretch.end_ms - 1, (stretch.start_ms + stretch.end_ms) // 2}:
            offset = datetime.fromtimestamp(at / 1000, local).utcoffset()
            assert offset == timedelta(milliseconds=stretch.offset_ms), f"{zone} {at}"


@pytest.fixture(scope="module")
def year_of_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with an event every 37 quarters of an hour, over a year, of two organizations and three capabilities."""
    directory = tmp_path_factory.mktemp("year")

    async def make() -> None:
        database = await new_ledger(directory)
        entries = [
            an_entry(
                number,
                settled_at_ms=YEAR_MS + number * 37 * QUARTER_MS + number % QUARTER_MS,
                org=("acme", "beta")[number % 2],
                capability=("chat", "search", "embeddings")[number % 3],
                cost_nano_usd=number,
            )
            for number in range(950)
        ]
        await Book(database).record(entries)
        await database.close()

    asyncio.run(make())
    return directory


YEAR_MS = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000
SCOPES = (ACME, OrgScope(org="beta"))


@settings(max_examples=cases(short=15, steady=60, deep=200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(-100, 35_000),
    length=st.integers(1, 35_000),
    zone=st.sampled_from(ZONES),
    bucket=st.sampled_from([Bucket.HOUR, Bucket.DAY, Bucket.WEEK, Bucket.MONTH]),
    group_by=st.sampled_from([(), (Dimension.ORG,), (Dimension.CAPABILITY,)]),
)
def test_the_sum_of_days_is_the_range_in_every_zone(
    year_of_events: Path, start: int, length: int, zone: str, bucket: Bucket, group_by: tuple[Dimension, ...]
) -> None:
    from_ms, to_ms = YEAR_MS + start * QUARTER_MS, YEAR_MS + (start + length) * QUARTER_MS
    expected = [number for number in range(950) if from_ms <= YEAR_MS + number * 37 * QUARTER_MS + number % QUARTER_MS < to_ms]

    async def ask() -> None:
        database = open_database("", year_of_events)
        queries = UsageQueries(database)
        whole = UsageQuery(scopes=SCOPES, from_ms=from_ms, to_ms=to_ms, group_by=group_by)
        divided = UsageQuery(scopes=SCOPES, from_ms=from_ms, to_ms=to_ms, group_by=group_by, bucket=bucket, time_zone=zone)
        for query in (whole, divided):
            rows = await queries.usage(query)
            assert sum(row.usage.requests for row in rows) == len(expected)
            assert sum(row.usage.cost_nano_usd for row in rows) == sum(expected)
            for row in rows:
                assert from_ms <= row.start_ms < row.end_ms <= to_ms
        await database.close()

    asyncio.run(ask())


async def test_each_row_holds_what_its_own_bucket_holds(year_of_events: Path) -> None:
    """The division by SQL equals the division by Python, across both changes of the clock."""
    database = open_database("", year_of_events)
    for zone in ("America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana"):
        rows = await UsageQueries(database).usage(
            UsageQuery(scopes=SCOPES, from_ms=YEAR_MS, to_ms=YEAR_MS + 360 * DAY_MS, bucket=Bucket.DAY, time_zone=zone)
        )
        edges = bucket_edges(YEAR_MS, YEAR_MS + 360 * DAY_MS, Bucket.DAY, zone)
        counts: dict[int, int] = {}
        for number in range(950):
            at = YEAR_MS + number * 37 * QUARTER_MS + number % QUARTER_MS
            if at < YEAR_MS + 360 * DAY_MS:
                start = max(edges[bucket_of(edges, at)], YEAR_MS)
                counts[start] = counts.get(start, 0) + 1
        assert {row.start_ms: row.usage.requests for row in rows} == counts, zone
    await database.close()


async def test_what_is_beyond_an_organizations_history_is_not_counted(year_of_events: Path) -> None:
    database = open_database("", year_of_events)
    half = YEAR_MS + 180 * DAY_MS
    asked = {"from_ms": YEAR_MS, "to_ms": YEAR_MS + 400 * DAY_MS, "group_by": (Dimension.ORG,)}
    rows = await UsageQueries(database).usage(
        UsageQuery(scopes=(OrgScope(org="acme", visible_from_ms=half), OrgScope(org="beta")), **asked)
    )
    visible = [n for n in range(0, 950, 2) if YEAR_MS + n * 37 * QUARTER_MS + n % QUARTER_MS >= half]
    assert {row.group: row.usage.requests for row in rows} == {("acme",): len(visible), ("beta",): 475}
    assert await UsageQueries(database).usage(UsageQuery(scopes=(), **asked)) == []
    await database.close()
