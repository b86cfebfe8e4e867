"""A raw-socket server whose connections follow a script: the test decides every byte and every close."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tallygate.config.model import Upstream
from tallygate.http1.request_head import build_request_head
from tallygate.http1.upstream_pool import UpstreamPool

FAIL_SAFE_S = 20  # only keeps a broken test from hanging


@dataclass
class Peer:
    """One accepted connection, seen from the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> bytes:
        """The next request, head and body by Content-Length; b"" when the connection ended."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return head + await self.reader.readexactly(int(line[15:]))
        return head

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a write of its own, with turns of the loop between them."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(3):
                await asyncio.sleep(0)

    async def until_closed(self) -> None:
        """Wait for the gateway's close or reset."""
        async with asyncio.timeout(FAIL_SAFE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    def reset(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class ScriptedUpstream:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.port = 0
        self.errors: list[BaseException] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader=reader, writer=writer, number=len(self.peers))
        self.peers.append(peer)
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            peer.closed.set()
            writer.close()


@contextlib.asynccontextmanager
async def an_upstream(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(script)
    server = await asyncio.start_server(upstream.accept, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(60):
            yield upstream
        assert not upstream.errors, upstream.errors
    finally:
        server.close()
        for peer in upstream.peers:
            if not peer.writer.is_closing():
                peer.writer.transport.abort()
            peer.reader.feed_eof()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def a_pool(
    upstream: ScriptedUpstream | int, *, host: str = "127.0.0.1", scheme: str = "http", **options
) -> AsyncIterator[UpstreamPool]:
    port = upstream if isinstance(upstream, int) else upstream.port
    named = {name: options.pop(name) for name in ("ssl_context", "clock") if name in options}
    config = Upstream(name="scripted", base_url=f"{scheme}://{host}:{port}", **options)
    pool = UpstreamPool(config, loop=asyncio.get_running_loop(), **named)
    try:
        yield pool
    finally:
        pool.close()
        for connection in list(pool._open):
            connection.abort()
        async with asyncio.timeout(FAIL_SAFE_S):
            await pool.wait_closed()


def a_head(method: str = "POST", **framing) -> bytes:
    return build_request_head(method, "/v1/chat/completions", "upstream.test", [(b"Accept", b"*/*")], **framing)


def answering(*answers: bytes, then_close: bool = False) -> Script:
    """Answer each request of a connection with the next of `answers`, the last for ever."""

    async def script(peer: Peer) -> None:
        number = 0
        while await peer.request():
            await peer.send(answers[min(number, len(answers) - 1)])
            number += 1
            if then_close and number == len(answers):
                return

    return script
