"""Clients that are slow on purpose are cut off in time, and others are served meanwhile. Deadlines here are tenths of a second."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from at_rest import come_to_rest, until_accepted
from gateway_harness import TIMEOUTS, Harness, running_gateway
from raw_client import BIG, KEY, RawClient, asking, chat, connected, converse

from tallygate.http1 import client_port
from tallygate.http1.client_connection import ClientTimeouts

QUICK = ClientTimeouts(head=0.3, idle=0.4, body_grace=0.3, body_bytes_per_second=1_000, write=0.4)
LONG = ClientTimeouts(head=60, idle=60, body_grace=60, body_bytes_per_second=1, write=60)
START = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n" + KEY
CUT_SECONDS = 15.0  # a generous bound for a machine under load; the deadlines are a fiftieth of it


@pytest.fixture(autouse=True)
def _reaps_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_port, "REAP_EVERY_S", 0.05)


async def trickle(client: RawClient, start: bytes, piece: bytes) -> None:
    """Send a piece now and then until the gateway has had enough."""
    async with asyncio.timeout(CUT_SECONDS):
        await client.send(start)
        reading = asyncio.ensure_future(client.read_to_close(CUT_SECONDS))
        while not reading.done():
            try:
                await client.send(piece)
            except ConnectionError:
                break
            await asyncio.wait({reading}, timeout=0.05)
        assert (await reading).is_closed


SLOW = {
    "silent": (b"", b""),
    "blank lines": (b"", b"\r\n"),
    "slow request line": (b"GET /", b"a"),
    "slow headers": (b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n", b"X-A: b\r\n"),
    "slow header value": (b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nX-A: ", b"a"),
    "no body": (START + b"Content-Length: 1000\r\n\r\n", b""),
    "slow body": (START + b"Content-Length: 1000\r\n\r\n", b" "),
    "slow chunks": (START + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "slow chunk size": (START + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "slow chunk extension": (START + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "slow trailers": (START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "slow body that streams through": (
        b"POST /ai/data/v1/search HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n" + KEY + b"\r\n",
        b" ",
    ),
    "slow body of a refused request": (START.replace(b"acmesecret", b"wrong") + b"Content-Length: 1000\r\n\r\n", b" "),
    "waits for 100": (START + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", SLOW)
async def test_a_slow_request_is_cut_off_while_others_are_served(tmp_path: Path, name: str) -> None:
    async with running_gateway(tmp_path, timeouts=QUICK) as harness, connected(harness.port) as client:
        start, piece = SLOW[name]
        ending = asyncio.ensure_future(trickle(client, start, piece))
        assert (await converse(harness.port, chat())).only().status == 200
        await ending
        await come_to_rest(harness)

        assert harness.ledger.totals.accepted == 1
        assert len([event for event in harness.events() if event["cost_nano_usd"]]) == 1


async def test_patience_is_what_is_configured(tmp_path: Path) -> None:
    """The control: with long deadlines none of these is cut off in the time in which the others were."""
    async with running_gateway(tmp_path, timeouts=LONG) as harness:

        async def stays(start: bytes, piece: bytes) -> bool:
            async with connected(harness.port) as client:
                await client.send(start)
                for _ in range(20):
                    await client.send(piece)
                    await asyncio.sleep(0.05)
                return not (await client.read(0.1)).is_closed

        stayed = await asyncio.gather(*[stays(*SLOW[name]) for name in SLOW if name != "slow chunk size"])
        assert all(stayed)


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, timeouts=QUICK) as harness, connected(harness.port) as client:
        for _ in range(4):
            await client.send(chat())
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")
            await client.read(0.15)
        await client.read_to_close(CUT_SECONDS)


async def test_a_connection_is_not_cut_off_for_a_body_that_came_after_its_refusal(tmp_path: Path) -> None:
    """Bytes of a body that nobody reads are no head of a next request."""
    timeouts = replace(TIMEOUTS, head=0.5, idle=60)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\n\r\n"
    async with running_gateway(tmp_path, timeouts=timeouts) as harness, connected(harness.port) as client:
        await client.send(head)
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 401")
        await asyncio.sleep(0.05)
        await client.send(b"x" * 10)
        await asyncio.sleep(1.0)
        await client.read(0.1)
        await client.send(chat())
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_long_body_at_a_good_rate_is_not_taken_for_a_slow_head(tmp_path: Path) -> None:
    timeouts = replace(TIMEOUTS, head=0.2, idle=60, body_grace=0.2, body_bytes_per_second=100)
    raw = chat(asking("tokens=3"))
    head, _, body = raw.partition(b"\r\n\r\n")
    padded = body + b" " * 3_000
    head = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(padded))
    async with running_gateway(tmp_path, timeouts=timeouts) as harness, connected(harness.port) as client:
        await client.send(head + b"\r\n\r\n")
        for start in range(0, len(padded), 200):
            await client.send(padded[start : start + 200])
            await asyncio.sleep(0.08)
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_client_that_never_reads_a_stream_stops_the_upstream_and_is_cut_off(tmp_path: Path) -> None:
    """Backpressure reaches the upstream, memory stays bounded, the write timeout ends it, and what was generated is paid."""
    request = chat(asking("tokens=400000", max_tokens=400_000), headers=BIG, stream=True)
    async with running_gateway(tmp_path, timeouts=replace(TIMEOUTS, write=1.5)) as harness:
        async with connected(harness.port, receive_buffer=4_096) as client:
            await client.send(request)
            served = await served_bytes_settle(harness)
            assert served < 30_000_000  # of some 80 MB; what the kernel's buffers hold is not ours to say
            await come_to_rest(harness, seconds=CUT_SECONDS)
        (event,) = harness.events()
        (record,) = harness.ledger.records
        assert event["outcome"] == "client_gone"
        assert 0 < event["completion_tokens"] <= record.generated_tokens < 400_000
        assert event["prompt_tokens"] == record.prompt_tokens


async def served_bytes_settle(harness: Harness) -> int:
    """Wait until the simulator gets rid of no more bytes."""
    async with asyncio.timeout(30):
        last = -1
        while True:
            await asyncio.sleep(0.2)
            now = sum(record.response_bytes for record in harness.ledger.records)
            if now and now == last:
                return now
            last = now


async def test_a_client_that_pauses_gets_the_whole_stream(tmp_path: Path) -> None:
    request = chat(asking("tokens=60000", max_tokens=60_000), headers=BIG, stream=True)
    async with running_gateway(tmp_path) as harness, connected(harness.port, receive_buffer=4_096) as client:
        await client.send(request)
        stopped_at = await served_bytes_settle(harness)
        assert harness.ledger.totals.completed == 0
        body = await read_all(client)

        assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert len(body) > stopped_at
        (event,) = harness.events()
        assert (event["completion_tokens"], event["usage_source"], event["outcome"]) == (60_000, "upstream", "success")


async def read_all(client: RawClient) -> bytes:
    data = bytearray()
    async with asyncio.timeout(60):
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += await client.reader.read(1 << 16)
    return bytes(data)


async def test_a_client_that_takes_nothing_of_a_closed_connection_is_forgotten(tmp_path: Path) -> None:
    """An answer that is still in our buffers when the connection is to be closed does not keep the connection for ever."""
    wanted = chat(asking("tokens=60000", max_tokens=60_000), headers=BIG + b"Connection: close\r\n", stream=True)
    timeouts = replace(TIMEOUTS, write=0.5)
    async with running_gateway(tmp_path, timeouts=timeouts) as harness, connected(harness.port, receive_buffer=4_096) as client:
        await client.send(b"\r\n")
        async with asyncio.timeout(CUT_SECONDS):
            while not harness.gateway.port.connections:
                await asyncio.sleep(0.01)
        (connection,) = harness.gateway.port.connections
        connection.transport.set_write_buffer_limits(high=1 << 30)  # so that the end comes without a pause
        await client.send(wanted)
        await until_accepted(harness)
        await come_to_rest(harness, seconds=30.0)
        assert harness.events()[0]["outcome"] == "success"
        async with asyncio.timeout(CUT_SECONDS):
            while harness.gateway.port.connections:
                await asyncio.sleep(0.02)


async def test_five_hundred_slow_clients_leave_the_gateway_to_the_others(tmp_path: Path) -> None:
    kinds = [SLOW[name] for name in ("silent", "slow headers", "slow body", "slow chunks", "slow body of a refused request")]
    # short, but longer than five hundred clients and the gateway may keep one another, in one process, from their turn
    timeouts = ClientTimeouts(head=3.0, idle=3.0, body_grace=3.0, body_bytes_per_second=1_000, write=3.0)
    async with running_gateway(tmp_path, timeouts=timeouts) as harness:

        async def be_slow(number: int) -> bool:
            start, piece = kinds[number % len(kinds)]
            async with connected(harness.port) as client:
                reading = asyncio.ensure_future(client.read_to_close(60.0))
                try:
                    await client.send(start)
                    while not reading.done():
                        await asyncio.wait({reading}, timeout=0.4)
                        await client.send(piece)
                except ConnectionError:
                    pass
                return (await reading).is_closed

        slow = [asyncio.ensure_future(be_slow(number)) for number in range(500)]
        served = 0
        while not all(one.done() for one in slow):
            served += (await converse(harness.port, chat(headers=BIG))).only().status == 200
        assert all(await asyncio.gather(*slow))
        assert served >= 3
        await come_to_rest(harness)
        assert len(harness.gateway.port.connections) <= 1
        assert harness.ledger.totals.accepted == served


async def test_connections_are_bounded_and_a_place_that_frees_is_used(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, connections_max=5) as harness:
        clients = [connected(harness.port) for _ in range(5)]
        opened = [await client.__aenter__() for client in clients]
        async with asyncio.timeout(5):
            while len(harness.gateway.port.connections) < 5:
                await asyncio.sleep(0.005)
        found = await converse(harness.port, chat())
        assert (found.data, found.is_closed) == (b"", True)
        await opened[0].send(chat())
        assert (await opened[0].read_until(b"\r\n")).startswith(b"HTTP/1.1 200")
        await clients[1].__aexit__(None, None, None)
        async with asyncio.timeout(5):
            while len(harness.gateway.port.connections) == 5:
                await asyncio.sleep(0.005)
        assert (await converse(harness.port, chat())).only().status == 200
        for client in (clients[0], *clients[2:]):
            await client.__aexit__(None, None, None)


async def test_half_open_heads_make_room_for_whoever_sends_a_whole_one(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, connections_max=20, timeouts=LONG) as harness, AsyncExitStack() as stack:
        for _ in range(60):
            half = await stack.enter_async_context(connected(harness.port))
            await half.send(START)
        assert (await converse(harness.port, chat())).only().status == 200
        assert len(harness.gateway.port.connections) <= 20
