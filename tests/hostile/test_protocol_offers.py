"""Offers to speak another protocol: WebSocket is spoken on routes for it, all others are ignored (RFC 9110 section 7.8)."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web_protocol
from aiohttp.http_parser import HttpRequestParserPy
from gateway_harness import running_gateway
from raw_client import BIG, CHAT, asking, chat, connected, converse

WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# What Codex 0.171 sends beside that, and with the request that it makes once it has been told 426.
CODEX = (
    b"user-agent: codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.171.0)\r\noriginator: codex_exec\r\n"
    b"version: 0.171.0\r\n"
    b'x-codex-turn-metadata: {"session_id":"01a2","agent_name":"/root","window_number":0,"request_kind":"turn"}\r\n'
    b"x-codex-beta-features: remote_compaction_v2\r\nx-client-request-id: 01a2\r\nsession-id: 01a2\r\nthread-id: 01a2\r\n"
    b"x-codex-window-id: 01a2:0\r\n"
)
CODEX_OFFER = (
    b"openai-beta: responses_websockets=2026-02-06\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
)
# What Java's HttpClient sends with each request over plain HTTP unless it is told not to.
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
RAW = str(CHAT).replace("'", '"').encode()


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of aiohttp's parsers; the second where no wheel could be had."""
    if request.param == "Python":
        monkeypatch.setattr(web_protocol, "HttpRequestParser", HttpRequestParserPy)


def get(path: str, headers: bytes = BIG) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: gateway\r\n".encode() + headers + b"\r\n"


async def test_an_offer_of_websocket_at_a_known_path_is_told_that_http_is_spoken(tmp_path: Path) -> None:
    offers = [
        get("/v1/chat/completions", WEBSOCKET),
        get("/v1/chat/completions", BIG + WEBSOCKET.replace(b"websocket", b"WebSocket/13, h2c")),
        get("/v1/chat/completions", BIG + WEBSOCKET),
        get("/v1/models", BIG + WEBSOCKET),
        chat(headers=BIG + WEBSOCKET, path="/v1/responses"),
        chat(headers=BIG + WEBSOCKET),
        chat(headers=BIG + b"Upgrade: websocket\r\n"),
    ]
    async with running_gateway(tmp_path) as harness:
        for offer in offers:
            found = await converse(harness.port, offer + get("/v1/models"))
            (answer,) = found.answers()
            assert (answer.status, answer.code) == (426, "websocket_not_served"), offer
            assert found.data.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
            assert answer.header("upgrade") == "HTTP/1.1"
            assert {value for name, value in answer.headers if name == "connection"} == {"upgrade", "close"}
            assert answer.header("date")
            assert answer.header("via") is None
            assert b"HTTP" in answer.body
            assert found.is_closed
        (answer,) = (await converse(harness.port, get("/v1/nothing", BIG + WEBSOCKET))).answers()
        assert answer.status == 404
        old = get("/v1/models", BIG + WEBSOCKET).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        (answer,) = (await converse(harness.port, old)).answers()
        assert answer.status == 200
        assert len(harness.ledger.records) == 1
        await harness.at_rest()


async def test_a_socket_is_switched_once_and_never_speaks_http_again(tmp_path: Path) -> None:
    """What comes behind the offer is no request: frames are read in it, or the connection ends."""
    async with running_gateway(tmp_path) as harness:
        for headers in (BIG + WEBSOCKET, BIG + WEBSOCKET + CODEX + CODEX_OFFER):
            found = await converse(harness.port, get("/v1/responses", headers) + get("/v1/models"), quiet_seconds=2.0)
            assert found.data.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"Sec-WebSocket-Extensions" not in found.data
            assert b"HTTP/1.1 200" not in found.data
            assert found.is_closed
        await harness.at_rest()
        assert not harness.ledger.records


@pytest.mark.parametrize(
    ("spoiled", "status"),
    [
        (get("/v1/responses", WEBSOCKET), 401),
        (chat(headers=BIG + WEBSOCKET, path="/v1/responses"), 426),
        (get("/v1/responses", BIG + WEBSOCKET.replace(b"13", b"12")), 400),
        (get("/v1/responses", BIG + WEBSOCKET.replace(b"Connection: Upgrade\r\n", b"")), 400),
        (get("/v1/responses", BIG + WEBSOCKET.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short")), 400),
        (get("/v1/responses", BIG + WEBSOCKET.replace(b"websocket", b"WebSocket/13, h2c")), 400),
        (get("/v1/responses", BIG + WEBSOCKET + b"Content-Length: 4\r\n") + b"ping", 400),
    ],
)
async def test_a_handshake_that_is_refused_ends_its_connection(tmp_path: Path, spoiled: bytes, status: int) -> None:
    async with running_gateway(tmp_path) as harness:
        found = await converse(harness.port, spoiled + get("/v1/models"), quiet_seconds=2.0)
        (answer,) = found.answers()
        assert answer.status == status
        assert found.is_closed
        await harness.at_rest()
        assert not harness.ledger.records


async def test_an_offer_of_h2c_is_ignored_and_the_connection_serves_on(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        for request in (
            *(get("/v1/models", BIG + H2C), chat(headers=BIG + H2C), chat(asking("tokens=3"), headers=BIG + H2C, stream=True)),
            *(chat(headers=BIG + H2C), get("/v1/models", BIG + H2C), get("/v1/models")),
        ):
            head, end, body = request.partition(b"\r\n\r\n")
            await client.send(head + end)
            if body:
                await asyncio.sleep(0.01)  # Java sends the two apart
                await client.send(body)
            found = await client.read(5.0)
            (answer,) = found.answers()
            assert answer.status == 200, request
            assert answer.is_whole
            assert found.data.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.header("upgrade") is None
            assert answer.header("connection") is None
            assert not found.is_closed
        assert len(harness.ledger.records) == 6


async def test_a_chunked_body_with_an_offer_of_h2c_is_read(tmp_path: Path) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n" + BIG + H2C + b"Transfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)
    async with running_gateway(tmp_path) as harness:
        for pieces in ([head + body], [head, body], [head[:50], head[50:] + body[:20], body[20:]]):
            found = await converse(harness.port, *pieces)
            assert found.only().status == 200
            assert found.is_closed  # as after every chunked one
        assert len(harness.events()) == 3


async def test_what_comes_behind_an_offer_is_served_or_told_to_come_again(tmp_path: Path) -> None:
    """One parser loses it: then the answer before it says that the connection ends. None may be left waiting for an answer."""
    async with running_gateway(tmp_path) as harness:
        offer = chat(headers=BIG + H2C)
        head, end, body = offer.partition(b"\r\n\r\n")
        behind = get("/v1/models")
        for pieces in (
            *([offer + behind], [head + end, body + behind], [head + end, body[:9], body[9:] + behind[:20], behind[20:]]),
            *([get("/v1/models", BIG + H2C) + behind], [behind + offer + behind], [head[:60], head[60:] + end + body + behind]),
            [b"\r\n" + offer + behind],
        ):
            requests = b"".join(pieces).count(b"HTTP/1.1\r\n")
            answers = (await converse(harness.port, *pieces, quiet_seconds=2.0)).answers()
            assert all(answer.status == 200 for answer in answers)
            assert len(answers) == requests or answers[-1].header("connection") == "close", pieces
        await harness.at_rest()


async def test_an_offer_of_anything_else_is_ignored(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for name in (b"tcp", b"TLS/1.0", b"HTTP/3.0", b"h2c, foo", b""):
            request = chat(headers=BIG + b"Connection: upgrade\r\nUpgrade: " + name + b"\r\n")
            found = await converse(harness.port, request, get("/v1/models"), quiet_seconds=2.0)
            answers = found.answers()
            assert answers[0].status == 200, name
            assert found.is_closed or len(answers) == 2, name
        await harness.at_rest()
        assert len(harness.events()) >= 5
