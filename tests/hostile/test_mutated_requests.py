"""Valid requests with random damage: no error of ours, no traceback, nothing upstream that was not authorised and metered.

Each case is a function of its number: a failure names it, and `mutated(number)` gives its bytes again.
"""

import asyncio
import json
import os
from pathlib import Path
from random import Random

import pytest
from at_rest import come_to_rest
from gateway_harness import Harness, running_gateway
from raw_client import BIG, CHAT, chat, connected, parse
from search import cases

from tallygate.http1.client_connection import ClientTimeouts

CASES = 1_000_000 if os.environ.get("TALLYGATE_FULL") else cases(short=1_000, steady=5_000, deep=20_000)
BATCH = 500
TOGETHER = 60
FRAGMENTS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b" ",
        b"\t",
        b":",
        b";",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"%00",
        b"%2e%2e/",
        b"//",
        b"\xff\xfe",
        b"\\",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: x\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"GET ",
        b"POST ",
        b"HEAD ",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\u0000",
        b"-1",
    ),
    *(b"99999999999999999999", b"null", b"1e999", b'"stream":true,', b'"n":3,', b'"model":"x",', b"a" * 300, b"[" * 100),
)
SHORT = ClientTimeouts(head=0.2, idle=0.2, body_grace=0.2, body_bytes_per_second=100_000, write=1.0)


def valid(random: Random) -> bytes:
    """One of several requests that a client could send."""
    kind = random.randrange(7)
    if kind == 0:
        return b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n" + BIG + b"\r\n"
    if kind == 1:
        raw = json.dumps(CHAT).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n" + BIG + b"\r\n"
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw)
    if kind == 2:
        return chat(headers=BIG, stream=True)
    if kind == 3:
        message = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "[[sim tokens=3]] Hi"}]}
        return chat(message, headers=BIG.replace(b"Authorization: Bearer", b"x-api-key:"), path="/v1/messages")
    if kind == 4:
        content = {"contents": [{"parts": [{"text": "[[sim tokens=3]] Hi"}]}]}
        return chat(content, headers=BIG, path="/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse")
    if kind == 5:
        return chat({"query": "x"}, headers=BIG, path="/ai/data/v1/search")
    return chat(headers=BIG) + chat(headers=BIG)


def mutated(number: int) -> bytes:
    random = Random(number)
    data = bytearray(valid(random))
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del data[at : at + random.choice((1, 1, 2, 10, 100))]
            case 2:
                data[at:at] = random.choice(FRAGMENTS)
            case 3:
                end = at + random.randrange(60)
                data[at:at] = data[at:end]
            case 4:
                del data[at:]
            case _:
                other = random.randrange(len(data) + 1)
                data[at : at + 30], data[other : other + 30] = data[other : other + 30], data[at : at + 30]
        if not data:
            break
    return bytes(data)


async def survive(harness: Harness, number: int) -> None:
    payload = mutated(number)
    async with connected(harness.port) as client:
        try:
            await client.send(payload)
            found = await client.read_to_close(20)
        except ConnectionError:
            return
    is_head = payload.lstrip(b"\r\n").startswith(b"HEAD ")
    for answer in parse(found.data, b"HEAD" if is_head else b"GET", is_closed=True):
        assert answer.status < 500 or answer.status in {501, 505, 508}, (number, answer)
        assert b"bigsecret" not in answer.body, number


@pytest.mark.search
@pytest.mark.timeout(36_000 if os.environ.get("TALLYGATE_FULL") else 120)
async def test_no_mutation_hurts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.http1.client_port.REAP_EVERY_S", 0.05)
    async with running_gateway(tmp_path, timeouts=SHORT) as harness:
        few = asyncio.Semaphore(TOGETHER)

        async def one(number: int) -> None:
            async with few:
                await survive(harness, number)

        for start in range(0, CASES, BATCH):
            async with asyncio.TaskGroup() as group:
                for number in range(start, start + BATCH):
                    group.create_task(one(number))
            await come_to_rest(harness, seconds=20.0)
            events = {event["event_id"] for event in harness.events()}
            assert {record.request_id for record in harness.ledger.records} <= events  # each was authorised and metered
            assert not any(record.has_gateway_key for record in harness.ledger.records)
            assert len(harness.gateway.port.connections) <= TOGETHER
            harness.ledger.reset()
            harness.limiter.events.clear()
        async with connected(harness.port) as client:
            await client.send(chat(headers=BIG))
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")
        await come_to_rest(harness)
