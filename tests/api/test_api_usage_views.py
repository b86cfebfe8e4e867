"""What a page asks of /api/usage beside sums: the first groups and all others, an order, the period before, values for choices."""

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from api_values import ACME, DAY_MS, HOUR_MS, NOW_MS, a_credential, an_entry
from api_world import World

from tallygate.console.api_times import period_before
from tallygate.console.usage_order import ORDERS
from tallygate.ledger.book import RefusalCount
from tallygate.ledger.history import UsageQuery, UsageRow
from tallygate.ledger.time_buckets import Bucket
from tallygate.ledger.usage_queries import UsageQueries

MODELS = ["gpt-5", "gpt-4o", "claude-haiku", "other", "mistral", ""]
AUGUST = {"from_": "2026-08-01", "to": "2026-09-01", "time_zone": "UTC"}


async def of_many_models(world: World, count: int = 60) -> None:
    source = random.Random(3)
    await world.record(
        [
            an_entry(
                number,
                settled_at_ms=NOW_MS - DAY_MS - number * 7 * HOUR_MS,
                response_model=source.choice(MODELS),
                request_model=None,
                prompt_tokens=source.randrange(50, 1_000),
                completion_tokens=source.randrange(1, 90),
                cost_nano_usd=source.randrange(10**6),
                credential=source.choice(["acme-prod", "acme-dev"]),
            )
            for number in range(count)
        ]
    )


async def every_page(world: World, **query):
    rows, cursor, firsts = [], {}, []
    while True:
        page = await world.ok("/api/usage", **query, **cursor)
        rows += page["rows"]
        firsts.append({name: page[name] for name in ("totals", "top", "previous")})
        if page["next_cursor"] is None:
            assert firsts == [firsts[0]] * len(firsts)
            return rows, firsts[0]
        cursor = {"cursor": page["next_cursor"]}


def added_up(usages) -> Counter:
    total: Counter = Counter()
    for usage in usages:
        total.update({name: number for name, number in usage.items() if name != "cost_usd"})
    return total


def amount_of(usage, order_by: str) -> int:
    return usage[{"cost": "cost_nano_usd", "tokens": "total_tokens"}.get(order_by, order_by)]


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_rows_of_a_bucket_are_in_the_order_asked_for(world: World, order_by: str, order: str) -> None:
    await of_many_models(world)
    asked = {**AUGUST, "bucket": "total", "group_by": "model,credential"}

    rows = (await world.ok("/api/usage", **asked, order_by=order_by, order=order))["rows"]

    assert len(rows) > 8
    by_label = (await world.ok("/api/usage", **asked))["rows"]
    sign = -1 if order == "desc" else 1
    assert rows == sorted(by_label, key=lambda row: sign * amount_of(row["usage"], order_by))  # equal ones by their labels


async def test_labels_have_an_order_too(world: World) -> None:
    await of_many_models(world)
    asked = {**AUGUST, "bucket": "total", "group_by": "model"}

    up, down = [(await world.ok("/api/usage", **asked, order_by="group", order=order))["rows"] for order in ("asc", "desc")]

    assert up == down[::-1] == (await world.ok("/api/usage", **asked))["rows"]


@pytest.mark.parametrize(("group_by", "most"), [("model", 2), ("model", 1), ("model,credential", 3), ("credential", 5)])
@pytest.mark.parametrize("bucket", ["total", "day", "month"])
@pytest.mark.parametrize("read_at_once", [10_000, 5])
async def test_the_first_groups_and_all_others_make_the_whole_in_each_bucket(
    world: World, monkeypatch: pytest.MonkeyPatch, group_by: str, most: int, bucket: str, read_at_once: int
) -> None:
    monkeypatch.setattr("tallygate.console.usage_pages.WHOLE_ROWS_MAX", read_at_once)
    await of_many_models(world)
    asked = {**AUGUST, "group_by": group_by}
    ranked = (await world.ok("/api/usage", **asked, bucket="total", order_by="cost"))["rows"]

    rows, page = await every_page(world, **asked, bucket=bucket, top=most, limit=7)

    top, totals = page["top"], page["totals"]
    firsts = [{name: row[name] for name in ("group", "is_other", "usage")} for row in ranked[:most]]
    assert [group for group in top["groups"] if not group["is_other"]] == firsts
    assert top["others"] == max(0, len(ranked) - most)
    others = [group for group in top["groups"] if group["is_other"]]
    assert [group["group"] for group in others] == [dict.fromkeys(group_by.split(","), "other")] * (len(ranked) > most)
    assert added_up(group["usage"] for group in top["groups"]) == added_up([totals])

    for group in top["groups"]:  # over the buckets each of them comes to what it is over the range
        same = [row["usage"] for row in rows if (row["group"], row["is_other"]) == (group["group"], group["is_other"])]
        assert added_up(same) == added_up([group["usage"]])
    whole = (await world.ok("/api/usage", **{**AUGUST, "bucket": bucket}))["rows"]
    for of_bucket in whole:
        in_it = [row for row in rows if row["start"] == of_bucket["start"]]
        assert added_up(row["usage"] for row in in_it) == added_up([of_bucket["usage"]])
        costs = [row["usage"]["cost_nano_usd"] for row in in_it if not row["is_other"]]
        assert costs == sorted(costs, reverse=True)
        assert [row["is_other"] for row in in_it] == sorted(row["is_other"] for row in in_it)  # last, and one at most
        assert sum(row["is_other"] for row in in_it) <= 1


async def test_a_model_that_is_called_other_stays_apart_from_the_others(world: World) -> None:
    await world.record([an_entry(1, response_model="other", cost_nano_usd=9), an_entry(2), an_entry(3, response_model="gpt-5")])

    rows = (await world.ok("/api/usage", group_by="model", top=1, order="asc"))["rows"]

    assert [(row["group"], row["is_other"], row["usage"]["requests"]) for row in rows] == [
        ({"model": "other"}, False, 1),
        ({"model": "other"}, True, 2),
    ]


async def test_what_adds_up_to_nothing_is_no_group(world: World) -> None:
    """However it is read: by sums of the range, or by buckets that cancel each other out."""
    amounts = {"requests": 1, "cost_nano_usd": 500_000, "posted_nano_usd": 500_000}
    nothing = dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"), 0)
    back = {name: -amount for name, amount in amounts.items()}
    await world.record(
        [
            an_entry(1, response_model="gone", **amounts, **nothing),
            an_entry(2, response_model="gone", settled_at_ms=NOW_MS - 3 * DAY_MS, **back, **nothing),
            an_entry(3),
        ]
    )
    top = (await world.ok("/api/usage", group_by="model", bucket="day", top=5))["top"]
    assert [group["group"] for group in top["groups"]] == [{"model": "gpt-4o"}]


async def test_sums_and_rows_are_read_once_where_they_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await of_many_models(world)
    questions = []

    async def counted(queries: UsageQueries, query: UsageQuery) -> list[UsageRow]:
        questions.append((query.bucket, query.from_ms))
        return await usage(queries, query)

    usage = UsageQueries.usage
    monkeypatch.setattr(UsageQueries, "usage", counted)
    for more in ({}, {"group_by": "model", "top": 2}):
        questions.clear()
        await world.ok("/api/usage", **AUGUST, **more)
        assert [bucket for bucket, _ in questions] == [Bucket.DAY] * 2  # two slices
        assert len(set(questions)) == 2


async def test_the_first_of_nothing_needs_groups(world: World) -> None:
    status, body = await world.get("/api/usage", top=3)

    assert (status, body["error"]["param"]) == (400, "top")


async def test_more_groups_than_a_bucket_may_have_can_be_asked_for_their_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.console.usage_pages.BUCKET_ROWS_MAX", 3)
    await of_many_models(world)
    asked = {**AUGUST, "group_by": "model", "bucket": "total"}

    assert (await world.get("/api/usage", **asked))[1]["error"]["code"] == "answer_too_large"
    assert len((await world.ok("/api/usage", **asked, top=2))["rows"]) == 3


@pytest.mark.parametrize(
    ("zone", "billing_day", "start", "end", "before"),
    [
        ("UTC", 1, "2026-08-08T00:00", "2026-08-15T00:00", "2026-08-01T00:00"),
        ("UTC", 1, "2026-08-01T00:00", "2026-09-01T00:00", "2026-07-01T00:00"),
        ("UTC", 1, "2026-03-01T00:00", "2026-04-01T00:00", "2026-02-01T00:00"),
        ("UTC", 1, "2026-01-01T00:00", "2026-04-01T00:00", "2025-10-01T00:00"),
        ("UTC", 31, "2026-02-28T00:00", "2026-03-31T00:00", "2026-01-31T00:00"),
        ("UTC", 15, "2026-08-01T00:00", "2026-09-01T00:00", "2026-07-01T00:00"),  # 31 days: no months of this organization
        ("America/New_York", 1, "2026-03-05T00:00", "2026-03-12T00:00", "2026-02-26T00:00"),  # the 8th has 23 hours
        ("America/New_York", 1, "2026-03-09T00:00", "2026-03-10T00:00", "2026-03-08T00:00"),
        ("America/New_York", 1, "2026-11-02T00:00", "2026-11-03T00:00", "2026-11-01T00:00"),
        ("America/New_York", 1, "2026-11-01T12:00", "2026-11-03T12:00", "2026-10-30T12:00"),
        (
            "America/New_York",
            1,
            "2026-11-01T05:30:00+00:00",
            "2026-11-01T06:30:00+00:00",
            "2026-11-01T04:30:00+00:00",
        ),  # 1:30 twice
        ("Asia/Kolkata", 1, "2026-08-10T00:00", "2026-08-10T15:30", "2026-08-09T08:30"),
        ("Europe/Berlin", 1, "2026-03-29T01:00", "2026-03-29T04:00", "2026-03-28T23:00"),  # two hours, since one is skipped
    ],
)
def test_the_period_before_is_as_long_by_the_calendar(zone: str, billing_day: int, start: str, end: str, before: str) -> None:
    begin, stop, expected = (
        round((at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).timestamp()) * 1000
        for at in map(datetime.fromisoformat, (start, end, before))
    )

    assert period_before(begin, stop, zone, billing_day) == expected


async def test_the_period_before_is_shown_beside_the_totals(world: World) -> None:
    await of_many_models(world)
    asked = {"org": "acme", "group_by": "model", "credential": "acme-prod", "order_by": "cost"}
    july = await world.ok("/api/usage", **asked, from_="2026-08-15", to="2026-08-22")

    body = await world.ok("/api/usage", **asked, from_="2026-08-22", to="2026-08-29", compare="previous", top=1)

    assert july["totals"]["requests"] > 0
    assert body["previous"] == {
        "start": "2026-08-15T00:00:00-04:00",
        "end": "2026-08-22T00:00:00-04:00",
        "is_whole": True,
        "totals": july["totals"],
    }
    assert july["previous"] is july["top"] is None


async def test_a_period_before_that_history_cuts_is_not_called_whole(world: World) -> None:
    world.organizations["acme"] = replace(ACME, plan=replace(ACME.plan, history_days=10))

    body = await world.ok("/api/usage", org="acme", from_="2026-08-25", to="2026-09-01", compare="previous")

    assert body["previous"]["is_whole"] is False


async def test_refusals_are_found_by_what_refused_them(world: World) -> None:
    refusal = RefusalCount(org="acme", credential="acme-prod", capability="chat", refused_by="spend_7d", status=429, requests=7)
    await world.record([an_entry(1)])
    await world.refuse(refusal, NOW_MS - HOUR_MS)
    await world.refuse(replace(refusal, refused_by="tokens_1m", requests=2), NOW_MS - 2 * HOUR_MS)

    for names, count in ((["spend_7d"], 7), (["tokens_1m", "spend_7d"], 9), (["never"], 0)):
        totals = (await world.ok("/api/usage", refused_by=names))["totals"]
        assert (totals["requests"], totals["refused"]) == (0, count)


async def test_values_are_those_of_the_range_and_the_filters(world: World) -> None:
    refusal = RefusalCount(org="acme", credential="acme-dev", capability="search", refused_by="spend_7d", status=429, requests=7)
    world.organizations["acme"] = replace(ACME, credentials=(a_credential("acme-prod", name="Shop"), a_credential("acme-dev")))
    await world.record(
        [
            an_entry(1),
            an_entry(2, response_model="gpt-5", status=502, outcome="upstream_error", credential="acme-left"),
            an_entry(3, settled_at_ms=NOW_MS - 40 * DAY_MS, response_model="of-long-ago", endpoint="/v1/old"),
            an_entry(4, org="globex"),
        ]
    )
    await world.refuse(refusal, NOW_MS - 2 * HOUR_MS)

    body = await world.ok("/api/usage/values")

    assert {name: body[name] for name in body if name not in {"start", "end", "time_zone"}} == {
        "credential": [
            {"credential": "acme-dev", "org": "acme", "name": ""},
            {"credential": "acme-left", "org": "acme", "name": None},
            {"credential": "acme-prod", "org": "acme", "name": "Shop"},
            {"credential": "globex-prod", "org": "globex", "name": ""},
        ],
        "capability": ["chat", "search"],
        "model": ["gpt-4o", "gpt-5"],
        "endpoint": ["/v1/chat/completions"],
        "status": [200, 429, 502],
        "outcome": ["refused", "success", "upstream_error"],
        "refused_by": ["spend_7d"],
        "cut": [],
    }
    some = await world.ok("/api/usage/values", credential="acme-left", from_="2026-08-31")
    assert (some["model"], some["status"], some["refused_by"]) == (["gpt-5"], [502], [])
    older = await world.ok("/api/usage/values", org="acme", from_="2026-07-01", to="2026-08-01")
    assert (older["model"], older["endpoint"]) == (["of-long-ago"], ["/v1/old"])


async def test_values_beyond_the_bound_are_left_out_and_named(world: World) -> None:
    await of_many_models(world)

    body = await world.ok("/api/usage/values", limit=2)

    assert body["model"] == ["claude-haiku", "gpt-4o"]
    assert body["cut"] == ["model"]
