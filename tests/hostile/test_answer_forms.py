"""A caller who wants the usage out of the answer: nothing that could take it there reaches the upstream."""

import json
from pathlib import Path

import pytest
from gateway_harness import BIG_KEY, running_gateway
from hostile_upstream import saying, scripted, whole
from raw_client import ask, chat

UPSTREAM_KEY = "sk-upstream-CANARY"
BEARER = {"upstreams": {"upstreams": {"default": {"auth": {"kind": "bearer", "secret_env": "SCRIPTED_KEY"}}}}}
KEY = f"x-goog-api-key: {BIG_KEY}\r\n".encode()
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"
ASKED = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 80_000}}


@pytest.fixture(autouse=True)
def _upstream_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", UPSTREAM_KEY)


@pytest.mark.parametrize("config", [BEARER, None], ids=["operators_key", "passthrough"])
async def test_nothing_that_filters_or_wraps_an_answer_reaches_the_upstream(tmp_path: Path, config) -> None:
    attacks = [
        *((f"?{query}", b"") for query in ("fields=candidates", "$fields=candidates", "%66ields=candidates", "alt=proto")),
        *(
            (f"?{query}", b"")
            for query in ("callback=f", "$.xgafv=1", "alt=sse&fields=x", "alt=sse;fields=x", "$ct=x", "uploadType=x")
        ),
        ("", b"X-Goog-FieldMask: candidates\r\n"),
        ("", b"x-GOOG-fieldmask: candidates\r\n"),
        ("", b"Accept: application/x-protobuf\r\n"),
        ("", b"Range: bytes=0-10\r\n"),
    ]
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness,
    ):
        for query, header in attacks:
            answer = await ask(harness.port, chat(ASKED, headers=KEY + header, path=GENERATE + query))
            assert answer.status == 400, (query, header)
            named = header.partition(b":")[0].decode().lower() or None
            assert json.loads(answer.body)["error"]["status"] == "INVALID_ARGUMENT"
            assert named is None or named in answer.body.decode()
        assert not upstream.heads
        assert not harness.events()


async def test_what_acts_for_another_does_not_travel_with_the_operators_key(tmp_path: Path) -> None:
    acting = (
        b"OpenAI-Organization: o\r\nOpenAI-Project: p\r\nX-Goog-User-Project: u\r\nX-HTTP-Method-Override: DELETE\r\n"
        b"Idempotency-Key: mine\r\nX-Own: 1\r\nX-Vertex-AI-LLM-Request-Type: dedicated\r\n"
    )
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=BEARER, upstream_url=upstream.url) as harness,
    ):
        for path in ("/v1/chat/completions", "/v1/moderations"):
            assert (await ask(harness.port, chat(headers=KEY + acting, path=path))).status == 200
            names = set(upstream.header_names())
            assert not names & {"openai-organization", "openai-project", "x-goog-user-project", "x-http-method-override"}
            assert upstream.header("idempotency-key") not in (None, "mine")
        assert names >= {"x-own"}  # at a route that is not metered


async def test_with_ones_own_key_one_acts_for_oneself(tmp_path: Path) -> None:
    acting = b"OpenAI-Organization: o\r\nX-HTTP-Method-Override: DELETE\r\nIdempotency-Key: mine\r\nX-Own: 1\r\n"
    async with scripted(saying(whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        assert (await ask(harness.port, chat(headers=KEY + acting))).status == 200
        assert set(upstream.header_names()) >= {"openai-organization", "x-http-method-override", "x-own"}
        assert upstream.header("idempotency-key") == "mine"


async def test_a_route_lets_named_ones_through(tmp_path: Path) -> None:
    route = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "capability": "chat",
        "dialect": "openai_chat",
        "query": ["deployment"],
        "headers": ["X-Own", "OpenAI-Project"],
    }
    config = BEARER | {"routes": {"routes": [route]}}
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness,
    ):
        headers = KEY + b"X-Own: 1\r\nX-Other: 2\r\nOpenAI-Project: p\r\n"
        assert (await ask(harness.port, chat(headers=headers, path="/v1/chat/completions?deployment=d"))).status == 200
        assert upstream.heads[-1].startswith(b"POST /v1/chat/completions?deployment=d HTTP/1.1\r\n")
        assert (upstream.header("x-own"), upstream.header("x-other"), upstream.header("openai-project")) == ("1", None, "p")
