"""An organization that left the configuration: its money stays readable for who may see all organizations, and is marked."""

from api_values import NOW_MS, an_entry
from api_world import World


async def former(world: World) -> None:
    await world.record([an_entry(1), an_entry(2, org="former"), an_entry(3, org="former2")])


async def test_its_history_is_there_for_the_platform_and_marked(world: World) -> None:
    await former(world)

    usage = await world.ok("/api/usage", org="former", group_by="credential")
    assert (usage["retired"], usage["totals"]["requests"], usage["history_from"]) == (["former"], 1, None)
    assert [row["group"] for row in usage["rows"]] == [{"credential": "former-prod"}]
    both = await world.ok("/api/usage", org=["acme", "former"], bucket="total")
    assert (both["retired"], both["totals"]["requests"], both["time_zone"]) == (["former"], 2, "UTC")
    assert (await world.ok("/api/usage"))["totals"]["requests"] == 1  # those that are configured
    events = await world.ok("/api/events", org="former", credential="former-prod")
    assert ([event["org"] for event in events["events"]], events["retired"]) == (["former"], ["former"])


async def test_it_has_no_credentials(world: World) -> None:
    await former(world)

    assert (await world.ok("/api/credentials", org="former"))["credentials"] == []
    both = await world.ok("/api/credentials", org=["former", "acme"])
    assert {credential["org"] for credential in both["credentials"]} == {"acme"}


async def test_its_invoice_and_export_are_there(world: World) -> None:
    await former(world)

    status, invoice = await world.call("GET", "/api/invoices/former/2026-09")
    assert status == 200
    assert "former (retired)" in str(invoice)
    status, text = await world.call("GET", "/api/export?org=former&format=csv&from=2026-08-01")
    assert (status, text.count("former-prod")) == (200, 1)


async def test_nobody_else_sees_anything_of_it(world: World) -> None:
    await former(world)
    for token in ("one", "two", "gone"):
        for path in (
            "/api/usage?org=former",
            "/api/credentials?org=former",
            "/api/events?org=former",
            "/api/invoices/former/2026-09",
        ):
            assert (await world.call("GET", path, token=token))[0] == 404
        status, body = await world.get("/api/retired-organizations", token=token)
        assert (status, body["error"]["code"]) == (403, "platform_token_needed")
    status, body = await world.get("/api/usage", org="never-existed")
    assert (status, body["error"]["code"]) == (404, "unknown_organization")


async def test_they_are_listed_in_pages(world: World) -> None:
    await former(world)
    first = await world.ok("/api/retired-organizations", limit=1)
    rest = await world.ok("/api/retired-organizations", limit=1, cursor=first["next_cursor"])
    assert [*first["organizations"], *rest["organizations"]] == [
        {"id": "former", "retired": True},
        {"id": "former2", "retired": True},
    ]
    assert rest["next_cursor"] is None


async def test_it_is_there_in_openais_shape_too(world: World) -> None:
    await former(world)
    start = NOW_MS // 1000 - 86_400
    for path in ("/v1/organization/costs", "/v1/organization/usage/completions"):
        body = await world.ok(path, start_time=start, project_ids="former", group_by="project_id")
        assert [result["project_id"] for bucket in body["data"] for result in bucket["results"]] == ["former"]
        assert (await world.get(path, token="one", start_time=start, project_ids="former"))[0] == 404
    for path in ("/api/refusals", "/api/notices"):
        assert (await world.get(path, org="former"))[0] == 200
