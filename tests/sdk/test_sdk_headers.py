"""Headers as SDKs see them: the provider's are kept, the gateway's stand beside them or, where both say the same, replace them."""

from typing import Any

import pytest
from sdk_sides import Call, World, user

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "max_tokens": 9, "messages": user("tokens=5")}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": user("tokens=5")}
CONTENT: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "[[sim tokens=5]] Hi"}
CALLS = {
    "chat": Call(sdk="openai", method="chat.completions.create", arguments=CHAT),
    "chat stream": Call(sdk="openai", method="chat.completions.create", arguments=CHAT | {"stream": True}, streams=True),
    "message": Call(sdk="anthropic", method="messages.create", arguments=MESSAGE),
    "message stream": Call(sdk="anthropic", method="messages.create", arguments=MESSAGE | {"stream": True}, streams=True),
    "content": Call(sdk="gemini", method="models.generate_content", arguments=CONTENT),
    "content stream": Call(sdk="gemini", method="models.generate_content_stream", arguments=CONTENT, streams=True),
    "models": Call(sdk="openai", method="models.list", arguments={}),
}
REBUILT = {"content-length", "transfer-encoding", "connection"}  # framing
LIMITS = ("x-ratelimit-", "anthropic-ratelimit-")  # one answer to "how much is left": that of the stricter gateway
ADDED = {"x-upstream-request-id", "server-timing", "via", "ratelimit", "ratelimit-policy"}
COST = {"tallygate-cost-usd", "tallygate-usage-source"}  # known before the body
OWN_LIMITS = {
    "openai": {f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")},
    "anthropic": {
        f"anthropic-ratelimit-{kind}-{what}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
    },
    "gemini": set(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_the_providers_headers_are_kept_and_ours_are_beside_them(world: World, name: str) -> None:
    call = CALLS[name]
    await world.direct.ask(call)
    await world.through.ask(call)

    direct = {key.lower(): value for key, value in world.direct.answers[-1].headers}
    through = {key.lower(): value for key, value in world.through.answers[-1].headers}
    kept = {key: value for key, value in direct.items() if key not in REBUILT and not key.startswith(LIMITS)}
    assert through.pop("x-upstream-request-id", None) == kept.pop("x-request-id", None)
    assert kept.pop("date", None) is not None
    assert {key: through.get(key) for key in kept} == kept
    (event,) = await world.counted()
    assert through["x-request-id"] == event["event_id"]
    own = OWN_LIMITS[call.sdk] | {"tallygate-spend-remaining-usd"} if name != "models" else set()
    added = through.keys() - kept.keys() - REBUILT - {"date", "x-request-id", "x-upstream-request-id"}
    assert added == (ADDED - {"x-upstream-request-id"}) | own | (set() if call.streams or name == "models" else COST)


async def test_an_sdk_knows_the_request_by_the_id_of_its_usage_event(world: World) -> None:
    async with world.through.async_client("openai") as client:
        answer = await client.chat.completions.create(**CHAT)

    (event,) = await world.counted()
    assert answer._request_id == event["event_id"]


async def test_an_anthropic_sdk_keeps_the_providers_request_id(world: World) -> None:
    async with world.through.async_client("anthropic") as client:
        answer = await client.messages.create(**MESSAGE)

    assert answer._request_id == "req_sim"


async def test_headers_of_the_client_reach_the_provider(world: World) -> None:
    async with world.through.async_client("openai") as client:
        answer = await client.chat.completions.create(**CHAT, extra_headers={"x-sim": "tokens=3", "X-Cache-TTL": "1h"})

    assert answer.usage.completion_tokens == 3
