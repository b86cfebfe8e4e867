"""The answer to a client, with the gateway's own framing, never the upstream's.

aiohttp's response classes copy headers into a multidict, serialise them and await every write. A relayed stream chunk must not
cost a task switch, so this class writes head and chunks straight to the transport. RFC 9112 section 6: HTTP/1.1 without a known
length is chunked; HTTP/1.0 is closed at the end; a response to HEAD, 204 and 304 have no body.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

from aiohttp import HttpVersion11, web

from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.header import Header, headers_of, names_of, text_of

_STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_BODYLESS: Final = frozenset({204, 304})


class Grant(Protocol):
    """Headers for browsers that are added to every answer to one request."""

    def headers(self, names: Iterable[bytes]) -> list[Header]:
        """Those of an answer with headers of these names."""


class ClientResponse:
    """Write `whole` once, or `start`, any number of `write`, then `finish`. Return it to aiohttp, which finds it written.

    A response that was started and never finished is cut by `abort`, so that it looks truncated.
    """

    def __init__(self, request: web.BaseRequest, *, closes: bool = False, grant: Grant | None = None) -> None:
        """grant: the headers for browsers."""
        self._request_ = request
        self._protocol_ = cast("ClientConnection", request.protocol)
        self._grant = grant
        self._is_chunked = False
        self._has_body = True
        self.is_bodyless = request.method == "HEAD"
        self._has_length = False
        self.is_started = False
        self.is_finished = False
        self._is_kept = not closes and request.keep_alive

    def close_after(self) -> None:
        """Make this the connection's last answer. To be called before its head is written."""
        self._is_kept = False

    def close_if_awaited(self) -> None:
        """Make this the last answer if it replaces `100 Continue`: the client may never send its body."""
        if "Expect" in self._request_.headers and not self._request_.content.is_eof():
            self._is_kept = False

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Write the complete answer at once. lines: those of its headers, but for the framing's."""
        self._send(self._head(status, lines, length=len(body), body=body))
        self.is_finished = True

    def answer_options(self, lines: bytes) -> None:
        """Write the complete answer to an OPTIONS request, without the grant's headers."""
        self._grant = None
        self.whole(204, lines, b"")

    def start(self, status: int, lines: bytes, *, length: int | None = None) -> None:
        """Write the head of an answer whose body follows. length: the exact body length if known; else the body is chunked."""
        self._send(self._head(status, lines, length=length))

    def write(self, data: bytes) -> None:
        """Write body bytes at once. Backpressure is the caller's: the connection notifies it of pause and resume."""
        if not data or not self._has_body:
            return
        transport = self._protocol_.transport
        if transport is not None and not transport.is_closing():  # as `_send`, without its call: for each piece of a stream
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def finish(self, data: bytes = b"") -> None:
        """Write the last body bytes and the end of the message."""
        if self._has_body:
            if self._is_chunked:
                self._send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
            elif data:
                self._send(data)
        self.is_finished = True

    def hand_over(self) -> None:
        """Leave the connection to another protocol, to which it has been switched. It is closed after it."""
        self._is_kept = False
        self.is_started = self.is_finished = True

    def abort(self) -> None:
        """Reset the connection and drop buffered bytes, so that the client sees that the answer is incomplete."""
        self._is_kept = False
        transport = self._protocol_.transport
        if transport is not None:
            transport.abort()

    def cut(self) -> None:
        """End the connection after what has been written, without the end of the message: visibly incomplete (RFC 9112 section 8).

        A body that ends with the connection would look complete, so that one is reset instead.
        """
        self._is_kept = False
        transport = self._protocol_.transport
        if transport is None:
            return
        if self._is_chunked or self._has_length:
            transport.close()
        else:
            transport.abort()

    def _head(self, status: int, lines: bytes, *, length: int | None, body: bytes = b"") -> bytes:
        """The head, with the body if there is one, joined for a single write."""
        request = self._request_
        self.is_started = True
        self._has_body = not self.is_bodyless and status not in _BODYLESS
        if self._grant is not None:
            lines += text_of(self._grant.headers(names_of(headers_of(lines))))
        pieces = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, lines]
        if status in _BODYLESS or (self.is_bodyless and length is None):
            pass
        elif length is not None:
            self._has_length = True
            pieces.append(b"content-length: %d\r\n" % length)
        elif request.version >= HttpVersion11:
            self._is_chunked = self._has_body
            pieces.append(b"transfer-encoding: chunked\r\n")
        else:
            self._is_kept = False
        if not self._is_kept or self._protocol_.is_last:
            self._is_kept = False
            pieces.append(b"connection: close\r\n")
        elif request.version < HttpVersion11:
            pieces.append(b"connection: keep-alive\r\n")
        pieces += (b"\r\n", body) if self._has_body else (b"\r\n",)
        return b"".join(pieces)

    def _send(self, data: bytes) -> None:
        transport = self._protocol_.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    # All that aiohttp asks of a response that the handler has returned. A subclass of its own would make headers that nobody reads.

    @property
    def keep_alive(self) -> bool:
        return self._is_kept

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Prepare nothing: the head has been written. A response that was never started is a bug, so the client is cut off."""
        del request
        if not self.is_finished:
            self.abort()

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait for a slow client's bytes before its next request; nothing is left to write."""
        del data
        if self._protocol_.paused_since >= 0:
            await self._protocol_.wait_until_written()
