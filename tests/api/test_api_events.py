"""GET /api/events: entries page by page, and /api/credentials and /api/capabilities."""

from dataclasses import replace

import pytest
from api_values import ACME, DAY_MS, NOW_MS, a_credential, an_entry
from api_world import World

from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.entry import Kind


async def all_of(world: World, path: str, name: str, **query):
    found, cursor = [], {}
    while True:
        page = await world.ok(path, **query, **cursor)
        found += page[name]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 4, 1000])
async def test_every_event_is_on_one_page(world: World, order: str, limit: int) -> None:
    at = [NOW_MS - 1 - number // 3 * 1000 for number in range(20)]
    await world.record([an_entry(number, settled_at_ms=at[number], org=("acme", "globex")[number % 2]) for number in range(20)])

    events = await all_of(world, "/api/events", "events", order=order, limit=limit)

    assert len({event["event_id"] for event in events}) == 20
    times = [event["settled_at_ms"] for event in events]
    assert times == sorted(times, reverse=order == "desc")


async def test_events_that_come_while_paging_do_not_move_the_pages(world: World) -> None:
    await world.record([an_entry(number, settled_at_ms=NOW_MS - number * 1000) for number in range(1, 5)])
    first = await world.ok("/api/events", limit=2)
    world.now_ms += 5000
    await world.record([an_entry(99, settled_at_ms=NOW_MS + 1000)])

    second = await world.ok("/api/events", limit=2, cursor=first["next_cursor"])
    times = [event["settled_at_ms"] for event in first["events"] + second["events"]]
    assert times == [NOW_MS - number * 1000 for number in range(1, 5)]


async def test_an_event_tells_everything_but_secrets(world: World) -> None:
    await world.record([an_entry(1, flags="unpriced,late", client_request_id="abc")])

    (event,) = (await world.ok("/api/events", org="acme"))["events"]
    assert event["settled_at"] == "2026-09-01T07:00:00-04:00"
    assert (event["kind"], event["cost_usd"], event["cost_nano_usd"]) == (Kind.SETTLED, "0.0005", 500_000)
    assert (event["flags"], event["model"], event["total_tokens"]) == (["unpriced", "late"], "gpt-4o", 120)


async def test_events_filter_by_every_dimension(world: World) -> None:
    await world.record([an_entry(1), an_entry(2, status=502, outcome="upstream_error", capability="search", endpoint="/s")])

    for query in ({"status": 502}, {"outcome": "upstream_error"}, {"capability": "search"}, {"endpoint": "/s"}):
        assert len((await world.ok("/api/events", **query))["events"]) == 1, query
    assert len((await world.ok("/api/events", model="gpt-4o", credential="acme-prod"))["events"]) == 2


async def test_events_are_found_by_their_ids_however_old(world: World) -> None:
    old = an_entry(1, settled_at_ms=NOW_MS - 60 * DAY_MS, client_request_id="mine", response_model="o3")
    await world.record(
        [old, an_entry(2, client_request_id="mine"), an_entry(3), an_entry(4, org="globex", client_request_id="mine")]
    )

    async def found(**query) -> list[str]:
        return [event["event_id"] for event in (await world.ok("/api/events", **query))["events"]]

    newer, plain, foreign = (an_entry(2).event_id, an_entry(3).event_id, an_entry(4, org="globex").event_id)
    assert await found(event_id=old.event_id) == await found(request_id=old.event_id) == [old.event_id]
    assert set(await found(event_id=[old.event_id, plain, foreign])) == {old.event_id, plain, foreign}
    assert await found(event_id=[old.event_id, plain], request_id=plain) == [plain]
    assert set(await found(client_request_id="mine")) == {old.event_id, newer, foreign}
    assert await found(client_request_id="mine", org="acme", order="asc") == [old.event_id, newer]
    assert await found(client_request_id=["mine", "never sent"], model="o3") == [old.event_id]
    assert await found(client_request_id="mine", event_id=[newer, plain]) == [newer]
    assert await found(event_id=old.event_id, from_="2026-08-25") == []
    assert await found(event_id="never was") == await found(event_id=foreign, token="one") == []


@pytest.mark.parametrize("name", ["event_id", "client_request_id"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_events_with_ids_show_each_once(world: World, name: str, order: str) -> None:
    entries = [an_entry(number, settled_at_ms=NOW_MS - DAY_MS + number // 3, client_request_id="same") for number in range(7)]
    await world.record([*entries, an_entry(99)])
    wanted = "same" if name == "client_request_id" else [entry.event_id for entry in entries]
    found, cursor = [], None
    while cursor is not None or not found:
        page = await world.ok("/api/events", order=order, limit=3, **{name: wanted}, **({"cursor": cursor} if cursor else {}))
        found += [event["event_id"] for event in page["events"]]
        cursor = page["next_cursor"]

    expected = [entry.event_id for entry in entries]
    assert found == (expected if order == "asc" else expected[::-1])


async def test_events_beyond_a_plans_history_are_not_shown(world: World) -> None:
    await world.record(
        [an_entry(1, settled_at_ms=NOW_MS - 91 * DAY_MS), an_entry(2, org="globex", settled_at_ms=NOW_MS - 91 * DAY_MS)]
    )

    events = (await world.ok("/api/events", from_="2026-01-01"))["events"]
    assert [event["org"] for event in events] == ["globex"]


async def test_a_removed_credential_can_still_be_asked_about(world: World) -> None:
    await world.record([an_entry(1, credential="acme-removed")])

    assert len((await world.ok("/api/events", credential="acme-removed"))["events"]) == 1
    status, _ = await world.get("/api/events", credential="acme-removed", token="platform", org="globex")
    assert status == 404


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_all_credentials_are_listed_without_their_keys(world: World, limit: int) -> None:
    world.organizations["acme"] = replace(ACME, credentials=(*ACME.credentials, a_credential("acme-old", expires_at_ms=NOW_MS)))

    found = await all_of(world, "/api/credentials", "credentials", limit=limit)

    assert [item["id"] for item in found] == [
        "acme-dev",
        "acme-old",
        "acme-prod",
        "globex-dev",
        "globex-prod",
        "initech-dev",
        "initech-prod",
    ]
    assert found[1]["expires_at"] == "2026-09-01T12:00:00Z"
    assert not any("sha" in name for item in found for name in item)


async def test_a_credential_is_listed_with_its_own_limits(world: World) -> None:
    bucket = RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=9, refill_units=6, window_ms=60_000)
    slots = RateLimit(name="open_requests", quantity=Quantity.OPEN_REQUESTS, capacity=4, refill_units=0, window_ms=0, shadow=True)
    month = SpendLimit(name="spend_month:own", limit_nano_usd=5 * 10**8, window_ms=0, scope=LimitScope.CREDENTIAL)
    limited = replace(a_credential("acme-limited"), rate_limits=(bucket, slots), spend_limits=(month,), enabled=False)
    world.organizations["acme"] = replace(ACME, credentials=(limited,))

    (found, *_) = (await world.ok("/api/credentials", org="acme"))["credentials"]

    assert found["is_enabled"] is False
    assert found["rate_limits"] == [
        {
            "name": "requests_per_1m",
            "quantity": "requests",
            "scope": "organization",
            "capability": None,
            "capacity": 9,
            "refill_units": 6,
            "window_seconds": 60.0,
            "is_shadow": False,
        },
        {
            "name": "open_requests",
            "quantity": "open_requests",
            "scope": "organization",
            "capability": None,
            "capacity": 4,
            "refill_units": None,
            "window_seconds": None,
            "is_shadow": True,
        },
    ]
    assert found["spend_limits"] == [
        {
            "name": "spend_month:own",
            "kind": "calendar_month",
            "scope": "credential",
            "limit": {"nano_usd": 500_000_000, "usd": "0.50"},
            "window_seconds": None,
            "warn_at": [0.5, 0.8, 0.95, 1.0],
            "is_shadow": False,
        }
    ]


async def test_capabilities_tell_their_endpoints(world: World) -> None:
    found = (await world.ok("/api/capabilities", token="one"))["capabilities"]
    assert [item["name"] for item in found] == ["chat", "embeddings", "models"]
    assert found[2]["endpoints"] == [{"method": "GET", "path": "/v1/models", "is_metered": False}]
