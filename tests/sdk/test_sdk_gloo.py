"""What is particular to Gloo: the provider chooses the model and lists its own prices, and a header asks for caching."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from sdk_sides import NOON_MS, PRICES, World, running_world, user

MODEL = "gloo-anthropic-claude-sonnet-4.5"
CACHED = {"model": MODEL, "effective": "2025-09-29", "input": "3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"}
CATALOGUE: dict[str, Any] = {"upstreams": {"upstreams": {"default": {"catalogue_path": "/platform/v2/models"}}}}


async def read_catalogue(world: World) -> None:
    """Until the gateway has read the provider's prices."""
    async with asyncio.timeout(10):
        while world.harness.gateway.services.view.prices.find("gloo-deepseek-v3.2", NOON_MS) is None:
            await asyncio.sleep(0.005)


async def test_a_routed_request_is_held_at_the_dearest_price_and_charged_at_that_of_the_model_that_answered(tmp_path: Path) -> None:
    async with running_world(tmp_path, config=CATALOGUE) as world:
        await read_catalogue(world)
        async with world.through.async_client("gloo") as client:
            routed = {"model": "", "extra_body": {"model": None, "auto_routing": True}}
            answer = await client.chat.completions.create(messages=user("tokens=20"), max_tokens=60, **routed)
        await world.harness.at_rest()

        (event,) = world.harness.events()
        assert (event["request_model"], event["response_model"]) == (None, answer.model)
        assert answer.model == "gloo-openai-gpt-5.2"
        assert event["cost_nano_usd"] == answer.usage.prompt_tokens * 1_750 + 20 * 14_000
        window = await world.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (event["cost_nano_usd"], 0)


async def test_the_caching_header_is_part_of_the_worst_case(tmp_path: Path) -> None:
    others = [price for price in PRICES["prices"] if price["model"] != MODEL]
    needed = {}
    async with running_world(tmp_path, config={"prices": {"prices": [*others, CACHED]}}, acme_usd="0.000001") as world:
        for ttl in ("", "5m", "1h", "24h"):
            async with world.through.async_client("gloo") as client:
                headers = {"X-Cache-TTL": ttl} if ttl else {}
                with pytest.raises(openai.RateLimitError) as caught:
                    await client.chat.completions.create(
                        model=MODEL, max_tokens=60, messages=user("tokens=5"), extra_headers=headers
                    )
            body: Any = caught.value.body
            needed[ttl] = round(float(body["needed_usd"]) * 1e9) - 60 * 15_000

    assert needed[""] == needed["5m"] > 0
    assert needed["1h"] == needed["24h"]
    assert needed["1h"] * 3_750 == needed["5m"] * 6_000


async def test_a_plan_of_a_hundred_dollars_admits_twenty_routed_callers_at_once(tmp_path: Path) -> None:
    """Without a maximum, as Gloo recommends to call: held is what one model can cost, not one's length at another's rate."""
    models = {
        "gloo-openai-gpt-5.2": ("1.75", "14", 128_000),
        "gloo-deepseek-long": ("0.28", "3.96", 384_000),
        "gloo-google-dear": ("2", "120", 8_192),
    }
    rows = [
        {"model": model, "effective": "2025-01-01", "input": rate_in, "output": rate_out, "max_output_tokens": longest}
        for model, (rate_in, rate_out, longest) in models.items()
    ]
    async with running_world(tmp_path, config={"prices": {"prices": rows}}, acme_usd="100") as world:
        async with world.through.async_client("gloo") as client:

            async def call() -> str:
                routed = {"model": "", "extra_body": {"model": None, "auto_routing": True}}
                answer = await client.chat.completions.create(messages=user("tokens=20 delay=400"), **routed)
                return str(answer.model)

            assert await asyncio.gather(*(call() for _ in range(20))) == ["gloo-openai-gpt-5.2"] * 20
        await world.harness.at_rest()
        assert [event["flags"] for event in world.harness.events()] == [[]] * 20
