"""What a plan does not include is refused before anything is read or asked, whatever it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, BIG_KEY, running_gateway

from tallygate.telemetry.metrics import REFUSED

CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
CLAUDE = CHAT | {"model": "claude-sonnet-4-5"}
LACKS_CHAT = {"enterprise": {}, "pay_as_you_go": {"capabilities": {"except": ["chat"]}}, "free": {"api_access": False}}


async def asked(session: ClientSession, method: str, url: str, body: Any = None, key: str = ACME_KEY) -> tuple[int, Any]:
    async with session.request(method, url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else None


async def test_pay_as_you_go_has_what_is_billed_by_tokens_and_no_search_or_content(tmp_path: Path) -> None:
    lacked = [
        ("POST", "/ai/data/v1/search", {"query": "x"}, "search"),
        ("POST", "/ai/v1/kallm/search", {"query": "x"}, "search"),
        ("POST", "/ai/data/v1/items/recommendations/base", {"query": "x"}, "recommendations"),
        ("POST", "/ingestion/v1/real_time_upload", {"content": "x"}, "ingestion"),
        ("GET", "/engine/v2/items", None, "content"),
        ("GET", "/engine/v2/item/1", None, "content"),
        ("HEAD", "/engine/v2/items", None, "content"),
        ("DELETE", "/engine/v2/items/1", None, "content"),
    ]
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        for method, path, body, capability in lacked:
            status, answer = await asked(session, method, harness.url + path, body)
            assert status == 403, path
            if method != "HEAD":
                assert answer["error"]["code"] == "capability_not_in_plan"
                assert answer["error"]["type"] == "insufficient_permissions"
                told = f"The plan 'pay_as_you_go' of organization 'Acme' does not include '{capability}'; it includes: assistants,"
                assert told in answer["error"]["message"]
            assert (await asked(session, method, harness.url + path, body, BIG_KEY))[0] != 403
        own = [refusal for refusal in harness.metrics.counted[REFUSED] if refusal[0] == "acme"]
        assert own == [("acme", "acme-prod", capability, "capability_not_in_plan") for *_, capability in lacked]
        served = [event["capability"] for event in harness.events() if event["org"] == "acme"]
        assert served == [], "what is refused is no usage"
        for method, path, body in (
            ("POST", "/v1/chat/completions", CHAT),
            ("POST", "/v1/messages", CLAUDE),
            ("POST", "/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}),
            ("POST", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "x", "max_tokens": 5}),
            ("GET", "/v1/models", None),
            ("GET", "/v1/files", None),
            ("POST", "/v1/files", {}),
            ("GET", "/v1/batches", None),
            ("POST", "/v1/moderations", {"input": "x"}),
        ):
            status, answer = await asked(session, method, harness.url + path, body)
            assert status != 403, (path, answer)


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/messages", CLAUDE, ("permission_error",)),
        ("/v1beta/models/gemini-2.5-flash:generateContent", {"contents": []}, ("PERMISSION_DENIED",)),
        ("/ai/v2/chat/completions", CHAT, ("CAPABILITY_NOT_IN_PLAN",)),
        ("/v1/chat/completions", CHAT, ("insufficient_permissions",)),
    ],
)
async def test_it_is_told_in_the_shape_of_the_api_that_was_called(tmp_path: Path, path: str, body: Any, kind: Any) -> None:
    async with running_gateway(tmp_path, config={"plans": {"plans": LACKS_CHAT}}) as harness, ClientSession() as session:
        status, answer = await asked(session, "POST", harness.url + path, body)
        assert status == 403
        assert kind[0] in (answer["error"].get(name) for name in ("type", "status", "name"))
        assert "does not include 'chat'" in str(answer)
        assert (await asked(session, "GET", harness.url + "/v1/models"))[0] == 200
