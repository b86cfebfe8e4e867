"""What a client of Gloo's reads in a refusal at Gloo's paths (docs.gloo.com, "Errors", "Rate Limits"), and in Gloo's own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from gateway_harness import ACME_KEY, Harness, organizations, running_gateway

from tallygate.dialects.gloo import GlooChat, GlooEmbeddings, GlooResponses
from tallygate.domain.errors import ErrorCode, Refusal

MODEL = "gloo-openai-gpt-5.2"
PRICES = [
    {"model": MODEL, "effective": "2025-12-11", "input": "1.75", "output": "14"},
    {"model": "gloo-baai-bge-base-en-v1.5", "effective": "2025-01-01", "input": "0.01", "output": "0"},
]
CHAT = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Who was Ruth?"}]}
SEARCH = {"query": "Ruth", "collection": "GlooProd", "tenant": "p", "limit": 3}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
LIMITED = {"error": "Rate limit exceeded", "code": "too_many_requests"}


@asynccontextmanager
async def gloo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, requests: int = 0, acme_usd: str = "25"
) -> AsyncIterator[tuple[Harness, ClientSession, list[web.Request], dict[str, Any]]]:
    """The shipped routes in front of an API that answers everything, with the operator's key; `answer` may hold another status."""
    monkeypatch.setenv("GLOO_API_KEY", "gloo-operator")
    seen: list[web.Request] = []
    answer: dict[str, Any] = {}

    async def serve(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append(request)
        if request.headers.get("Authorization") != "Bearer gloo-operator":
            return web.json_response({"detail": "Not authenticated"}, status=401)
        if answer:
            return web.json_response(answer["body"], status=answer["status"], headers=answer["headers"])
        if request.path.endswith("search"):
            return web.json_response({"data": [], "intent": 0})
        said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A Moabite"}}
        return web.json_response({"model": MODEL, "choices": [said], "usage": USAGE})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("")).rstrip("/")
    auth = {"kind": "bearer", "secret_env": "GLOO_API_KEY"}
    found = organizations(acme_usd)
    found["organizations"][0]["plan"] = "pro"
    config: dict[str, Any] = {
        "organizations": found,
        "prices": {"prices": PRICES},
        "upstreams": {"upstreams": {"default": {"base_url": url, "auth": auth}}},
    }
    if requests:
        limits = [{"requests": requests, "window": "1h"}]
        config["plans"] = {"plans": {name: {"rate_limits": limits} for name in ("enterprise", "pro")}}
        config["plans"]["plans"]["free"] = {"api_access": False}
    try:
        async with (
            running_gateway(tmp_path, config=config, upstream_url=url) as harness,
            ClientSession(harness.url, headers={"x-api-key": ACME_KEY}) as session,
        ):
            yield harness, session, seen, answer
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/ai/v2/grounded/chat/completions", CHAT | {"rag_publisher": "Bezalel", "sources_limit": 3}),
        ("POST", "/ai/v2/grounded/chat/completions", {"auto_routing": True, "max_tokens": 9, "rag_publisher": "Bezalel"}),
        ("POST", "/ai/v2/chat/completions/grounded", {"auto_routing": True, "max_tokens": 9}),
        ("POST", "/ai/v2/direct/embeddings", {"model": "gloo-baai-bge-base-en-v1.5", "input": "Ruth"}),
        ("POST", "/ai/data/v1/search", SEARCH),
        ("GET", "/platform/v2/models", None),
    ],
)
async def test_a_caller_with_x_api_key_is_served_with_the_operators_bearer_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    async with gloo(tmp_path, monkeypatch) as (harness, session, seen, _):
        async with session.request(method, path, json=body) as response:
            assert response.status == 200, await response.text()
        assert "x-api-key" not in seen[0].headers
        await harness.at_rest()
        assert (await harness.window()).held_nano_usd == 0


@pytest.mark.parametrize(("path", "body"), [("/ai/v2/guarded/chat/completions", CHAT), ("/ai/data/v1/search", SEARCH)])
async def test_a_rate_limit_tells_until_when_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: Any) -> None:
    async with gloo(tmp_path, monkeypatch, requests=1) as (harness, session, _, _answer):
        async with session.post(path, json=body) as response:
            assert response.status == 200
        asked_ms = harness.clock.now_ms()
        async with session.post(path, json=body) as response:
            told = await response.json()
            reset = int(response.headers["X-RateLimit-Reset"])
            wait_ms = int(response.headers["retry-after-ms"])
        assert (response.status, told["code"], told["retryable"]) == (429, "too_many_requests", True)
        assert (told["error"]["name"], told["error"]["retryable"]) == ("RATE_LIMIT_EXCEEDED", True)
        assert (told["error"]["code"], told["detail"]) == ("rate_limit_exceeded", told["error"]["message"])
        assert -(-(asked_ms + wait_ms) // 1000) <= reset <= -(-(harness.clock.now_ms() + wait_ms) // 1000)


async def test_a_spend_limit_has_gloos_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gloo(tmp_path, monkeypatch, acme_usd="0.000001") as (_, session, seen, _answer):
        async with session.post("/ai/v2/chat/completions", json=CHAT) as response:
            told = await response.json()
        assert (response.status, told["code"], told["retryable"]) == (429, "SPENDING_LIMIT_EXCEEDED", False)
        assert (told["error"]["name"], told["error"]["retryable"]) == ("SPENDING_LIMIT_EXCEEDED", False)
        assert (told["error"]["type"], told["error"]["code"]) == ("insufficient_quota", "spend_limit_exceeded")
        assert "X-RateLimit-Reset" not in response.headers  # no time helps a request that is above the limit
        assert not seen


async def test_gloos_own_429_keeps_the_time_until_which_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gloo(tmp_path, monkeypatch, requests=9) as (_, session, _, answer):
        answer |= {"status": 429, "body": LIMITED, "headers": {"X-RateLimit-Reset": "1790000000", "X-RateLimit-Limit": "5"}}
        async with session.post("/ai/v2/chat/completions", json=CHAT) as response:
            assert (response.status, await response.json()) == (429, LIMITED)
            assert response.headers["X-RateLimit-Reset"] == "1790000000"
            assert "X-RateLimit-Limit" not in response.headers  # ours say what is left here
            assert "RateLimit" in response.headers


@pytest.mark.parametrize(
    "path",
    ["/ai/v2/grounded/responses", "/ai/v2/images/generations", "/engine/v3/items", "/ingestion/v3/files", "/platform/v9/keys"],
)
async def test_what_is_not_known_below_gloos_paths_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with gloo(tmp_path, monkeypatch) as (_, session, seen, _answer):
        async with session.post(path, json=CHAT) as response:
            told = await response.json()
        assert (response.status, told["error"]["name"], told["retryable"]) == (404, "UNKNOWN_ENDPOINT", False)
        assert f"no endpoint POST {path}." in told["error"]["message"]
        assert told["error"]["nearest"].split()[1].startswith(f"/{path.split('/')[1]}/")
        assert not seen


async def test_what_is_refused_before_its_route_is_known_has_gloos_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a" * 22 + "=="}
    async with gloo(tmp_path, monkeypatch) as (_, session, _seen, _answer):
        for path, is_gloos in (("/ai/v2/chat/completions", True), ("/v1/chat/completions", False)):
            async with session.get(path, headers=offer) as response:
                told = await response.json()
            assert (response.status, told["error"]["code"]) == (426, "websocket_not_served")
            assert (told.get("code"), told.get("retryable")) == (("WEBSOCKET_NOT_SERVED", False) if is_gloos else (None, None))


@pytest.mark.parametrize(
    ("code", "status", "name", "fault", "retryable"),
    [
        (ErrorCode.UPSTREAM_TIMEOUT, 504, "PROVIDER_TIMEOUT", "provider", True),
        (ErrorCode.UPSTREAM_UNREACHABLE, 502, "PROVIDER_UNAVAILABLE", "provider", True),
        (ErrorCode.UPSTREAM_KEY_REFUSED, 502, "UPSTREAM_KEY_REFUSED", "provider", False),
        (ErrorCode.INVALID_REQUEST, 400, "INVALID_REQUEST", None, False),
    ],
)
def test_a_failure_has_gloos_members_in_and_outside_of_streams(
    code: ErrorCode, status: int, name: str, fault: str | None, retryable: bool
) -> None:
    refusal = Refusal(status=status, code=code, message="No.")
    for dialect in (GlooChat(), GlooResponses(), GlooEmbeddings()):
        kind, body = dialect.error(refusal, request_id="evt_1")
        told = json.loads(body)
        error = told["error"]
        assert (kind, error["name"], error.get("fault"), error["retryable"]) == ("application/json", name, fault, retryable)
        assert (error["code"], error["request_id"], told["code"]) == (code.value, "evt_1", name)
    event = json.loads(GlooChat().stream_error(refusal, request_id="evt_1").removeprefix(b"data: "))
    assert (event["choices"][0]["finish_reason"], event["error"]["name"]) == ("error", name)
    assert b'"name":"%b"' % name.encode() in GlooResponses().stream_error(refusal, request_id="evt_1")
