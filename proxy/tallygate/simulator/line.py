"""The connection of one response: it counts the bytes, and can break off as real networks do."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from tallygate.simulator.ledger import Served

LINGER_NONE: Final = struct.pack("ii", 1, 0)  # closing sends RST and drops what is still unsent


class Line:
    """One response on its connection. `raw` and `cut` bypass the HTTP framing; after `cut` nothing more can be sent."""

    def __init__(self, request: web.Request, record: Served) -> None:
        self._request = request
        self._record = record
        self.response: web.StreamResponse | None = None

    async def open(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """Send the head. length None: chunked."""
        self._record.status = status
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        self.response = response
        await response.prepare(self._request)

    async def send(self, data: bytes) -> None:
        """Send one piece of the body, as one chunk if the body is chunked. Raises ConnectionError if the client has left."""
        if self.response is None:
            raise RuntimeError("the response has no head yet")
        if self._request.method == "HEAD":
            return
        await self.response.write(data)
        self._record.response_bytes += len(data)

    async def finish(self, *, whole: bool = True) -> web.StreamResponse:
        """End the response in good order. whole: with everything that it promised."""
        if self.response is None:
            raise RuntimeError("the response has no head yet")
        await self.response.write_eof()
        self._record.completed = whole
        return self.response

    def raw(self, data: bytes) -> None:
        """Write bytes straight to the socket, after everything sent so far."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(data)

    async def cut(self, how: str) -> None:
        """End the connection: "fin" delivers what was written and then closes, "rst" resets it once that has left."""
        transport = self._request.transport
        if transport is None:
            return
        if how == "fin":
            transport.close()
            return
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for it
            await asyncio.sleep(0)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        transport.abort()

    def nothing_more(self) -> web.StreamResponse:
        """The response that a handler returns after a cut; the server writes it to the closed connection."""
        return self.response or web.Response(status=500)
