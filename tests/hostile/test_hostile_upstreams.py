"""An upstream that misbehaves, as the client sees it: what is incomplete looks incomplete, and every hold ends."""

import asyncio
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from at_rest import come_to_rest
from gateway_harness import ACME_KEY, running_gateway
from hostile_upstream import JSON_BODY, Answering, saying, scripted, whole
from raw_client import BIG, CHAT, KEY, Answer, ask, asking, chat, connected

from tallygate.telemetry.metrics import UPSTREAM_ERRORS

EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
)
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CUT: dict[str, Answering] = {
    "length, FIN": saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5000\r\n\r\n", EVENT, closes=True
    ),
    "length, RST": saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5000\r\n\r\n", EVENT, resets=True
    ),
    "chunked, FIN": saying(SSE, chunk(EVENT), chunk(EVENT), closes=True),
    "chunked, RST": saying(SSE, chunk(EVENT), chunk(EVENT), resets=True),
    "inside a chunk": saying(SSE, chunk(EVENT), b"500\r\ndata: {", closes=True),
    "inside an event": saying(SSE, chunk(EVENT), chunk(EVENT[:40]), closes=True),
    "bad chunk size": saying(SSE, chunk(EVENT), b"zz\r\n", closes=True),
    "after the usage": saying(
        SSE, chunk(EVENT), chunk(b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}\n\n'), closes=True
    ),
    "after [DONE]": saying(SSE, chunk(EVENT), chunk(b"data: [DONE]\n\n"), closes=True),
}


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_stream_is_seen_as_cut_by_h11_and_sockets(tmp_path: Path, name: str) -> None:
    async with scripted(CUT[name]) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(headers=KEY, stream=True))
            found = await client.read_to_close()
        answer = found.only()
        assert answer.status == 200
        assert not answer.is_whole
        assert not found.data.endswith(b"0\r\n\r\n")
        assert EVENT in answer.body
        await come_to_rest(harness)
        (event,) = harness.events()
        assert event["cost_nano_usd"] > 0
        assert event["completion_tokens"] >= 1
        assert event["outcome"] == "truncated"


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_stream_is_an_error_to_aiohttp(tmp_path: Path, name: str) -> None:
    """To the SDKs: tests/sdk/test_sdk_broken_streams.py."""
    async with (
        scripted(CUT[name]) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
        ClientSession() as session,
    ):
        with pytest.raises(ClientError):
            async with session.post(
                f"{harness.url}/v1/chat/completions",
                json=CHAT | {"stream": True},
                headers={"Authorization": f"Bearer {ACME_KEY}"},
            ) as answer:
                await answer.read()


WHOLE_CUT: dict[str, Answering] = {
    "length, FIN": saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + JSON_BODY, closes=True
    ),
    "length, RST": saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n", JSON_BODY, resets=True
    ),
    "chunked": saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(JSON_BODY), closes=True
    ),
    "no answer": saying(closes=True),
    "RST": saying(resets=True),
    "half a head": saying(b"HTTP/1.1 200 OK\r\nContent-Ty", closes=True),
    "not HTTP": saying(b"SSH-2.0-OpenSSH_9.6\r\n", closes=True),
    "switch": saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "endless 1xx": saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50),
}


@pytest.mark.parametrize("name", WHOLE_CUT)
async def test_a_cut_answer_without_a_stream_is_a_502(tmp_path: Path, name: str) -> None:
    async with scripted(WHOLE_CUT[name]) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        answer = await ask(harness.port, chat())
        assert answer.status == 502
        assert answer.is_whole
        assert answer.code in {"upstream_invalid_response", "upstream_unreachable"}
        await come_to_rest(harness)
        assert len(upstream.heads) == 1  # never repeated: it may have been billed
        assert len(harness.events()) == 1
        assert harness.metrics.counted[UPSTREAM_ERRORS]


async def test_a_redirect_is_relayed_and_not_followed(tmp_path: Path) -> None:
    async with scripted(saying(whole())) as canary:
        moved = whole(b"{}", b"Location: " + canary.url.encode() + b"/v1/chat/completions", status=b"302 Found")
        async with scripted(saying(moved)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
            answer = await ask(harness.port, chat())
            assert answer.status == 302
            assert canary.connections == 0
            (event,) = harness.events()
            assert event["cost_nano_usd"] == 0


async def test_a_compressed_answer_is_relayed_as_it_is_and_read(tmp_path: Path) -> None:
    packed = gzip.compress(JSON_BODY)
    answering = saying(whole(packed, b"Content-Encoding: gzip"))
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        answer = await ask(harness.port, chat())
        assert answer.header("content-encoding") == "gzip"
        assert answer.body == packed
        (event,) = harness.events()
        assert (event["usage_source"], event["prompt_tokens"], event["completion_tokens"]) == ("upstream", 11, 3)


async def test_an_answer_that_cannot_be_decoded_costs_the_most_that_it_can_have_used(tmp_path: Path) -> None:
    packed = b"\x0b\x02\x80" + b"x" * 40
    answering = saying(whole(packed, b"Content-Encoding: br"))
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        most = 16_000  # more than can be generated in the time that the answer took
        for body in (CHAT | {"max_tokens": most}, CHAT | {"max_tokens": most, "stream": True}):
            answer = await ask(harness.port, chat(body))
            assert (answer.header("content-encoding"), answer.body) == ("br", packed)
        first, second = harness.events()
        for event in (first, second):
            assert (event["usage_source"], event["completion_tokens"]) == ("assumed", most)
            assert {"undecoded", "assumed", "uncertain"} <= set(event["flags"])
        window = await harness.window()
        assert window.held_nano_usd == 0


async def test_an_answer_of_a_type_that_is_not_read_is_at_least_as_long_as_its_bytes(tmp_path: Path) -> None:
    answering = saying(whole(b"word " * 80, content_type=b"text/plain"))
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        assert (await ask(harness.port, chat())).body == b"word " * 80
        (event,) = harness.events()
        assert (event["usage_source"], event["completion_tokens"]) == ("assumed", 100)  # above its maximum: nothing is added
        assert {"assumed", "uncertain", "unread"} <= set(event["flags"])


async def test_a_json_answer_that_breaks_off_costs_at_least_what_had_come(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun = b'{"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word " * 80
    answering = saying(head, chunk(begun), closes=True)
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        assert (await ask(harness.port, chat())).status == 502
        await come_to_rest(harness)
        (event,) = harness.events()
        assert event["usage_source"] == "assumed"
        assert 80 <= event["completion_tokens"] <= 82  # above its maximum: nothing is added


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


async def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)  # piece by piece: the test itself must not hold what it must not see
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    answering = saying(whole(bomb, b"Content-Encoding: gzip"))
    async with scripted(answering) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        await ask(harness.port, chat(headers=BIG))
        before = resident_kib()
        answers = [await ask(harness.port, chat(headers=BIG)) for _ in range(3)]
        assert all(answer.body == bomb for answer in answers)
        assert resident_kib() - before < 20_000  # the client's copies included; one unpacked answer would be 300,000


async def test_interim_answers_are_left_out(tmp_path: Path) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </CANARY>\r\n\r\n"
    async with scripted(saying(interim + whole())) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        answer = await ask(harness.port, chat())
        assert (answer.status, answer.body) == (200, JSON_BODY)
        assert "CANARY" not in str(answer.headers)


@pytest.mark.parametrize("apart", [False, True])
async def test_an_answer_nobody_asked_for_reaches_nobody(tmp_path: Path, apart: bool) -> None:
    unasked = whole(b'{"CANARY":1}')
    pieces = [whole(), unasked] if apart else [whole() + unasked]
    async with scripted(saying(*pieces)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        for _ in range(3):
            answer = await ask(harness.port, chat())
            assert (answer.status, answer.body) == (200, JSON_BODY)
            await asyncio.sleep(0.05)
        assert upstream.connections == 3  # none was used again


async def test_an_upstream_that_closes_between_requests_costs_no_error(tmp_path: Path) -> None:
    async with scripted(saying(whole(), closes=True)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
        for _ in range(5):
            assert (await ask(harness.port, chat())).status == 200
            await asyncio.sleep(0.02)
        assert len(harness.events()) == 5


TIMEOUTS: dict[str, Any] = {"upstreams": {"upstreams": {"default": {"first_byte_timeout": "300ms", "idle_timeout": "300ms"}}}}
SILENT: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": asking("fault=stall"),
    "/v1/messages": {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "[[sim fault=stall]] Hi"}],
    },
    "/v1beta/models/gemini-2.5-flash:generateContent": {"contents": [{"parts": [{"text": "[[sim fault=stall]] Hi"}]}]},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "[[sim fault=stall]] Hi"},
}
MOST = dict(zip(SILENT, (50, 9, 65_536, 16_384), strict=True))  # the request's own maximum, else the model's


@pytest.mark.parametrize("path", SILENT)
async def test_a_silent_upstream_is_a_504_and_costs_what_it_may_still_generate(tmp_path: Path, path: str) -> None:
    async with running_gateway(tmp_path, config=TIMEOUTS) as harness:
        answer = await ask(harness.port, chat(SILENT[path], headers=BIG, path=path))
        assert answer.status == 504
        error = json.loads(answer.body)["error"]
        assert error["message"]
        assert ("status" in error) == (":" in path)
        await come_to_rest(harness)
        (event,), (served,) = harness.events(), harness.ledger.records
        assert event["completion_tokens"] == MOST[path]
        assert served.prompt_tokens <= event["prompt_tokens"] <= 2 * served.prompt_tokens  # counted: only OpenAI's are exact
        assert event["cost_nano_usd"] > 0
        assert {"assumed", "uncertain"} <= set(event["flags"])
        assert served.cancelled_at_ms


async def test_an_upstream_that_stops_in_mid_stream_is_cut_with_a_word(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=TIMEOUTS) as harness:
        async with connected(harness.port) as client:
            await client.send(chat(asking("tokens=20 fault=stall at=6"), stream=True))
            answer = (await client.read_to_close()).only()
        assert not answer.is_whole
        assert b'"error"' in answer.body.split(b"\n\n")[-2]
        await come_to_rest(harness)
        (event,), (served,) = harness.events(), harness.ledger.records
        assert 4 <= event["completion_tokens"] <= served.generated_tokens


async def test_a_connection_serves_on_after_each_upstream_failure(tmp_path: Path) -> None:
    """What the client sees whole keeps its connection; the next exchange on it is its own."""
    async with running_gateway(tmp_path, config=TIMEOUTS) as harness, connected(harness.port) as client:
        for directive, status in (("fault=status:500", 500), ("fault=drop", 502), ("fault=stall", 504), ("tokens=3", 200)):
            await client.send(chat(asking(directive)))
            answer = await read_one(client.reader)
            assert answer.status == status
        await come_to_rest(harness)
        assert len(harness.events()) == 4


async def read_one(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return Answer(int(head.split()[1]), (), await reader.readexactly(length), is_whole=True)
