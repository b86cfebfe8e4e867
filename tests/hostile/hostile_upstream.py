"""An upstream that answers with the bytes it is given, and remembers the requests that came, as bytes."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]

JSON_BODY = (
    b'{"id":"x","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"one two three"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}'
)


@dataclass
class ScriptedUpstream:
    """connections counts those that were accepted; closed those that have ended."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    closed: int = 0

    def header_names(self) -> list[str]:
        lines = self.heads[-1].split(b"\r\n")[1:-2]
        return sorted(line.partition(b":")[0].decode().lower() for line in lines)

    def header(self, name: str) -> str | None:
        for line in self.heads[-1].split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.decode().lower() == name:
                return value.strip().decode("latin-1")
        return None


def whole(body: bytes = JSON_BODY, *headers: bytes, status: bytes = b"200 OK", content_type: bytes = b"application/json") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Type: " + content_type, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def saying(*pieces: bytes, closes: bool = False, resets: bool = False) -> Answering:
    """An answer written in these pieces; then the connection is kept, closed, or reset."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        if resets:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif closes:
            writer.close()

    return answer


@contextlib.asynccontextmanager
async def scripted(answering: Answering) -> AsyncIterator[ScriptedUpstream]:
    """Serve until the block ends. Requests must have a Content-Length or no body."""
    upstream = ScriptedUpstream()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                upstream.heads.append(head)
                length = upstream.header("content-length")
                upstream.bodies.append(await reader.readexactly(int(length)) if length else b"")
                await answering(writer)
        upstream.closed += 1
        writer.close()
        writers.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        async with asyncio.timeout(5):
            while writers:
                for writer in list(writers):
                    writer.transport.abort()
                await asyncio.sleep(0.005)
