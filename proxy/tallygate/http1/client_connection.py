"""A client's connection, with deadlines, constant error answers, and events for the exchange.

aiohttp waits forever for request headers, keeps idle connections for an hour, and answers a malformed request with the
offending bytes, keys included, in body and log. Here every wait has a deadline, checked once a second for all connections by their
port (`client_port.py`; no timer per connection), and a malformed request gets a constant answer (`faults.py`).

Offers to switch protocols are declined (RFC 9110 section 7.8), but for WebSocket where a route serves it. An offer of `h2c` need
not end the connection, but aiohttp's parser loses bytes that come with or after such a request; the answer to it is then the
connection's last.

A client that closes its sending side counts as gone: a half-closed connection cannot be distinguished from one whose process has
ended, and what an upstream generates for nobody still costs.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aiohttp import StreamReader, web

from tallygate.http1.faults import HEAD_TOO_LARGE
from tallygate.http1.open_connections import OpenConnections
from tallygate.http1.server_connection import EMPTY_BODY, RequestHead, ServerConnection, end_body

CHUNKING_FACTOR_MAX: Final = 8  # bytes on the wire for each byte of a body; chunks of one byte take six
CHUNKING_BYTES_MAX: Final = 64 * 1024  # and as much again for chunk extensions and trailers of a short one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """Seconds. head: from the first byte of a request to the end of its headers; idle: without a request, aiohttp's own timer.

    body_grace               time for a request body before the least rate of body_bytes_per_second begins to count
    write                    longest time that a client may leave more waiting for it than the transport's buffer should hold, or
                             anything at all once its connection is being closed
    """

    head: float
    idle: float
    body_grace: float
    body_bytes_per_second: int
    write: float


class ClientListener(Protocol):
    """An exchange that is notified of its client connection's events."""

    def client_gone(self) -> None: ...
    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


class ClientConnection(ServerConnection):
    """See the module. At most one exchange at a time is attached; pipelined requests wait their turn."""

    __slots__ = (
        "_all",
        "_body",
        "_closing_since",
        "_frames",
        "_head",
        "_head_bytes_max",
        "_is_refused",
        "_offering_left",
        "_time",
        "_unanswered",
        "_wire",
        "_wire_bytes_max",
        "bytes_in",
        "head_since",
        "is_last",
        "listener",
        "paused_since",
        "reading_since",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        open_connections: OpenConnections,
        head_bytes_max: int,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        """options: of `ServerConnection`."""
        super().__init__(server, loop=loop, **options)
        self._all = open_connections
        self._time = loop.time
        self.listener: ClientListener | None = None
        self.head_since: float = -1.0  # when the first byte of an unfinished head came; negative while none is under way
        self.reading_since: float = -1.0  # when the exchange began to wait for its body
        self.bytes_in = 0
        self.paused_since: float = -1.0
        self._body: StreamReader = EMPTY_BODY  # of the newest request: once it is whole, what follows is a next head
        self._unanswered = 0  # requests parsed whose exchange has not ended
        self._head = bytearray()  # of an unfinished head, what came before the newest bytes
        self._head_bytes_max = head_bytes_max
        self.is_last = False  # the next answer ends the connection: what comes behind its request is not read
        self._offering_left = 0  # bytes to come of the body of a request that offers to switch protocols
        self._is_refused = False  # for an endless head: nothing more is read
        self._wire_bytes_max = 0
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own when it begins to close
        self._closing_since: float = -1.0
        self._frames: Callable[[int], None] | None = None  # set once WebSocket is spoken: it is told of all bytes that come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._all.admit(self, self._time()):
            self.turn_away()
            cast("asyncio.Transport", transport).abort()
            return
        self._wire = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._frames is not None:
            self._frames(len(data))
            self.receive_frames(data)
            return
        if self._is_refused:
            return
        self.bytes_in += len(data)
        is_in_head = self._body.is_eof()
        parsed, newest, body = self.parse(data)
        if parsed:
            if newest is None:
                self.explain_fault(self._head + data if is_in_head else b"")
                if not self._body.is_eof():
                    self._break_body()
            self._body = body
            self._all.mark_busy(self)
            self._unanswered += parsed
            self._offering_left = 0
            if newest is not None and newest.upgrade:
                self._decline(newest, data if parsed == 1 and not self._head else b"")
            self._head.clear()
            self.head_since = -1.0
        elif data and is_in_head:
            if not self._head:
                self.head_since = self._time()
            self._head += data
            if len(self._head) > self._head_bytes_max:
                self._refuse_head()
        elif self._offering_left:
            self._offering_left -= len(data)
            if self._offering_left < 0:
                self._close_behind()
        if self.reading_since >= 0 and self.bytes_in > self._wire_bytes_max:
            self.abort()  # endless chunk extensions, or a body that its reader has refused already

    def eof_received(self) -> None:
        if self.listener is not None:
            self.listener.client_gone()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.leave(self)
        listener, self.listener = self.listener, None
        super().connection_lost(exc)
        if not self._body.is_eof():
            self._break_body()
        if listener is not None:
            listener.client_gone()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused_since = self._time()
        if self.listener is not None:
            self.listener.client_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.paused_since = -1.0
        if self.listener is not None:
            self.listener.client_resumed()

    @property
    def is_idle(self) -> bool:
        """Open, and without a request under way."""
        return not self._unanswered and self._wire is not None and not self._wire.is_closing()

    @property
    def is_half_open(self) -> bool:
        """Return whether the head of a request has begun and not ended."""
        return self.head_since >= 0

    @property
    def is_writing(self) -> bool:
        """Return whether more of an answer waits for the client than the transport's buffer should hold."""
        return self.paused_since >= 0

    def begin_exchange(self, listener: ClientListener) -> None:
        """Attach the listener of an admitted exchange."""
        self.listener = listener

    def end_exchange(self) -> None:
        self.listener = None
        self._unanswered -= 1
        if not self._unanswered:
            self._all.mark_idle(self, self._time())

    def speak_frames(self, on_bytes: Callable[[int], None]) -> None:
        """Take what comes from now on as WebSocket frames. on_bytes: told of their number, before they are parsed."""
        self._frames = on_bytes
        self._head.clear()
        self.head_since = -1.0

    def await_body(self, bytes_max: int) -> None:
        """Apply the least body rate from now on: the exchange starts to read a body of at most bytes_max."""
        self.reading_since = self._time()
        self.bytes_in = 0
        self._wire_bytes_max = bytes_max * CHUNKING_FACTOR_MAX + CHUNKING_BYTES_MAX

    def body_read(self) -> None:
        self.reading_since = -1.0

    def is_overdue(self, now: float, timeouts: ClientTimeouts) -> bool:
        """Return whether one of the client's deadlines has passed."""
        if self._wire is not None and self._wire.is_closing():
            if self._closing_since < 0:
                self._closing_since = now
            return now - self._closing_since > timeouts.write
        if self.head_since >= 0 and now - self.head_since > timeouts.head and not self.is_answering:
            return True
        if self.reading_since >= 0 and not self._body.is_eof():
            late = now - self.reading_since - timeouts.body_grace
            if late > 0 and self.bytes_in < late * timeouts.body_bytes_per_second:
                return True
        return self.paused_since >= 0 and now - self.paused_since > timeouts.write

    def hang_up(self) -> None:
        """Close the connection of a client that has no request under way. (aiohttp's own `close` leaves it open, unread.)"""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """Cut the connection at once, so that the client sees an incomplete answer as incomplete."""
        if self._wire is not None:
            self._wire.abort()

    def _break_body(self) -> None:
        """End a body of which no more will come, with an error unless it is only being discarded."""
        end_body(self._body, web.RequestPayloadError("the body's framing is malformed") if self._unanswered else None)

    def _decline(self, request: RequestHead, data: bytes) -> None:
        """Decline an offer to switch protocols. data: the bytes of the request, if nothing else was received with it."""
        _, end, rest = data.partition(b"\r\n\r\n")
        length = request.headers.get("Content-Length", "0")
        if not end or request.chunked or not length.isdigit() or request.headers.get("Upgrade", "").lower() != "h2c":
            self.is_last = True
        elif len(rest) > int(length):
            self._close_behind()
        elif len(rest) < int(length):
            self._offering_left = int(length) - len(rest)

    def _close_behind(self) -> None:
        """Make this answer the connection's last: later bytes were lost, and the client has to send them again."""
        self.is_last = True
        if self._body.is_eof():
            self.close()

    def _refuse_head(self) -> None:
        """Answer a head that is too long, read no more, and close."""
        self.queue_fault(HEAD_TOO_LARGE._replace(is_head=self._head.startswith(b"HEAD ")))
        self._is_refused = True
