"""Browsers at the gateway: what the Fetch standard asks of a server, header by header."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestServer
from gateway_harness import ACME_KEY, LIMITS, Harness, running_gateway

from tallygate.config.settings import load_settings
from tallygate.domain.errors import ConfigError
from tallygate.gateway.cors import CorsPolicy
from tallygate.telemetry.metrics import REFUSED

PAGE = "https://app.example.com"
OTHER = "https://evil.example.com"
LISTED = CorsPolicy(frozenset({PAGE, "http://localhost:5173"}))
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "[[sim tokens=3]] Hello"}]}
KEY = {"Authorization": f"Bearer {ACME_KEY}", "Origin": PAGE}


async def answered(harness: Harness, method: str, path: str, headers: dict[str, str], **options: Any) -> ClientResponse:
    async with ClientSession() as session, session.request(method, harness.url + path, headers=headers, **options) as answer:
        await answer.read()
        return answer


def said(answer: ClientResponse) -> list[str]:
    return [name for name in answer.headers if name.lower().startswith("access-control-")]


def vary(answer: ClientResponse) -> str:
    return ", ".join(answer.headers.getall("Vary", ()))


async def test_a_preflight_is_answered_without_a_key_and_touches_nothing(tmp_path: Path) -> None:
    asked = ASKS | {"Access-Control-Request-Headers": "authorization, x-stainless-os,content-type,anthropic-version,X-Own"}
    async with running_gateway(tmp_path, cors=LISTED) as harness:
        answer = await answered(harness, "OPTIONS", "/v1/chat/completions", asked)
        assert answer.status == 204
        assert {name.lower(): answer.headers.getall(name) for name in said(answer)} == {
            "access-control-allow-origin": [PAGE],
            "access-control-allow-methods": ["GET, HEAD, POST"],
            "access-control-allow-headers": ["authorization, x-stainless-os, content-type, anthropic-version, x-own"],
            "access-control-max-age": ["7200"],
        }
        assert "Origin" in vary(answer)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        listing = await answered(harness, "OPTIONS", "/v1/models/gpt-4o-mini", ASKS | {"Access-Control-Request-Method": "GET"})
        assert "GET" in listing.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Headers" not in listing.headers
        assert not harness.metrics.counted[REFUSED]
        assert not harness.ledger.records
        assert not harness.events()


@pytest.mark.parametrize(
    ("cors", "headers", "path", "status"),
    [
        (LISTED, ASKS | {"Origin": OTHER}, "/v1/chat/completions", 403),
        (LISTED, ASKS | {"Origin": PAGE + ":444"}, "/v1/chat/completions", 403),
        (LISTED, ASKS | {"Origin": "null"}, "/v1/chat/completions", 403),
        (CorsPolicy(), ASKS, "/v1/chat/completions", 403),
        (CorsPolicy(), ASKS, "/v1/unknown", 403),
        (LISTED, ASKS | {"Access-Control-Request-Headers": "a b"}, "/v1/chat/completions", 400),
        (LISTED, ASKS | {"Access-Control-Request-Headers": "x\u00e9"}, "/v1/chat/completions", 400),
        (LISTED, ASKS | {"Access-Control-Request-Headers": ",".join(["x"] * 101)}, "/v1/chat/completions", 400),
    ],
)
async def test_a_preflight_that_cannot_be_granted_says_why(
    tmp_path: Path, cors: CorsPolicy, headers: dict[str, str], path: str, status: int
) -> None:
    async with running_gateway(tmp_path, cors=cors) as harness:
        answer = await answered(harness, "OPTIONS", path, headers)
        assert answer.status == status
        assert "Access-Control-Allow-Methods" not in answer.headers
        if status == 403:
            assert "TALLYGATE_CORS_ORIGINS" in await answer.text()
            assert not said(answer)


async def test_a_page_that_asks_for_a_path_that_is_not_can_read_which_is_nearest(tmp_path: Path) -> None:
    """A preflight that is refused keeps every word of the refusal from the page."""
    async with running_gateway(tmp_path, cors=LISTED) as harness:
        for path in ("/v1/v1/chat/completions", "/v1/chat/completions/", "/unknown"):
            asked = await answered(harness, "OPTIONS", path, ASKS)
            assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
            assert "POST" in asked.headers["Access-Control-Allow-Methods"]
            told = await answered(harness, "POST", path, KEY, json=CHAT)
            assert (told.status, told.headers["Access-Control-Allow-Origin"]) == (404, PAGE)
            assert path in await told.text()


async def test_a_page_may_read_answers_refusals_and_streams(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_bytes_max=2_000)
    async with running_gateway(tmp_path, cors=LISTED, limits=limits) as harness:
        path = "/v1/chat/completions"
        answers = {
            200: await answered(harness, "POST", path, KEY, json=CHAT),
            -200: await answered(harness, "POST", path, KEY, json=CHAT | {"stream": True}),
            401: await answered(harness, "POST", path, {"Origin": PAGE}, json=CHAT),
            404: await answered(harness, "POST", "/v1/nothing", KEY, json=CHAT),
            405: await answered(harness, "DELETE", path, KEY),
            400: await answered(harness, "POST", path, KEY, data=b"{"),
            413: await answered(harness, "POST", path, KEY, data=b" " * 3_000),
            415: await answered(harness, "POST", path, KEY | {"Content-Encoding": "br"}, data=b"x"),
            426: await answered(harness, "GET", "/v1/models", KEY | {"Connection": "upgrade", "Upgrade": "websocket"}),
            501: await answered(harness, "POST", path, KEY, json=CHAT | {"messages": "[[sim status=500]]"}),
        }
        for status, answer in answers.items():
            if status != 501:
                assert answer.status == abs(status)
            assert answer.headers.getall("Access-Control-Allow-Origin") == [PAGE], status
            exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
            assert {"x-request-id", "retry-after", "ratelimit"} <= set(exposed)
            assert {name.lower() for name in answer.headers if name.lower().startswith("tallygate-")} <= set(exposed)
            assert "Origin" in vary(answer)
        assert "tallygate-cost-usd" in answers[200].headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", [None, OTHER])
async def test_others_are_served_plainly_and_told_nothing(tmp_path: Path, origin: str | None) -> None:
    key = {"Authorization": f"Bearer {ACME_KEY}"} | ({"Origin": origin} if origin else {})
    async with running_gateway(tmp_path, cors=LISTED) as harness:
        answer = await answered(harness, "POST", "/v1/chat/completions", key, json=CHAT)
        assert (answer.status, said(answer), vary(answer)) == (200, [], "Origin")


async def test_without_origins_no_answer_speaks_of_cors(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        answer = await answered(harness, "POST", "/v1/chat/completions", KEY, json=CHAT)
        assert (answer.status, said(answer), vary(answer)) == (200, [], "")


@pytest.mark.parametrize("origin", [PAGE, OTHER, "null"])
async def test_a_star_lets_all_in(tmp_path: Path, origin: str) -> None:
    async with running_gateway(tmp_path, cors=CorsPolicy(frozenset({"*"}))) as harness:
        asked = await answered(harness, "OPTIONS", "/v1/messages", ASKS | {"Origin": origin})
        answer = await answered(harness, "POST", "/v1/chat/completions", KEY | {"Origin": origin}, json=CHAT)
        assert [each.headers["Access-Control-Allow-Origin"] for each in (asked, answer)] == ["*", "*"]


@pytest.mark.parametrize("cors", [CorsPolicy(), LISTED])
async def test_what_the_upstream_says_of_its_own_origin_goes_no_further(tmp_path: Path, cors: CorsPolicy) -> None:
    async def answer(request: web.Request) -> web.Response:
        theirs = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Vary": "Accept"}
        return web.json_response({"data": []}, headers=theirs | {"Access-Control-Expose-Headers": "X-Theirs", "X-Theirs": "1"})

    application = web.Application()
    application.router.add_get("/v1/models", answer)
    async with (
        TestServer(application) as upstream,
        running_gateway(tmp_path, upstream_url=str(upstream.make_url("")), cors=cors) as harness,
    ):
        told = await answered(harness, "GET", "/v1/models", KEY)
    assert "Access-Control-Allow-Credentials" not in told.headers
    assert told.headers.getall("Access-Control-Allow-Origin", []) == ([PAGE] if cors.origins else [])
    assert vary(told) == ("Accept, Origin" if cors.origins else "Accept")
    if cors.origins:
        assert "x-theirs" in told.headers["Access-Control-Expose-Headers"]


async def test_a_public_page_may_ask_for_a_gateway_in_the_local_network(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, cors=LISTED) as harness:
        private = ASKS | {"Access-Control-Request-Private-Network": "true"}
        answer = await answered(harness, "OPTIONS", "/v1/chat/completions", private)
        assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("cors", [CorsPolicy(), LISTED])
async def test_options_without_a_preflight_tell_the_methods(tmp_path: Path, cors: CorsPolicy) -> None:
    async with running_gateway(tmp_path, cors=cors) as harness:
        answer = await answered(harness, "OPTIONS", "/v1/files", {"Origin": PAGE} if cors.origins else {})
        assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")
        assert (await answered(harness, "OPTIONS", "/nothing", {})).status == 404


async def test_a_compressed_body_from_a_page(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, cors=LISTED) as harness:
        body = gzip.compress(json.dumps(CHAT).encode())
        answer = await answered(harness, "POST", "/v1/chat/completions", KEY | {"Content-Encoding": "gzip"}, data=body)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("*", {"*"}),
        ("https://app.example.com, http://localhost:5173", {PAGE, "http://localhost:5173"}),
        ("HTTPS://App.Example.com:443", {PAGE}),
        ("http://[::1]:8000,http://10.0.0.7:80", {"http://[::1]:8000", "http://10.0.0.7"}),
        ("chrome-extension://abcdef", {"chrome-extension://abcdef"}),
    ],
)
def test_origins_are_taken_as_browsers_write_them(text: str, origins: set[str]) -> None:
    assert load_settings({"cors_origins": text}).cors_origin_names == origins


@pytest.mark.parametrize(
    "text",
    [
        "app.example.com",
        "https://app.example.com/",
        "https://a.b/c",
        "https://*.example.com",
        "https://a:b@c",
        "null",
        "https://a:0",
    ],
)
def test_what_is_no_origin_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="TALLYGATE_CORS_ORIGINS must be origins separated by commas"):
        load_settings({"cors_origins": text})
