"""Wrong use is a 4xx that names the field, and never anything else."""

import re

import pytest
from api_values import NOW_MS, an_entry
from api_world import World

from tallygate.console.api_times import RANGE_DAYS_MAX
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.usage_queries import UsageQueries

OPENAI = "/v1/organization/usage/completions"
COSTS = "/v1/organization/costs"
WRONG = [
    ("/api/usage", {"nonsense": "1"}, "nonsense"),
    ("/api/usage", {"from_": "yesterday"}, "from"),
    ("/api/usage", {"from_": "2026-02-30"}, "from"),
    ("/api/usage", {"from_": "2026-09-01T25:00:00Z"}, "from"),
    ("/api/usage", {"from_": "2026-09-01T00:00:00"}, "from"),
    ("/api/usage", {"from_": "0001-01-01"}, "from"),
    ("/api/usage", {"to": "9999-12-31"}, "to"),
    ("/api/usage", {"to": "0001-01-01T00:00:00+14:00"}, "to"),
    ("/api/usage", {"from_": "2026-09-02", "to": "2026-09-01"}, "to"),
    ("/api/usage", {"from_": "2026-09-01", "to": "2026-09-01"}, "to"),
    ("/api/usage", {"from_": "2000-01-01", "to": "2026-09-01"}, "to"),
    ("/api/usage", {"from_": "2025-01-01", "to": "2026-01-01", "bucket": "15m"}, "bucket"),
    ("/api/usage", {"bucket": "minute"}, "bucket"),
    ("/api/usage", {"bucket": ["day", "day"]}, "bucket"),
    ("/api/usage", {"time_zone": "Mars/Olympus"}, "time_zone"),
    ("/api/usage", {"time_zone": "localtime"}, "time_zone"),
    ("/api/usage", {"time_zone": "../../etc/passwd"}, "time_zone"),
    ("/api/usage", {"time_zone": "America"}, "time_zone"),
    ("/api/usage", {"time_zone": "Z" * 5000}, "time_zone"),
    ("/api/usage", {"time_zone": ""}, "time_zone"),
    ("/api/usage", {"group_by": "colour"}, "group_by"),
    ("/api/usage", {"group_by": "org,colour"}, "group_by"),
    ("/api/usage", {"group_by": "org,"}, "group_by"),
    ("/api/usage", {"group_by": "org,model,org"}, "group_by"),
    ("/api/usage", {"group_by": ["org", "org"]}, "group_by"),
    ("/api/usage", {"group_by": "org", "group_by[]": "model,org"}, "group_by"),
    ("/api/usage", {"limit": "0"}, "limit"),
    ("/api/usage", {"limit": "2001"}, "limit"),
    ("/api/usage", {"limit": "1_0"}, "limit"),
    ("/api/usage", {"limit": "\u0663"}, "limit"),
    ("/api/usage", {"limit": "9" * 400}, "limit"),
    ("/api/usage", {"status": "ok"}, "status"),
    ("/api/usage", {"status": "99999999999999999999"}, "status"),
    ("/api/usage", {"model": ""}, "model"),
    ("/api/usage", {"model": "a\0b"}, "model"),
    ("/api/usage", {"model": "m" * 257}, "model"),
    ("/api/usage", {"model": [str(number) for number in range(101)]}, "model"),
    ("/api/usage", {"cursor": "abc"}, "cursor"),
    ("/api/usage", {"cursor": "\u00e9"}, "cursor"),
    ("/api/events", {"cursor": "AAAA" * 20}, "cursor"),
    ("/api/events", {"limit": "1001"}, "limit"),
    ("/api/events", {"order": "random"}, "order"),
    ("/api/events", {"from_": "2000-01-01"}, "to"),
    ("/api/spend", {}, "org"),
    ("/api/spend", {"org": "acme", "days": "93"}, "days"),
    ("/api/spend", {"org": ["acme", "globex"]}, "org"),
    ("/api/credentials", {"limit": "-1"}, "limit"),
    ("/api/capabilities", {"org": "acme"}, "org"),
    ("/api/openapi.json", {"x": "1"}, "x"),
    (OPENAI, {}, "start_time"),
    (OPENAI, {"start_time": "soon"}, "start_time"),
    (OPENAI, {"start_time": "-5"}, "start_time"),
    (OPENAI, {"start_time": NOW_MS // 1000 + 1}, "start_time"),
    (OPENAI, {"start_time": 1_700_000_000, "end_time": 1_700_000_000}, "end_time"),
    (OPENAI, {"start_time": 1_700_000_000, "end_time": 99_999_999_999}, "end_time"),
    (OPENAI, {"start_time": 1_700_000_000, "bucket_width": "1w"}, "bucket_width"),
    (OPENAI, {"start_time": 1_700_000_000, "bucket_width": "1h", "limit": 169}, "limit"),
    (OPENAI, {"start_time": 1_700_000_000, "page": "page_"}, "page"),
    (OPENAI, {"start_time": 1_700_000_000, "page": "3"}, "page"),
    (OPENAI, {"start_time": 1_700_000_000, "batch": "maybe"}, "batch"),
    (OPENAI, {"start_time": 1_700_000_000, "group_by": "line_item"}, "group_by"),
    (COSTS, {"start_time": 1_700_000_000, "bucket_width": "1h"}, "bucket_width"),
    (COSTS, {"start_time": 1_700_000_000, "limit": "181"}, "limit"),
    (COSTS, {"start_time": 1_700_000_000, "models": "gpt-4o"}, "models"),
]
UNKNOWN = [
    ("/api/usage", {"org": "nobody"}, "org"),
    ("/api/usage", {"credential": "nobody"}, "credential"),
    ("/api/usage", {"capability": "telepathy"}, "capability"),
    ("/api/events", {"org": "nobody"}, "org"),
    ("/api/events", {"credential": "nobody"}, "credential"),
    ("/api/events", {"capability": "telepathy"}, "capability"),
    ("/api/spend", {"org": "nobody"}, "org"),
    ("/api/spend", {"org": "acme", "credential": "globex-prod"}, "credential"),
    ("/api/credentials", {"org": "nobody"}, "org"),
    (OPENAI, {"start_time": 1_700_000_000, "project_ids": "nobody"}, "project_ids"),
    (OPENAI, {"start_time": 1_700_000_000, "api_key_ids": "nobody"}, "api_key_ids"),
    (COSTS, {"start_time": 1_700_000_000, "project_ids": ["acme", "nobody"]}, "project_ids"),
    (COSTS, {"start_time": 1_700_000_000, "api_key_ids": "nobody"}, "api_key_ids"),
]


@pytest.mark.parametrize(("path", "query", "param"), WRONG)
async def test_a_wrong_parameter_is_named(world: World, path: str, query: dict, param: str) -> None:
    status, body = await world.get(path, **query)

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_parameter", param)
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(param)


@pytest.mark.parametrize("path", ["/api/usage", "/api/events", "/api/notices"])
async def test_a_range_that_is_empty_in_the_organizations_zone_says_so(world: World, path: str) -> None:
    """Where it is tomorrow already in UTC, it is still today in New York."""
    world.now_ms = 1_788_310_800_000  # 2026-09-02T01:00:00Z
    status, body = await world.get(path, org="acme", **{"from": "2026-09-02"})

    assert (status, body["error"]["param"]) == (400, "to")
    assert "2026-09-01T21:00:00" in body["error"]["message"]
    assert "is not after 2026-09-02T00:00:00-04:00" in body["error"]["message"]
    assert "Dates are days of America/New_York" in body["error"]["message"]


@pytest.mark.parametrize(("path", "query", "param"), UNKNOWN)
async def test_an_unknown_id_is_named(world: World, path: str, query: dict, param: str) -> None:
    status, body = await world.get(path, **query)

    assert (status, body["error"]["param"], body["error"]["type"]) == (404, param, "not_found_error")


async def test_ten_years_are_the_most(world: World) -> None:
    assert RANGE_DAYS_MAX == 3660
    assert (await world.get("/api/usage", from_="2016-09-01", to="2026-09-01"))[0] == 200


@pytest.mark.parametrize("path", ["/api/usage", "/api/events"])
async def test_a_cursor_belongs_to_its_question(world: World, path: str) -> None:
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * 86_400_000) for number in range(1, 4)])
    cursor = (await world.ok(path, limit=1))["next_cursor"]

    assert (await world.get(path, cursor=cursor, limit=2))[0] == 200
    for query in ({"org": "acme"}, {"model": "gpt-4o"}, {"time_zone": "Asia/Tokyo"}):
        status, body = await world.get(path, cursor=cursor, **query)
        assert (status, body["error"]["param"]) == (400, "cursor"), query
    status, _ = await world.get("/api/events" if path == "/api/usage" else "/api/usage", cursor=cursor)
    assert status == 400


@pytest.mark.parametrize(
    "position", ["", "1", "1 2", "a b c", "1 2 3", f"{10**40} {10**40} {10**41}", "0 0 0", "900001 900000 1800000"]
)
@pytest.mark.parametrize("path", ["/api/usage", "/api/events"])
async def test_a_forged_cursor_is_refused(world: World, path: str, position: str) -> None:
    """Its digest is no secret: what a forger writes into it must be as harmless as any parameter."""
    from multidict import MultiDict

    from tallygate.console.api_cursor import question_of, seal
    from tallygate.console.api_parameters import Place
    from tallygate.console.api_routes import read_parameters

    route = next(route for route in world.routes if route.path == path)
    question = question_of(path, read_parameters(route.parameters, {Place.QUERY: MultiDict(), Place.PATH: {}}))

    status, body = await world.get(path, cursor=seal(position, question))
    assert (status, body["error"]["param"]) == (400, "cursor") or (status, position) == (400, "1 2 3"), body


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic platform", "platform", "Bearer \u00e9", "Bearer " + "x" * 600]
)
async def test_every_endpoint_asks_for_a_token(world: World, authorization: str) -> None:
    for route in world.routes:
        headers = {"Authorization": authorization} if authorization else {}
        path = re.sub(r"{\w+}", "any", route.path)
        async with world.session.request(route.method, path, headers=headers) as answer:
            if route.is_public:
                assert answer.status == 200
                continue
            if route.admits and route.method != "GET":  # a page of the console signs in and out, without a token: test_sessions.py
                assert answer.status == 403
                continue
            assert answer.status == 401, route.path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.json())["error"]["code"] == "invalid_admin_token"


@pytest.mark.parametrize("error", [StoreError("away"), LimiterWipedError("lost")])
async def test_spend_is_not_shown_while_the_limiter_does_not_know_it(world: World, error: Exception) -> None:
    world.windows.error = error
    status, body = await world.get("/api/spend", org="acme")

    assert (status, body["error"]["code"]) == (503, "limiter_unavailable")


async def test_a_ledger_that_is_away_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_):
        raise LedgerUnavailableError("locked")

    monkeypatch.setattr(UsageQueries, "usage", fail)
    status, body = await world.get("/api/usage")
    assert (status, body["error"]["code"]) == (503, "ledger_unavailable")


async def test_too_many_groups_are_refused_and_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.console.usage_pages.BUCKET_ROWS_MAX", 2)
    await world.record([an_entry(number, response_model=f"m{number}") for number in range(3)])

    status, body = await world.get("/api/usage", group_by="model")
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "answer_too_large", "group_by")
