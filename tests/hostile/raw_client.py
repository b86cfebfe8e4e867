"""A client that sends bytes, whatever they are, and reads what comes back."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
from gateway_harness import ACME_KEY, BIG_KEY

CANARIES = ("acmesecret", "bigsecret", "CANARY")
KEY = f"Authorization: Bearer {ACME_KEY}\r\n".encode()
BIG = f"Authorization: Bearer {BIG_KEY}\r\n".encode()  # of a plan without tight limits
CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=7]] Hello there"}]}
QUIET_SECONDS = 0.25  # after an answer without a close: long enough for a second one that should not come


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. is_whole False: it was cut inside."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that came back over one connection. is_closed: the server ended it, cleanly or (is_reset) not."""

    data: bytes
    is_closed: bool
    is_reset: bool

    def answers(self, method: bytes = b"GET") -> list[Answer]:
        """The responses in `data`, read by h11: a parser that shares nothing with ours."""
        return list(parse(self.data, method, is_closed=self.is_closed))

    def only(self, method: bytes = b"POST") -> Answer:
        (answer,) = self.answers(method)
        return answer


def parse(data: bytes, method: bytes, *, is_closed: bool) -> list[Answer]:
    found: list[Answer] = []
    while data:
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if is_closed:
            client.receive_data(b"")
        head: h11.Response | None = None
        is_interim = False
        body = b""
        is_whole = False
        try:
            while True:
                event = client.next_event()
                if isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.InformationalResponse):
                    is_interim = True
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    is_whole = True
                    break
                elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError:
            if head is None and not is_interim:
                raise
        if head is None:
            break
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
        found.append(Answer(head.status_code, headers, body, is_whole))
        rest = bytes(client.trailing_data[0])
        if not is_whole or len(rest) >= len(data):
            break
        data = rest
    return found


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_to_close(self, seconds: float = 10.0) -> Conversation:
        """All that comes until the server closes; fails if it does not."""
        data = bytearray()
        async with asyncio.timeout(seconds):
            try:
                while part := await self.reader.read(1 << 16):
                    data += part
            except ConnectionError:
                return Conversation(bytes(data), is_closed=True, is_reset=True)
        return Conversation(bytes(data), is_closed=True, is_reset=False)

    async def read(self, quiet_seconds: float = QUIET_SECONDS) -> Conversation:
        """All that comes until the server closes or has been quiet for a while."""
        data = b""
        try:
            while True:
                async with asyncio.timeout(quiet_seconds if not data else min(quiet_seconds, QUIET_SECONDS)):
                    part = await self.reader.read(1 << 16)
                if not part:
                    return Conversation(data, is_closed=True, is_reset=False)
                data += part
        except TimeoutError:
            return Conversation(data, is_closed=False, is_reset=False)
        except ConnectionError:
            return Conversation(data, is_closed=True, is_reset=True)

    async def read_until(self, mark: bytes, seconds: float = 10.0) -> bytes:
        async with asyncio.timeout(seconds):
            return await self.reader.readuntil(mark)

    def reset(self) -> None:
        """Leave at once, with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port: int, *, receive_buffer: int = 0) -> AsyncIterator[RawClient]:
    """receive_buffer: of the kernel, in bytes; a small one makes a client that does not read felt soon."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 14 if receive_buffer else 1 << 20)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


async def converse(port: int, *pieces: bytes, quiet_seconds: float = 5.0) -> Conversation:
    """Send the pieces, one read apart, and return what came back."""
    async with connected(port) as client:
        try:
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(0.02)
                await client.send(piece)
        except ConnectionError:
            pass  # refused before its end
        return await client.read(quiet_seconds)


async def ask(port: int, request: bytes) -> Answer:
    """The answer to one request, over a connection that ends after it."""
    async with connected(port) as client:
        await client.send(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        return (await client.read_to_close(30)).only()


def chat(body: Any = None, *, headers: bytes = KEY, path: str = "/v1/chat/completions", stream: bool = False) -> bytes:
    """A whole, valid request. body: JSON, or bytes as they are; None: CHAT."""
    content = CHAT if body is None else body
    if stream:
        content = content | {"stream": True}
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n".encode()
        + headers
        + b"\r\n"
        + raw
    )


def asking(directive: str, **members: Any) -> dict[str, Any]:
    """A chat request whose answer the simulator shapes."""
    return CHAT | {"messages": [{"role": "user", "content": f"[[sim {directive}]] Hello there"}]} | members
