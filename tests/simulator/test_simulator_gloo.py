"""Gloo's endpoints: its routing fields, its flattened Responses, and those without tokens."""

import json
from typing import Any

import aiohttp
import pytest

from tallygate.simulator.server import Simulator

HI = [{"role": "user", "content": "[[sim tokens=5]] hi"}]


async def post(sim: Simulator, path: str, body: Any) -> Any:
    async with aiohttp.ClientSession() as session, session.post(sim.url + path, json=body) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize(
    ("asked", "model", "mechanism"),
    [
        ({"auto_routing": True}, "gloo-openai-gpt-5.2", "auto_routing"),
        ({"model_family": "Anthropic"}, "gloo-anthropic-claude-sonnet-4.5", "model_family"),
        ({"model": "gloo-deepseek-v3.2"}, "gloo-deepseek-v3.2", "direct_model_selection"),
    ],
)
async def test_chat_says_which_model_answered_and_why(sim: Simulator, asked: dict[str, Any], model: str, mechanism: str) -> None:
    answer = await post(sim, "/ai/v2/chat/completions", {"messages": HI, **asked})

    assert (answer["model"], answer["routing_mechanism"], answer["provider"]) == (model, mechanism, "Gloo AI")
    assert ("routing_tier" in answer) is (mechanism == "auto_routing")
    assert answer["usage"]["completion_tokens"] == 5 == sim.ledger.totals.generated_tokens
    assert sim.ledger.records[0].model == model


async def test_chat_streams_end_without_a_done_mark(sim: Simulator) -> None:
    body = {"auto_routing": True, "stream": True, "stream_options": {"include_usage": True}, "messages": HI}
    async with aiohttp.ClientSession() as session, session.post(f"{sim.url}/ai/v2/chat/completions", json=body) as response:
        text = await response.text()

    assert "[DONE]" not in text
    assert json.loads(text.strip().split("data: ")[-1])["usage"]["completion_tokens"] == 5


async def test_grounded_chat_returns_its_sources(sim: Simulator) -> None:
    assert (await post(sim, "/ai/v2/chat/completions/grounded", {"auto_routing": True, "messages": HI}))["sources_returned"]


async def test_responses_are_flattened_into_their_last_event(sim: Simulator) -> None:
    body = {"model": "gloo-openai-gpt-5.2", "input": "[[sim tokens=5]] hi", "stream": True}
    async with aiohttp.ClientSession() as session, session.post(f"{sim.url}/ai/v1/responses", json=body) as response:
        final = json.loads((await response.text()).strip().split("data: ")[-1])

    assert (final["type"], final["usage"]["output_tokens"]) == ("response.completed", 5)
    assert "response" not in final


async def test_endpoints_without_tokens_count_a_request(sim: Simulator) -> None:
    assert (await post(sim, "/ai/v1/message", {"query": "hi"}))["success"]
    assert (await post(sim, "/ai/data/v1/search", {"query": "hi"}))["data"]
    assert isinstance(await post(sim, "/ai/v1/data/items/recommendations/base", {"query": "hi"}), list)
    form = aiohttp.FormData()
    form.add_field("publisher_id", "p1")
    form.add_field("files", b"\x00\xff" * 100, filename="a.pdf")
    async with aiohttp.ClientSession() as session, session.post(f"{sim.url}/ingestion/v2/files", data=form) as response:
        assert (await response.json())["ingesting"]

    totals = sim.ledger.totals
    assert (totals.requests, totals.completed, totals.prompt_tokens, totals.generated_tokens) == (4, 4, 0, 0)
    assert all(record.reported is None for record in sim.ledger.records)


async def test_the_catalogue_gives_rates_as_strings(sim: Simulator) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{sim.url}/platform/v2/models") as response:
        models = (await response.json())["data"]

    assert all(isinstance(model["pricing"]["input"]["rate_per_1m_tokens"], str) for model in models)


async def test_the_token_endpoint_gives_a_bearer_token_for_an_hour(sim: Simulator) -> None:
    async with aiohttp.ClientSession() as session:
        form = {"grant_type": "client_credentials", "scope": "api/access"}
        async with session.post(f"{sim.url}/oauth2/token", data=form) as response:
            token = await response.json()

    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert token["access_token"]
