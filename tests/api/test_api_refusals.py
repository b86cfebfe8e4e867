"""GET /api/refusals: why a request was refused."""

from dataclasses import replace
from typing import Any

import pytest
from api_values import DAY_MS, HOUR_MS, MINUTE_MS, NOW_MS, USD, a_refusal
from api_world import World

from tallygate.domain.errors import ErrorCode


async def ids(world: World, **query: Any) -> list[str]:
    return [line["request_id"] for line in (await world.ok("/api/refusals", **query))["refusals"]]


async def test_a_line_says_which_limit_what_was_held_and_when_it_resets(world: World) -> None:
    await world.note_refused([a_refusal(1, client_request_id="mine")])
    [line] = (await world.ok("/api/refusals", org="acme"))["refusals"]

    assert line["time"] == "2026-09-01T07:00:00-04:00", "in the organization's zone"
    assert line["time_ms"] == NOW_MS - HOUR_MS
    assert line["resets_at"] == "2026-09-01T08:00:00-04:00"
    assert (line["refused_by"], line["code"], line["status"], line["more"]) == ("spend_7d", "spend_limit_exceeded", 429, 0)
    assert (line["spent_usd"], line["held_usd"], line["needed_usd"], line["limit_usd"]) == ("24.00", "1.00", "0.000000005", "25.00")
    assert (line["spent_nano_usd"], line["limit_nano_usd"]) == (24 * USD, 25 * USD)
    assert (line["request_id"], line["client_request_id"], line["model"]) == ("request-1", "mine", "gpt-4o")
    assert (line["rate_limit"], line["quantity"], line["waits_for"], line["param"]) == (None, None, None, None)


async def test_a_rate_limit_and_further_refusals(world: World) -> None:
    rate = a_refusal(
        1,
        code="rate_limit_exceeded",
        refused_by="requests_1m",
        quantity="requests",
        rate_limit=60,
        rate_window_ms=MINUTE_MS,
        rate_remaining=0,
        **dict.fromkeys(("spent_nano_usd", "held_nano_usd", "needed_nano_usd", "limit_nano_usd")),
    )
    labels = {name: getattr(rate, name) for name in ("org", "credential", "capability", "status", "code", "refused_by")}
    minute = rate.at_ms - rate.at_ms % MINUTE_MS
    further = type(rate)(id="", at_ms=minute, more=59_990, **labels)
    await world.note_refused([rate, further])
    found = (await world.ok("/api/refusals", refused_by="requests_1m"))["refusals"]

    assert [line["more"] for line in found] in ([0, 59_990], [59_990, 0])
    whole, more = sorted(found, key=lambda line: line["more"])
    assert (whole["quantity"], whole["rate_limit"], whole["rate_window_ms"], whole["rate_remaining"]) == ("requests", 60, 60_000, 0)
    assert whole["spent_usd"] is None
    assert (more["org"], more["code"], more["request_id"], more["message"]) == ("acme", "rate_limit_exceeded", None, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("org", "globex"),
        ("credential", "acme-dev"),
        ("capability", "embeddings"),
        ("model", "o3"),
        ("endpoint", "/v1/embeddings"),
        ("status", 403),
        ("code", "model_not_allowed"),
        ("refused_by", "spend_month"),
        ("request_id", "request-7"),
        ("client_request_id", "mine"),
    ],
)
async def test_each_filter_selects(world: World, name: str, value: Any) -> None:
    changed = {name: value} if name != "org" else {}
    await world.note_refused(
        [a_refusal(1), a_refusal(2, **{**changed, "request_id": "request-7"}, org="globex" if name == "org" else "acme")]
    )

    assert await ids(world, **{name: value}) == ["request-7"]
    assert len(await ids(world)) == 2


async def test_pages_show_each_line_once(world: World) -> None:
    await world.note_refused([a_refusal(number, at_ms=NOW_MS - HOUR_MS + number // 3) for number in range(8)])
    for order in ("desc", "asc"):
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await world.ok("/api/refusals", org="acme", order=order, limit=3, **cursor)
            found += [line["request_id"] for line in page["refusals"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        expected = [f"request-{number}" for number in range(8)]
        assert found == (expected if order == "asc" else expected[::-1])
    assert (await world.get("/api/refusals", org="acme", order="desc", **cursor))[0] == 400, "of another question"


async def test_the_range_and_the_history_bound_it(world: World) -> None:
    await world.note_refused([a_refusal(days, at_ms=NOW_MS - days * DAY_MS) for days in (0, 5, 29)])
    assert await ids(world) == ["request-0", "request-5", "request-29"]
    assert await ids(world, from_="2026-08-20", to="2026-08-30") == ["request-5"]
    acme = world.organizations["acme"]
    world.organizations["acme"] = replace(acme, plan=replace(acme.plan, history_days=7))
    assert await ids(world) == ["request-0", "request-5"]


async def test_a_code_that_does_not_exist_is_a_mistake(world: World) -> None:
    status, body = await world.get("/api/refusals", code="no_such_code")
    assert (status, body["error"]["param"]) == (400, "code")
    assert await ids(world, code=[*ErrorCode]) == []
