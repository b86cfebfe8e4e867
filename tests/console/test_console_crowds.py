"""Half-open and slow clients of the console's port: nobody is kept out, and all are cut off in time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from gateway_harness import TIMEOUTS

from tallygate.console.readiness import Readiness
from tallygate.console.server import ConsoleServer
from tallygate.http1 import client_port
from tallygate.http1.client_connection import ClientTimeouts

HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
QUICK = ClientTimeouts(head=0.2, idle=0.2, body_grace=0.2, body_bytes_per_second=1_000, write=0.3)
CUT_SECONDS = 10.0


@asynccontextmanager
async def serving(timeouts: ClientTimeouts, connections_max: int) -> AsyncIterator[int]:
    server = ConsoleServer(
        scrape=None,  # type: ignore[arg-type]  # nobody scrapes here
        readiness=Readiness([]),
        token_sha256=None,
        timeouts=timeouts,
        connections_max=connections_max,
    )
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await server.start(sock)
    try:
        yield sock.getsockname()[1]
    finally:
        await server.close()


@asynccontextmanager
async def opened(port: int, data: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


async def health(port: int) -> bytes:
    async with opened(port, HALF + b"Connection: close\r\n\r\n") as reader, asyncio.timeout(CUT_SECONDS):
        return (await reader.read()).split(b"\r\n")[0]


async def test_half_open_heads_keep_nobody_out() -> None:
    async with serving(TIMEOUTS, connections_max=100) as port, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(opened(port, HALF)) for _ in range(250)]
        assert await health(port) == b"HTTP/1.1 200 OK"
        assert readers[0].at_eof() or readers[0].exception() is not None or await readers[0].read() == b""


SLOW = {
    "half a head": HALF,
    "no body": b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
    "a body of a route": b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n ",
}


@pytest.mark.parametrize("name", SLOW)
async def test_a_slow_request_is_cut_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(client_port, "REAP_EVERY_S", 0.05)
    async with serving(QUICK, connections_max=100) as port, opened(port, SLOW[name]) as reader, asyncio.timeout(CUT_SECONDS):
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass


async def test_a_head_without_end_is_refused() -> None:
    endless = HALF + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8_000) for n in range(6))
    async with (
        serving(TIMEOUTS, connections_max=100) as port,
        opened(port, endless) as refused,
        asyncio.timeout(CUT_SECONDS),
    ):
        assert (await refused.read()).split()[1] == b"431"
