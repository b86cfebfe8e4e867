"""Which models a limited credential may use at routes that no dialect reads, and which routes are off."""

import json
import threading
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, FormData
from gateway_harness import BIG_KEY, Harness, running_gateway
from hostile_upstream import saying, scripted, whole

from tallygate.config.shipped import shipped_directory
from tallygate.gateway.exchange import understanding
from tallygate.gateway.exchange.understanding import check_unread_model

NARROW = "tg_big-narrow_narrowsecret"  # chat and models, of gpt-4o-mini alone
OFF = (
    "/ai/v1/message",
    *("/v1/vector_stores", "/v1/containers", "/v1/fine_tuning/jobs", "/v1/threads/runs", "/v1/evals/eval_1/runs", "/v1/videos"),
    *("/v1/videos/extensions", "/openai/v1/fine_tuning/jobs"),
)


@cache
def routes() -> dict[str, Any]:
    """The shipped table with everything on, and under one capability."""
    shipped = yaml.load((shipped_directory() / "routes.yaml").read_text(), yaml.CSafeLoader)
    return {"routes": [{**route, "enabled": True, "capability": "chat"} for route in shipped["routes"]]}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Harness]:
    async with (
        scripted(saying(whole(b'{"id": "x", "object": "x"}'))) as upstream,
        running_gateway(tmp_path, config={"routes": routes()}, upstream_url=upstream.url) as harness,
    ):
        yield harness


async def send(harness: Harness, method: str, path: str, key: str = NARROW, **how: Any) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}"}
    async with ClientSession() as session, session.request(method, harness.url + path, headers=headers, **how) as response:
        body = await response.read()
        code = json.loads(body).get("error", {}).get("code", "") if response.status >= 400 else ""
        return response.status, code


@pytest.mark.parametrize("path", OFF)
async def test_what_cannot_be_charged_is_off_in_the_shipped_table(tmp_path: Path, path: str) -> None:
    async with running_gateway(tmp_path) as harness:
        assert await send(harness, "POST", path, BIG_KEY, json={"model": "gpt-4o-mini"}) == (403, "endpoint_not_enabled")
        assert not harness.ledger.records


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models/gpt-5", None),
        ("GET", "/v1beta/models/gemini-2.5-pro", None),
        ("POST", "/v1/moderations", {"model": "omni-moderation-latest", "input": "x"}),
        ("POST", "/v1/moderations", {"input": "x"}),
        ("POST", "/ai/v1/message", {"model": ["gpt-4o-mini"], "query": "x"}),
        ("POST", "/v1/images/generations", {"model": "gpt-image-1", "prompt": "x"}),
        ("POST", "/v1/audio/speech", {"model": "tts-1", "input": "x"}),
        ("POST", "/v1/responses/input_tokens", {"model": "gpt-5", "input": "x"}),
        ("POST", "/v1/messages/count_tokens", {"model": "claude-opus-4-6", "messages": []}),
        ("POST", "/v1beta/models/gemini-2.5-pro:countTokens", {"contents": []}),
        ("POST", "/v1/responses", {"input": "x", "prompt": {"id": "pmpt_1"}}),
    ],
)
async def test_another_model_is_refused_on_every_route(gateway: Harness, method: str, path: str, body: Any) -> None:
    assert await send(gateway, method, path, json=body) == (403, "model_not_allowed") or "gemini" in path
    if "gemini" in path:
        assert (await send(gateway, method, path, json=body))[0] == 403
    assert (await send(gateway, method, path, BIG_KEY, json=body))[0] == 200


async def test_a_form_does_not_show_its_model(gateway: Harness) -> None:
    def form(model: str = "gpt-4o-mini") -> FormData:
        fields = FormData()
        fields.add_field("file", b"sound", filename="a.wav")
        fields.add_field("model", model)
        return fields

    assert await send(gateway, "POST", "/ai/v1/message", data=form()) == (403, "model_not_allowed")
    assert (await send(gateway, "POST", "/ai/v1/message", BIG_KEY, data=form()))[0] == 200
    assert (await send(gateway, "POST", "/v1/files", data=form()))[0] == 200
    # where a dialect reads it, it does
    assert (await send(gateway, "POST", "/v1/audio/transcriptions", data=form()))[0] == 200
    assert await send(gateway, "POST", "/v1/audio/transcriptions", data=form("whisper-1")) == (403, "model_not_allowed")


async def test_ones_own_models_and_routes_without_any_are_open(gateway: Harness) -> None:
    assert (await send(gateway, "GET", "/v1/models/gpt-4o-mini"))[0] == 200
    assert (await send(gateway, "GET", "/v1/models"))[0] == 200
    assert (await send(gateway, "POST", "/v1/moderations", json={"model": "gpt-4o-mini", "input": "x"}))[0] == 200
    assert (await send(gateway, "POST", "/ai/data/v1/search", json={"query": "x"}))[0] == 200
    assert await send(gateway, "POST", "/v1/moderations", json={"Model": "gpt-4o-mini", "model": "gpt-4o-mini"}) == (
        400,
        "invalid_request",
    )


async def test_a_large_body_is_searched_for_its_model_off_the_loop(gateway: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def check(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return check_unread_model(*arguments)

    monkeypatch.setattr(understanding, "check_unread_model", check)
    for words in ("x", "x" * 40_000):
        assert (await send(gateway, "POST", "/ai/v1/message", json={"model": "gpt-5", "query": words}))[0] == 403
    assert threads[0] == threading.get_ident() != threads[1]
