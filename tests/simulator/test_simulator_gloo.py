"""Gloo's endpoints: its routing fields, its flattened Responses, those without tokens, and the profile that has nothing else."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.server import Simulator, running_simulator
from tallygate.simulator.service import SimulatorSettings

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


@pytest.fixture
async def gloo(prompt_tokens: PromptTokens) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(profile="gloo", api_key="sk_of-the-operator")
    async with running_simulator(settings=settings, prompt_tokens=prompt_tokens) as simulator:
        yield simulator


async def ask(url: str, key: str = "", **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(**({"method": "POST"} | options), url=url) as answer,
    ):
        return answer.status, await answer.json()


async def test_the_profile_takes_the_static_key_or_a_token_and_shows_its_catalogue_to_all(gloo: Simulator) -> None:
    chat = {"url": f"{gloo.url}/ai/v2/guarded/chat/completions", "json": {"auto_routing": True, "messages": HI}}
    _, token = await ask(f"{gloo.url}/oauth2/token", data={"grant_type": "client_credentials"})
    statuses = [(await ask(**chat, key=key))[0] for key in ("sk_of-the-operator", token["access_token"], "sk_other", "")]
    assert statuses == [200, 200, 401, 401]
    assert await ask(**chat) == (401, {"detail": "Incorrect API key provided."})
    assert (await ask(f"{gloo.url}/platform/v2/models", method="GET"))[0] == 200
    assert (await ask(f"{gloo.url}/ai/v2/models", method="GET"))[0] == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1beta/models/gemini-2.5-flash:generateContent"])
async def test_the_profile_has_no_other_apis(gloo: Simulator, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(gloo.url + path, json={"messages": HI}) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        ("status:429", 429, {"error": "Rate limit exceeded", "code": "too_many_requests"}),
        ("status:403", 403, {"detail": "The simulator was asked to fail."}),
        ("status:503", 503, {"fault": "provider", "retryable": True}),
        ("status:400", 400, {"name": "INVALID_REQUEST", "retryable": False}),
    ],
)
async def test_errors_have_gloos_shapes(gloo: Simulator, fault: str, status: int, told: dict[str, Any]) -> None:
    body = {"auto_routing": True, "messages": [{"role": "user", "content": f"[[sim fault={fault}]] hi"}]}
    found, answer = await ask(f"{gloo.url}/ai/v2/chat/completions", key="sk_of-the-operator", json=body)
    inner = answer["error"] if isinstance(answer.get("error"), dict) else answer
    assert (found, {name: inner[name] for name in told}) == (status, told)


async def test_a_failure_inside_a_stream_is_a_finish_reason(gloo: Simulator) -> None:
    body = {"auto_routing": True, "stream": True, "messages": [{"role": "user", "content": "[[sim fault=error at=2]] hi"}]}
    headers = {"Authorization": "Bearer sk_of-the-operator"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{gloo.url}/ai/v2/chat/completions", json=body) as answer,
    ):
        last = json.loads((await answer.text()).strip().split("data: ")[-1])
    assert (last["choices"][0]["finish_reason"], last["error"]["fault"]) == ("error", "provider")


async def test_sources_are_input_and_messages_may_be_left_out(gloo: Simulator) -> None:
    for more in ({}, {"sources_limit": 5}):
        url = f"{gloo.url}/ai/v2/grounded/chat/completions"
        assert (await ask(url, key="sk_of-the-operator", json={"auto_routing": True, **more}))[0] == 200
    three, five = (record.prompt_tokens for record in gloo.ledger.records)
    assert five - three == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ai/v2/direct/embeddings"),
        ("POST", "/ai/data/v1/affiliates/referenced-items"),
        ("POST", "/ingestion/v1/real_time_upload"),
        ("GET", "/ai/v1/chat?chat_id=c1"),
        ("GET", "/engine/v2/items/i1"),
        ("PATCH", "/engine/v2/item"),
        ("DELETE", "/engine/v2/items"),
        ("GET", "/engine/v2/publisher/p1/items"),
        ("GET", "/engine/v1/files/i1/snippets"),
    ],
)
async def test_the_profile_has_gloos_other_paths(gloo: Simulator, method: str, path: str) -> None:
    body = {} if method == "GET" else {"json": {"query": "Ruth", "input": "Ruth"}}
    assert (await ask(gloo.url + path, key="sk_of-the-operator", method=method, **body))[0] == 200
