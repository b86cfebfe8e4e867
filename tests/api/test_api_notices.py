"""GET /api/notices: what people see of spend warnings, pauses, resumes and digests."""

import json
from dataclasses import replace
from typing import Any

import pytest
from api_values import DAY_MS, NOW_MS
from api_world import World
from notice_values import PAUSED, RESUMED, a_digest, a_notice

from tallygate.ledger.database import Database
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.ledger.notices.notice import WORD_CHARS_MAX
from tallygate.ledger.notices.record import record_notices
from tallygate.webhooks.message import message_of


def at(seconds_ago: int, **changed: Any) -> Any:
    return a_notice(0, at_ms=NOW_MS - seconds_ago * 1000, **changed)


async def test_a_notice_tells_money_exactly_and_when_access_resumes(world: World) -> None:
    await world.notify([at(60), at(50, **{**PAUSED, "resumes_at_ms": NOW_MS + 90_000})])

    paused, warning = (await world.ok("/api/notices", org="acme"))["notices"]

    assert warning == {
        "event_id": at(60).event_id,
        "type": "spend.warning",
        "at": "2026-09-01T07:59:00-04:00",
        "at_ms": NOW_MS - 60_000,
        "org": "acme",
        "limit": "org:spend_7d",
        "threshold_permille": 800,
        "spent_nano_usd": 80_000_000_001,
        "spent_usd": "80.000000001",
        "held_nano_usd": 250_000_000,
        "held_usd": "0.25",
        "limit_nano_usd": 100_000_000_000,
        "limit_usd": "100.00",
        "refused_nano_usd": None,
        "resumes_at": None,
        "digest": None,
        "deliveries": [],
    }
    assert (paused["type"], paused["refused_nano_usd"], paused["resumes_at"]) == (
        "spend.paused",
        900_000_000,
        "2026-09-01T08:01:30-04:00",
    )


async def test_a_notice_comes_with_the_state_of_its_deliveries(world: World, database: Database) -> None:
    world.now_ms = NOW_MS - 1_000
    await world.notify([at(60)], "billing", "ops", "pager")
    deliveries = Deliveries(database)

    async def claimed(endpoint: str) -> Any:
        return await deliveries.claim(endpoint, now_ms=NOW_MS, lease_ms=1)

    await deliveries.delivered(await claimed("billing"), status=204, now_ms=NOW_MS)
    await deliveries.failed(await claimed("ops"), status=500, error="status 500", next_at_ms=NOW_MS + 5_000, now_ms=NOW_MS)
    await deliveries.failed(await claimed("pager"), status=None, error="no answer", next_at_ms=None, now_ms=NOW_MS)
    world.now_ms = NOW_MS

    (notice,) = (await world.ok("/api/notices", time_zone="UTC"))["notices"]

    nothing = {"last_status": None, "next_attempt_at": None, "delivered_at": None, "attempts": 1}
    assert notice["deliveries"] == [
        {**nothing, "endpoint": "billing", "state": "delivered", "last_status": 204, "delivered_at": "2026-09-01T12:00:00Z"},
        {**nothing, "endpoint": "ops", "state": "waiting", "last_status": 500, "next_attempt_at": "2026-09-01T12:00:05Z"},
        {**nothing, "endpoint": "pager", "state": "given_up"},
    ]


async def test_a_digest_is_shown_as_its_receivers_get_it(world: World, database: Database) -> None:
    digest = a_digest(NOW_MS)
    async with database.write() as connection:
        await connection.run_sync(record_notices, database, [digest], lambda _notice: ("ops",), now_ms=NOW_MS)
    (line,) = (await world.ok("/api/notices", type="usage.digest"))["notices"]
    sent = json.loads(message_of(digest).body)

    assert line["digest"] == sent["data"]
    assert (line["type"], line["spent_usd"], line["limit"], line["held_usd"]) == ("usage.digest", "42.50", None, None)
    assert [delivery["endpoint"] for delivery in line["deliveries"]] == ["ops"]
    assert (await world.ok("/api/notices", type="spend.paused"))["notices"] == []


async def test_a_page_goes_on_after_the_longest_id(world: World) -> None:
    newest_first = [at(number) for number in range(2)]
    newest_first = [replace(notice, event_id=notice.event_id.ljust(WORD_CHARS_MAX, "x")) for notice in newest_first]
    await world.notify(newest_first)

    first = await world.ok("/api/notices", limit=1)
    second = await world.ok("/api/notices", limit=1, cursor=first["next_cursor"])

    assert [page["notices"][0]["event_id"] for page in (first, second)] == [notice.event_id for notice in newest_first]


async def test_pages_hold_each_notice_once_newest_first(world: World) -> None:
    notices = [at(number // 3, limit=f"org:w{number}") for number in range(10)]
    await world.notify(notices)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await world.ok("/api/notices", limit=3, **cursor)
        found += [notice["event_id"] for notice in page["notices"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    expected = sorted(notices, key=lambda notice: (notice.at_ms, notice.event_id), reverse=True)
    assert found == [notice.event_id for notice in expected]


async def test_notices_are_chosen_by_type_and_time(world: World) -> None:
    await world.notify([at(60), at(50, **PAUSED), at(40, **RESUMED), at(40 * 86_400)])

    async def types(**asked: Any) -> list[str]:
        return [notice["type"] for notice in (await world.ok("/api/notices", **asked))["notices"]]

    assert await types() == ["spend.resumed", "spend.paused", "spend.warning"]
    assert await types(type=["spend.paused", "spend.warning"]) == ["spend.paused", "spend.warning"]
    assert await types(from_="2026-09-01T11:59:05Z", to="2026-09-01T11:59:20Z") == ["spend.paused"]
    assert await types(from_="2026-07-01", to="2026-08-01") == ["spend.warning"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"type": "spend.nonsense"}, "type"),
        ({"limit": 1001}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"from_": "2026-09-01", "to": "2026-08-01"}, "to"),
        ({"org": "never-existed"}, "org"),
        ({"state": "waiting"}, "state"),
    ],
)
async def test_wrong_questions_name_the_parameter(world: World, asked: dict[str, Any], param: str) -> None:
    status, body = await world.get("/api/notices", **asked)
    assert (status // 100, body["error"]["param"]) == (4, param)


async def test_a_cursor_that_was_made_up_is_refused(world: World) -> None:
    from tallygate.console.api_cursor import question_of, seal
    from tallygate.console.api_notices import NOTICES_DEFAULT

    values = {"from": None, "to": None, "time_zone": None, "org": (), "type": (), "limit": NOTICES_DEFAULT}
    question = question_of("/api/notices", values)
    good = f"{NOW_MS - DAY_MS} {NOW_MS} {NOW_MS - 1_000} an-id"
    assert (await world.get("/api/notices", cursor=seal(good, question)))[0] == 200
    for position in ("", "1 2", f"{NOW_MS} {NOW_MS} {NOW_MS} x", good + " more", f"{NOW_MS - DAY_MS} {NOW_MS} {2**70} x"):
        status, body = await world.get("/api/notices", cursor=seal(position, question))
        assert (status, body["error"]["param"]) == (400, "cursor"), position
