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
        for path in ("/v1/chat/completions", "/ai/data/v1/search"):
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


BODYLESS = {
    "routes": {
        "routes": [
            {"method": "GET", "path": "/v1beta/models/{model}", "capability": "chat"},
            {"method": "GET", "path": "/v1/models", "capability": "chat"},
            {"method": "DELETE", "path": "/v1/files/{file_id}", "capability": "chat"},
        ]
    }
}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", GENERATE), ("GET", GENERATE + "?x=1"), ("GET", "/v1/models"), ("DELETE", "/v1/files/f1")]
)
async def test_a_body_that_no_api_asks_for_does_not_travel_with_the_operators_key(tmp_path: Path, method: str, path: str) -> None:
    text = json.dumps(ASKED).encode()
    framed = {
        "whole": b"Content-Length: %d\r\n\r\n%s" % (len(text), text),
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(text), text),
        "form": b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5\r\n\r\n--b--",
    }
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n%s" % (method.encode(), path.encode(), KEY)
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=BEARER | BODYLESS, upstream_url=upstream.url) as harness,
    ):
        for form, rest in framed.items():
            answer = await ask(harness.port, head + rest)
            assert (answer.status, method in answer.body.decode(), "body" in answer.body.decode()) == (400, True, True), form
        assert not upstream.heads
        assert not harness.events()
        for rest in (b"\r\n", b"Content-Length: 0\r\n\r\n"):
            assert (await ask(harness.port, head + rest)).status == (200 if method == "GET" else 404)


async def test_where_every_caller_brings_a_key_of_its_own_a_body_travels_with_any_method(tmp_path: Path) -> None:
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, config=BODYLESS, upstream_url=upstream.url) as harness,
    ):
        head = b"DELETE /v1/files/f1 HTTP/1.1\r\nHost: x\r\n" + KEY + b"Content-Length: 2\r\n\r\n{}"
        assert (await ask(harness.port, head)).status == 200
        assert len(upstream.heads) == 1
