"""Compressed bodies at the door: decoded, metered as what they are, forwarded plain; bombs and damage end there."""

import asyncio
import gzip
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from at_rest import come_to_rest
from backports import zstd
from gateway_harness import LIMITS, running_gateway
from raw_client import BIG, CHAT, chat, connected, converse

LONG = CHAT | {"messages": [{"role": "user", "content": "".join(f"{number} " for number in range(60_000))}]}


def coded(body: bytes, coding: str, *, path: str = "/v1/chat/completions", more: bytes = b"") -> bytes:
    return chat(body, headers=BIG + f"Content-Encoding: {coding}\r\n".encode() + more, path=path)


@pytest.mark.parametrize("wanted", [CHAT, LONG], ids=["small", "long"])
async def test_a_coded_body_costs_what_it_costs_plain_and_goes_up_plain(tmp_path: Path, wanted: dict[str, object]) -> None:
    raw = json.dumps(wanted).encode()
    bodies = {
        "gzip": gzip.compress(raw),
        "x-gzip": gzip.compress(raw),
        "deflate": zlib.compress(raw),
        "zstd": zstd.compress(raw),
        "zstd, gzip": gzip.compress(zstd.compress(raw)),
        "identity": raw,
    }
    async with running_gateway(tmp_path) as plain:
        for coding, body in bodies.items():
            answer = (await converse(plain.port, coded(body, coding))).only()
            assert answer.status == 200, (coding, answer.body)
        await plain.at_rest()
        events = plain.events()
        assert {(event["prompt_tokens"], event["cost_nano_usd"], event["request_bytes"]) for event in events} == {
            (events[0]["prompt_tokens"], events[0]["cost_nano_usd"], len(raw))
        }
        await come_to_rest(plain)


async def test_what_goes_up_has_the_length_of_the_decoded_body_and_no_coding(tmp_path: Path) -> None:
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def keep(request: web.Request) -> web.Response:
        seen.append((await request.read(), {name.lower(): value for name, value in request.headers.items()}))
        return web.json_response({"id": "file-1", "object": "file"})

    application = web.Application()
    application.router.add_post("/{rest:.*}", keep)
    raw = json.dumps(CHAT).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
    as_form = b"Content-Type: multipart/form-data; boundary=b\r\n"
    async with TestServer(application) as upstream, running_gateway(tmp_path, upstream_url=str(upstream.make_url(""))) as harness:
        await converse(harness.port, coded(gzip.compress(raw), "gzip"))
        request = coded(gzip.compress(form), "gzip", path="/v1/files").replace(b"Content-Type: application/json\r\n", as_form)
        assert (await converse(harness.port, request)).only().status == 200
    (chatted, chat_headers), (filed, file_headers) = seen
    assert (chatted, filed) == (raw, form)
    assert chat_headers["content-length"] == str(len(raw))
    assert file_headers["transfer-encoding"] == "chunked"
    assert "content-encoding" not in chat_headers | file_headers


async def test_bombs_and_damage_are_refused_and_cost_nothing(tmp_path: Path) -> None:
    raw = json.dumps(CHAT).encode()
    async with running_gateway(tmp_path) as harness:
        for body, coding, status in (
            (gzip.compress(raw + b" " * 30_000_000), "gzip", 413),
            (zstd.compress(raw + b" " * 30_000_000), "zstd", 413),
            (gzip.compress(gzip.compress(raw + b" " * 30_000_000)), "gzip, gzip", 413),
            (gzip.compress(raw)[:-1], "gzip", 400),
            (gzip.compress(raw) + b"more", "gzip", 400),
            (raw, "gzip", 400),
            (raw, "zstd", 400),
            (raw, "deflate", 400),
        ):
            answer = (await converse(harness.port, coded(body, coding))).only()
            assert (answer.status, answer.code) == (status, "request_too_large" if status == 413 else "invalid_request"), coding
        await come_to_rest(harness)
        assert not harness.ledger.records


async def test_the_bound_and_the_budget_count_what_comes_out(tmp_path: Path) -> None:
    raw = json.dumps(CHAT).encode()
    limits = replace(LIMITS, body_bytes_max=400_000, body_budget_bytes=400_000)
    async with running_gateway(tmp_path, limits=limits) as harness:
        for size, status in ((400_000, 503), (400_001, 413), (300_000, 200)):
            answer = (await converse(harness.port, coded(gzip.compress(raw.ljust(size)), "gzip"))).only()
            assert answer.status == status, answer.body
        request = coded(gzip.compress(raw.ljust(250_000)), "gzip")
        async with asyncio.timeout(20), connected(harness.port) as holding:
            await holding.send(request[:-8])  # all but gzip's check
            while harness.gateway.pipeline.entrance.body_bytes < 250_000:
                await asyncio.sleep(0.005)
        await come_to_rest(harness)
        assert not harness.gateway.pipeline.entrance.body_bytes
