"""Sums agree, however a range is cut: days of any zone, buckets, groups, and OpenAI's shape."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from api_values import ACME, DAY_MS, ENTERPRISE, HOUR_MS, an_entry
from api_world import World, served
from hypothesis import given, settings
from hypothesis import strategies as st
from new_ledger import new_ledger
from search import cases

from tallygate.console.api_times import TIME_MIN_MS
from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.ledger.time_buckets import QUARTER_MS

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
SUMMED = ("requests", "prompt_tokens", "completion_tokens", "cost_nano_usd")
# Around changes of summer time on both hemispheres, half an hour (Lord Howe), a skipped day (Samoa), month and year ends.
DAYS = [
    date(2026, 3, 8),
    date(2026, 3, 29),
    date(2026, 4, 5),
    date(2026, 10, 4),
    date(2026, 10, 25),
    date(2026, 11, 1),
    date(2011, 12, 30),
    date(2024, 2, 29),
    date(2025, 12, 31),
    date(2026, 7, 31),
]
INSTANTS = st.builds(
    lambda day, offset: day_start_ms(day, "UTC") + offset,
    st.sampled_from(DAYS),
    st.one_of(
        st.integers(-3 * DAY_MS, 3 * DAY_MS),
        st.builds(lambda quarter, off: quarter * QUARTER_MS + off, st.integers(-200, 200), st.sampled_from([-1, 0, 1])),
    ),
)


def with_world(check: Callable[[World], Awaitable[None]]) -> None:
    """Run a coroutine over a new ledger: hypothesis calls its examples from plain code."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            database = await new_ledger(Path(folder))
            try:
                async with served(database) as world:
                    world.now_ms = day_start_ms(date(2027, 1, 1), "UTC")
                    world.organizations["acme"] = replace(ACME, plan=ENTERPRISE)  # whose history is unlimited
                    await check(world)
            finally:
                await database.close()

    asyncio.run(run())


def counted(rows) -> Counter:
    total = Counter()
    for row in rows:
        total.update({name: row["usage"][name] for name in SUMMED})
    return +total


@settings(max_examples=cases(short=5, steady=15, deep=60))
@given(
    at=st.lists(INSTANTS, min_size=1, max_size=40),
    asked=st.lists(
        st.tuples(st.sampled_from(ZONES), st.sampled_from(DAYS), st.integers(1, 40), st.integers(0, 20)), min_size=4, max_size=8
    ),
)
def test_days_hours_and_weeks_of_any_zone_add_up_to_the_range(at, asked) -> None:
    entries = [an_entry(number, settled_at_ms=at_ms, cost_nano_usd=1 + number) for number, at_ms in enumerate(at)]

    async def check(world: World) -> None:
        await world.record(entries)
        for zone, day, days, before in asked:
            first = day - timedelta(days=before)
            last = first + timedelta(days=days)
            low, high = day_start_ms(first, zone), day_start_ms(last, zone)
            inside = [entry for entry in entries if low <= entry.settled_at_ms < high]
            by_day = Counter(local_date(entry.settled_at_ms, zone).isoformat() for entry in inside)
            query = {"from_": first.isoformat(), "to": last.isoformat(), "time_zone": zone, "limit": 2000}
            for bucket in ("15m", "hour", "day", "week", "month", "total"):
                body = await world.ok("/api/usage", bucket=bucket, **query)
                assert counted(body["rows"]) == counted([{"usage": body["totals"]}]), (zone, bucket)
                assert body["totals"]["cost_nano_usd"] == sum(entry.cost_nano_usd for entry in inside), (zone, bucket)
                assert body["totals"]["requests"] == len(inside)
                if bucket == "day":
                    assert {row["start"][:10]: row["usage"]["requests"] for row in body["rows"]} == dict(by_day), zone

    with_world(check)


@settings(max_examples=cases(short=4, steady=10, deep=40))
@given(
    made=st.lists(
        st.tuples(
            INSTANTS,
            st.sampled_from(["acme", "globex"]),
            st.sampled_from(["prod", "dev"]),
            st.sampled_from(["gpt-4o", "gpt-5"]),
            st.sampled_from(["chat", "search"]),
            st.sampled_from([200, 429]),
        ),
        min_size=1,
        max_size=30,
    ),
    group_by=st.lists(st.sampled_from(["org", "credential", "capability", "model", "endpoint", "status"]), unique=True),
)
def test_groups_add_up_to_the_whole_and_are_what_a_filter_finds(made, group_by) -> None:
    entries = [
        an_entry(
            number, settled_at_ms=at, org=org, credential=f"{org}-{name}", response_model=model, capability=kind, status=status
        )
        for number, (at, org, name, model, kind, status) in enumerate(made)
    ]

    async def check(world: World) -> None:
        await world.record(entries)
        query = {"from_": "2020-01-01", "to": "2027-01-01", "bucket": "total"}
        old = {"from_": "2011-12-20", "to": "2012-01-20", "bucket": "total"}
        for asked in (query, old):
            body = await world.ok("/api/usage", **asked, group_by=group_by)
            assert counted(body["rows"]) == counted([{"usage": body["totals"]}])
            for row in body["rows"][:5]:
                found = await world.ok("/api/usage", **asked, **row["group"])
                assert found["totals"] == row["usage"]

    with_world(check)


@settings(max_examples=cases(short=4, steady=10, deep=40))
@given(
    at=st.lists(st.integers(0, 3 * DAY_MS), min_size=1, max_size=30),
    start=st.integers(-DAY_MS, DAY_MS),
    length=st.integers(HOUR_MS, 3 * DAY_MS),
)
def test_openais_shape_adds_up_to_the_same(at, start, length) -> None:
    base = day_start_ms(date(2026, 8, 1), "UTC")
    low = (base + start) // QUARTER_MS * QUARTER_MS
    high = low + length // QUARTER_MS * QUARTER_MS
    entries = [an_entry(number, settled_at_ms=base + offset, cost_nano_usd=1000 + number) for number, offset in enumerate(at)]
    inside = [entry for entry in entries if low <= entry.settled_at_ms < high]

    async def check(world: World) -> None:
        await world.record(entries)
        for width in ("1m", "1h", "1d"):
            requests, token = 0, {}
            while True:
                page = await world.ok(
                    "/v1/organization/usage/completions", start_time=low // 1000, end_time=high // 1000, bucket_width=width, **token
                )
                requests += sum(result["num_model_requests"] for bucket in page["data"] for result in bucket["results"])
                if not page["has_more"]:
                    break
                token = {"page": page["next_page"]}
            assert requests == len(inside), width
        page = await world.ok("/v1/organization/costs", start_time=low // 1000, end_time=high // 1000, limit=180)
        total = sum(round(result["amount"]["value"] * 1e9) for bucket in page["data"] for result in bucket["results"])
        assert total == sum(entry.cost_nano_usd for entry in inside)

    with_world(check)


def offsets(zone: str) -> set[int]:
    """In seconds, looked at every month until 2027."""
    instants = range(TIME_MIN_MS // 1000, TIME_MIN_MS // 1000 + 27 * 366 * 86_400, 30 * 86_400)
    found = (datetime.fromtimestamp(instant, ZoneInfo(zone)).utcoffset() or timedelta() for instant in instants)
    return {round(offset.total_seconds()) for offset in found}


def test_every_zones_offset_is_a_whole_number_of_quarters_since_the_earliest_time() -> None:
    """What lets sums of quarters be sums of local days; the reason for TIME_MIN_MS."""
    odd = {zone for zone in ZONES if any(offset % 900 for offset in offsets(zone))}
    assert odd == set()
