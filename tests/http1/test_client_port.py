"""The orderly end of a port: nobody who could not know is turned away, and whoever is under way is served."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from gateway_harness import TIMEOUTS

from tallygate.http1 import client_port
from tallygate.http1.client_port import ClientPort

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
WAIT_S = 10.0  # for what happens at once


class Served:
    """A port that answers with the length of what it was sent. hold: answers wait for it."""

    def __init__(self) -> None:
        self.hold = asyncio.Event()
        self.hold.set()
        self.begun = asyncio.Event()
        self.port = ClientPort(
            connections_max=10,
            timeouts=TIMEOUTS,
            answer_fault=lambda fault: web.Response(status=fault.status),
            head_bytes_max=1_000,
            access_log=None,
        )
        self.address = ("127.0.0.1", 0)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        self.begun.set()
        try:
            body = await request.read()
            await self.hold.wait()
            response = web.Response(text=str(len(body)))
            if connection.is_last:
                response.force_close()
            return response
        finally:
            connection.end_exchange()

    def draining(self, grace_s: float) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self.port.drain(grace_s, is_busy=self.port.is_answering))


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    it = Served()
    server = web.Server(it.handle)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    it.address = sock.getsockname()
    await it.port.open(server, sock)
    try:
        yield it
    finally:
        it.port.close()
        await server.shutdown(0)


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


@pytest.fixture(autouse=True)
def _lingers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_port, "LINGER_S", 3600.0)


async def test_an_idle_connection_brings_a_last_request_while_the_port_drains() -> None:
    async with served() as it:
        reader, writer = await asyncio.open_connection(*it.address)
        writer.write(GET)
        assert b"connection: close" not in (await answer(reader)).lower()
        draining = it.draining(3600)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*it.address)
        writer.write(GET)
        assert b"connection: close" in (await answer(reader)).lower()
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
            await draining
        writer.close()


async def test_a_body_that_is_still_coming_when_the_port_drains_comes_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_port, "LINGER_S", 0.0)
    async with served() as it:
        reader, writer = await asyncio.open_connection(*it.address)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
        await asyncio.wait_for(it.begun.wait(), WAIT_S)
        draining = it.draining(3600)
        while not all(connection.is_last for connection in it.port.connections):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # two looks: it is past closing whoever is idle
        writer.write(b"def")
        assert (await answer(reader)).endswith(b"\r\n\r\n6")
        async with asyncio.timeout(WAIT_S):
            await draining
        writer.close()


async def test_who_stays_idle_is_closed_and_who_is_busy_past_the_grace_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_port, "LINGER_S", 0.0)
    async with served() as it:
        idle, idle_writer = await asyncio.open_connection(*it.address)
        while not it.port.connections:
            await asyncio.sleep(0)
        it.hold.clear()
        _, busy_writer = await asyncio.open_connection(*it.address)
        busy_writer.write(GET)
        await asyncio.wait_for(it.begun.wait(), WAIT_S)
        async with asyncio.timeout(WAIT_S):
            await it.draining(0.05)
            assert await idle.read() == b""
        assert it.port.is_answering()
        it.hold.set()
        for writer in (idle_writer, busy_writer):
            writer.close()
