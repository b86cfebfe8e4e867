"""Each SDK sends its key in its own header: keys that tallygate issued end at the gateway, brought ones go up as they came."""

from pathlib import Path
from typing import Any

import anthropic
import pytest
from gateway_harness import ACME_KEY, OWN_KEY
from sdk_sides import FLAVORS, Call, World, running_world, user

CALLS = {
    "openai": Call(
        sdk="openai",
        method="chat.completions.create",
        arguments={"model": "gpt-4o-mini", "max_tokens": 9, "messages": user("tokens=5")},
    ),
    "gloo": Call(
        sdk="gloo",
        method="chat.completions.create",
        arguments={"model": "gloo-openai-gpt-5.2", "max_tokens": 9, "messages": user("tokens=5")},
    ),
    "openai's list": Call(sdk="openai", method="models.list", arguments={}),
    "anthropic": Call(
        sdk="anthropic",
        method="messages.create",
        arguments={"model": "claude-haiku-4-5", "max_tokens": 9, "messages": user("tokens=5")},
    ),
    "gemini": Call(
        sdk="gemini", method="models.generate_content", arguments={"model": "gemini-2.5-flash", "contents": "[[sim tokens=5]] Hi"}
    ),
}
HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}


@pytest.mark.parametrize("flavor", [*FLAVORS, "aiohttp"])
@pytest.mark.parametrize("name", CALLS)
async def test_an_issued_key_ends_at_the_gateway(world: World, name: str, flavor: str) -> None:
    call = CALLS[name]
    await world.through.ask(call, flavor)

    (served,) = world.harness.ledger.records
    assert (served.has_gateway_key, served.credential_headers) == (False, ())
    (event,) = await world.counted()
    assert (event["org"], event["credential"]) == ("acme", "acme-prod")


@pytest.mark.parametrize("name", CALLS)
async def test_a_brought_key_goes_up_in_the_header_it_came_in(tmp_path: Path, name: str) -> None:
    call = CALLS[name]
    async with running_world(tmp_path, key=OWN_KEY) as world:
        await world.through.ask(call)
        await world.direct.ask(call)

        (served,), (direct,) = world.harness.ledger.records, world.direct_ledger.records
        assert len(served.credential_headers) == 1
        assert served.credential_headers == direct.credential_headers
        await world.harness.at_rest()
        (event,) = world.harness.events()
        assert (event["org"], event["credential"]) == ("big", "big-own")


@pytest.mark.parametrize("name", CALLS)
async def test_the_gateway_shows_its_own_key_in_the_header_that_the_dialect_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY_OF_A_TEST", "sk-upstream")
    auth = {"kind": "bearer", "secret_env": "UPSTREAM_KEY_OF_A_TEST"}
    upstreams: dict[str, Any] = {"upstreams": {"default": {"auth": auth}}}
    call = CALLS[name]
    async with running_world(tmp_path, config={"upstreams": upstreams}, key=ACME_KEY) as world:
        await world.through.ask(call)

        (served,) = world.harness.ledger.records
        assert (served.has_gateway_key, served.credential_headers) == (False, (HEADERS.get(call.sdk, "authorization"),))


@pytest.mark.parametrize(("key", "goes_up"), [(ACME_KEY, ()), (OWN_KEY, ("x-api-key",))])
async def test_an_anthropic_sdk_of_old_sends_its_key_in_x_api_key(world: World, key: str, goes_up: tuple[str, ...]) -> None:
    async with world.through.async_client("anthropic") as client:
        headers = {"X-Api-Key": key, "Authorization": anthropic.omit}
        await client.messages.create(**CALLS["anthropic"].arguments, extra_headers=headers)

    (served,) = world.harness.ledger.records
    assert served.credential_headers == goes_up
    await world.harness.at_rest()
    (event,) = world.harness.events()
    assert event["credential"] == ("acme-prod" if key == ACME_KEY else "big-own")
