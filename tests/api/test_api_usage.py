"""GET /api/usage: sums by bucket and group, in any zone, page after page."""

from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from api_values import ACME, DAY_MS, ENTERPRISE, HOUR_MS, NOW_MS, PAY, an_entry
from api_world import World
from msgspec import structs

from tallygate.console import usage_pages
from tallygate.domain.calendar_months import day_start_ms
from tallygate.ledger.book import RefusalCount


async def all_rows(world: World, **query):
    rows, cursor = [], {}
    while True:
        page = await world.ok("/api/usage", **query, **cursor)
        rows += page["rows"]
        if page["next_cursor"] is None:
            return rows
        cursor = {"cursor": page["next_cursor"]}


async def test_a_day_of_one_organization_is_shown_in_its_own_zone(world: World) -> None:
    kinds = {"input": 60, "cache_read": 40, "cache_write": 10, "output": 150, "media": 80, "calls": 20, "fee": 100}
    media = {"audio_prompt_tokens": 3, "audio_completion_tokens": 2, "image_prompt_tokens": 15, "image_completion_tokens": 4}
    parts = {f"{kind}_nano_usd": amount * 1_000 for kind, amount in kinds.items()}
    await world.record([an_entry(1, **media, **parts), an_entry(2, **media, **parts)])

    body = await world.ok("/api/usage", org="acme", from_="2026-09-01", to="2026-09-02")

    assert (body["start"], body["end"], body["time_zone"]) == (
        "2026-09-01T00:00:00-04:00",
        "2026-09-02T00:00:00-04:00",
        "America/New_York",
    )
    (row,) = body["rows"]
    assert row["start"] == "2026-09-01T00:00:00-04:00"
    assert (
        row["usage"]
        == body["totals"]
        == {
            "requests": 2,
            "refused": 0,
            "prompt_tokens": 200,
            "completion_tokens": 40,
            "total_tokens": 240,
            "cached_tokens": 80,
            "cache_write_tokens": 20,
            "reasoning_tokens": 10,
            "audio_prompt_tokens": 6,
            "audio_completion_tokens": 4,
            "image_prompt_tokens": 30,
            "image_completion_tokens": 8,
            "cost_nano_usd": 1_000_000,
            "cost_usd": "0.001",
            "fee_nano_usd": 200_000,
            "input_nano_usd": 120_000,
            "cache_read_nano_usd": 80_000,
            "cache_write_nano_usd": 20_000,
            "output_nano_usd": 300_000,
            "media_nano_usd": 160_000,
            "calls_nano_usd": 40_000,
            "other_nano_usd": 80_000,
        }
    )


async def test_several_organizations_are_shown_in_utc(world: World) -> None:
    assert (await world.ok("/api/usage"))["time_zone"] == "UTC"


@pytest.mark.parametrize("name", ["org", "credential", "capability", "model", "endpoint", "status", "outcome"])
async def test_every_dimension_groups_and_filters(world: World, name: str) -> None:
    other = {"credential": "acme-dev", "capability": "search", "model": "gpt-5", "endpoint": "/v2", "status": 502, "outcome": "x"}
    changed = {"org": "globex"} if name == "org" else {name: other[name]}
    if name == "model":
        changed = {"response_model": "gpt-5"}
    await world.record([an_entry(1), an_entry(2, **changed), an_entry(3, **changed)])

    rows = (await world.ok("/api/usage", group_by=[name]))["rows"]
    assert sorted(row["usage"]["requests"] for row in rows) == [1, 2]
    for row in rows:
        body = await world.ok("/api/usage", **{name: row["group"][name]})
        assert body["totals"] == row["usage"]


async def test_list_parameters_may_have_brackets(world: World) -> None:
    await world.record([an_entry(1), an_entry(2, credential="acme-dev")])

    body = await world.ok("/api/usage", **{"group_by[]": ["org", "credential"]})

    assert [row["group"] for row in body["rows"]] == [
        {"org": "acme", "credential": "acme-dev"},
        {"org": "acme", "credential": "acme-prod"},
    ]


async def test_groups_may_stand_in_one_value_with_commas(world: World) -> None:
    await world.record([an_entry(1), an_entry(2, credential="acme-dev")])

    repeated = await world.ok("/api/usage", group_by=["org", "credential", "model"])
    assert len(repeated["rows"]) == 2
    assert await world.ok("/api/usage", group_by="org,credential,model") == repeated
    assert await world.ok("/api/usage", group_by=["org,credential", "model"]) == repeated


async def test_refused_requests_are_counted_apart(world: World) -> None:
    refusal = RefusalCount(org="acme", credential="acme-prod", capability="chat", refused_by="spend_7d", status=429, requests=7)
    await world.record([an_entry(1)])
    await world.refuse(refusal, NOW_MS - HOUR_MS)

    totals = (await world.ok("/api/usage"))["totals"]
    assert (totals["requests"], totals["refused"]) == (1, 7)


@pytest.mark.parametrize("bucket", ["15m", "hour", "day", "week", "month", "total"])
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_all_pages_together_are_the_whole(world: World, bucket: str, limit: int) -> None:
    entries = [
        an_entry(number, settled_at_ms=NOW_MS - number * 11 * HOUR_MS - number * 61_000, cost_nano_usd=number, org=org)
        for number in range(1, 13)
        for org in ("acme", "globex")
    ]
    await world.record([structs.replace(entry, event_id=f"{entry.event_id[:-1]}{entry.org[0]}") for entry in entries])
    query = {"from_": "2026-08-26", "to": "2026-09-02", "bucket": bucket, "group_by": ["org"], "time_zone": "Asia/Kathmandu"}

    whole = (await world.ok("/api/usage", **query, limit=2000))["rows"]
    paged = await all_rows(world, **query, limit=limit)

    assert paged == whole
    assert sum(row["usage"]["cost_nano_usd"] for row in whole) == 2 * sum(range(1, 13))


async def test_a_range_that_ends_now_keeps_its_end_while_it_is_paged(world: World) -> None:
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * DAY_MS) for number in range(1, 4)])
    first = await world.ok("/api/usage", limit=1)
    world.now_ms += DAY_MS
    second = await world.ok("/api/usage", limit=1, cursor=first["next_cursor"])

    assert second["end"] == first["end"]


async def test_usage_beyond_a_plans_history_is_not_shown(world: World) -> None:
    await world.record([an_entry(1, settled_at_ms=NOW_MS - 91 * DAY_MS), an_entry(2, settled_at_ms=NOW_MS - 89 * DAY_MS)])
    query = {"from_": "2026-01-01", "org": "acme"}

    assert (await world.ok("/api/usage", **query))["totals"]["requests"] == 1
    world.organizations["acme"] = replace(ACME, plan=replace(PAY, history_days=None))
    assert (await world.ok("/api/usage", **query))["totals"]["requests"] == 2


async def test_a_day_of_25_hours_is_one_bucket(world: World) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = round(datetime(2025, 10, 26, tzinfo=zone).astimezone(UTC).timestamp()) * 1000
    world.now_ms = start + 5 * DAY_MS
    await world.record([an_entry(number, settled_at_ms=start + number * HOUR_MS) for number in range(26)])

    rows = (await world.ok("/api/usage", from_="2025-10-26", to="2025-10-28", time_zone="Europe/Berlin"))["rows"]
    assert [(row["start"], row["usage"]["requests"]) for row in rows] == [
        ("2025-10-26T00:00:00+02:00", 25),
        ("2025-10-27T00:00:00+01:00", 1),
    ]


async def test_a_day_that_a_zone_skipped_counts_nothing_twice(world: World) -> None:
    """Samoa went from the 29th to the 31st of December 2011 across the date line."""
    world.now_ms = day_start_ms(date(2012, 1, 10), "UTC")
    at_ms = day_start_ms(date(2011, 12, 31), "Pacific/Apia") + HOUR_MS
    await world.record([an_entry(1, org="globex", settled_at_ms=at_ms)])

    body = await world.ok("/api/usage", org="globex", from_="2011-12-28", to="2012-01-02", time_zone="Pacific/Apia")
    assert [(row["start"], row["usage"]["requests"]) for row in body["rows"]] == [("2011-12-31T00:00:00+14:00", 1)]


async def test_instants_take_offsets_and_unescaped_pluses(world: World) -> None:
    body = await world.ok("/api/usage", from_="2026-09-01T00:00:00 02:00", to="2026-09-01T05:30:00Z", time_zone="UTC")

    assert (body["start"], body["end"]) == ("2026-08-31T22:00:00Z", "2026-09-01T05:30:00Z")


async def test_more_organizations_than_one_statement_takes_are_added_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.console.usage_pages.ORGS_AT_ONCE", 1)
    await world.record([an_entry(1, cost_nano_usd=1), an_entry(2, org="globex", cost_nano_usd=2)])

    body = await world.ok("/api/usage", group_by=["capability"])
    assert [row["usage"]["cost_nano_usd"] for row in body["rows"]] == [3]


async def test_short_buckets_of_many_organizations_make_short_pages_that_add_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_pages, "ORG_BUCKETS_MAX", 1)
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * HOUR_MS) for number in range(40)])
    asked = {"bucket": "hour", "group_by": "model", "time_zone": "Asia/Kolkata"}
    end = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    asked |= {"from": datetime.fromtimestamp((NOW_MS - 40 * HOUR_MS) / 1000, UTC).isoformat(), "to": end.isoformat()}

    pages = [await world.ok("/api/usage", **asked)]
    while pages[-1]["next_cursor"]:
        pages.append(await world.ok("/api/usage", **asked, cursor=pages[-1]["next_cursor"]))

    rows = [row for page in pages for row in page["rows"]]
    assert len(pages) == -(-41 // usage_pages.FIRST_SLICE)
    assert sum(row["usage"]["requests"] for row in rows) == pages[0]["totals"]["requests"]
    assert len({row["start"] for row in rows}) == len(rows)


async def test_answers_say_where_history_begins_and_whether_the_range_is_cut(world: World) -> None:
    for path in ("/api/usage", "/api/events"):
        body = await world.ok(path, org="acme", from_="2026-06-02", to="2026-08-01", time_zone="UTC")
        assert (body["history_from"], body["is_whole"], body["as_of"]) == ("2026-06-03T00:00:00Z", False, "2026-09-01T12:00:00Z")
        assert (await world.ok(path, org="acme", from_="2026-06-03", to="2026-08-01", time_zone="UTC"))["is_whole"] is True
        assert (await world.ok(path, org="globex", from_="2020-01-01"))["history_from"] is None
    spend = await world.ok("/api/spend", org="acme", days=92)
    assert (spend["history_from"], spend["is_whole"]) == ("2026-06-02T20:00:00-04:00", False)
    assert (await world.ok("/api/spend", org="acme", days=30))["is_whole"] is True


async def test_exports_say_where_history_begins_in_headers(world: World) -> None:
    world.organizations["acme"] = replace(ACME, plan=replace(ENTERPRISE, history_days=90))
    assert world.session is not None
    for begin, whole in (("2026-06-02", "false"), ("2026-06-03", "true")):
        params = {"org": "acme", "format": "csv", "from": begin, "time_zone": "UTC"}
        async with world.session.get("/api/export", params=params, headers={"Authorization": "Bearer platform"}) as answer:
            assert answer.headers["tallygate-export-history-from"] == "2026-06-03T00:00:00.000Z"
            assert answer.headers["tallygate-export-is-whole"] == whole
