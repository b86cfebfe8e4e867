"""One client connection: aiohttp's request handler, with the time limits, the silence and the events that a gateway needs.

aiohttp waits for ever for request headers, keeps idle connections for an hour, and answers a malformed request with the
offending bytes, keys included, in body and log. Here every wait has a deadline, checked once a second for all connections by
`reap` (no timer per connection), and a malformed request gets a constant answer (`faults.py`).

No offer to switch protocols is taken (RFC 9110 section 7.8). Of the two that a client may send with every request, `h2c` leaves the
connection open; but aiohttp's parser loses what comes with such a request and behind it, so then the answer is the last one.

A client that closes its sending side counts as gone, whatever it was waiting for: a half-closed connection cannot be told from
one whose process has ended, and what an upstream generates for nobody still costs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from tallygate.http1.faults import HEAD_TOO_LARGE, INTERNAL, MALFORMED, Fault, HeadLimits, fault_of
from tallygate.http1.open_connections import Crowd
from tallygate.http1.received_head import in_origin_form

CHUNKING_FACTOR_MAX: Final = 8  # bytes on the wire for each byte of a body; chunks of one byte take six
CHUNKING_BYTES_MAX: Final = 64 * 1024  # and as much again for chunk extensions and trailers of a short one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """Seconds. head: from the first byte of a request to the end of its headers; idle: without a request, aiohttp's own timer.

    body_bytes_per_second    least rate of a request body, averaged from its start, after body_grace
    write                    longest time that a client may leave more waiting for it than the transport's buffer should hold, or
                             anything at all once its connection is being closed
    """

    head: float = 10.0
    idle: float = 75.0
    body_grace: float = 10.0
    body_bytes_per_second: int = 1_000
    write: float = 60.0


Answer = Callable[[Fault], web.Response]


class FaultError(Exception):
    """Carries what is wrong with a request through aiohttp's hands to `handle_error`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ClientListener(Protocol):
    """An exchange that wants to know what its client's connection does."""

    def client_gone(self) -> None: ...
    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


class ClientConnection(RequestHandler):
    """See the module. At most one exchange at a time listens; requests that are pipelined wait their turn."""

    __slots__ = (
        "_body",
        "_closing_since",
        "_crowd",
        "_head",
        "_head_bytes_max",
        "_is_refused",
        "_offering_left",
        "_unanswered",
        "_wire",
        "_wire_bytes_max",
        "answer_malformed",
        "bytes_in",
        "head_since",
        "is_last",
        "listener",
        "paused_since",
        "reading_since",
    )

    def __init__(self, manager: web.Server, *, crowd: Crowd, answer_malformed: Answer, head_bytes_max: int, **kwargs: Any) -> None:
        """answer_malformed: a constant answer to what the parser refuses."""
        super().__init__(manager, **kwargs)
        self.answer_malformed = answer_malformed
        self._crowd = crowd
        self.listener: ClientListener | None = None
        self.head_since: float = -1.0  # when the first byte of an unfinished head came; negative while none is under way
        self.reading_since: float = -1.0  # when the exchange began to wait for its body
        self.bytes_in = 0
        self.paused_since: float = -1.0
        self._body: StreamReader = EMPTY_PAYLOAD  # of the newest request: once it is whole, what follows is a next head
        self._unanswered = 0  # requests parsed whose exchange has not ended
        self._head = bytearray()  # of an unfinished head, what came before the newest bytes
        self._head_bytes_max = head_bytes_max
        self.is_last = False  # the next answer ends the connection: what comes behind its request is not read
        self._offering_left = 0  # bytes to come of the body of a request that offers to switch protocols
        self._is_refused = False  # for an endless head: nothing more is read
        self._wire_bytes_max = 0
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own when it begins to close
        self._closing_since: float = -1.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._crowd.let_in(self, self._loop.time()):
            self._manager = None  # so that aiohttp forgets the connection, which it never knew
            cast("asyncio.Transport", transport).abort()
            return
        self._wire = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self.bytes_in += len(data)
        requests = self._request_count
        is_in_head = self._body.is_eof()
        super().data_received(data)
        if self._request_count != requests:
            self._name_paths(self._request_count - requests)
            newest, body = self._messages[-1]
            if isinstance(newest, _ErrInfo):
                self._tell_fault(newest, self._head + data if is_in_head else b"")
                if not self._body.is_eof():
                    self._break_body()
            self._body = body
            self._crowd.work(self)
            self._unanswered += self._request_count - requests
            self._offering_left = 0
            if not isinstance(newest, _ErrInfo) and newest.upgrade:
                self._decline(newest, data if self._request_count - requests == 1 and not self._head else b"")
            self._head.clear()
            self.head_since = -1.0
        elif data and is_in_head:
            if not self._head:
                self.head_since = self._loop.time()
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
        self._crowd.leave(self)
        listener, self.listener = self.listener, None
        super().connection_lost(exc)
        if not self._body.is_eof():
            self._break_body()
        if listener is not None:
            listener.client_gone()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused_since = self._loop.time()
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
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self._request_in_progress

    @property
    def is_half_open(self) -> bool:
        """Whether the head of a request has begun and not ended."""
        return self.head_since >= 0

    @property
    def is_writing(self) -> bool:
        """Whether more of an answer waits for the client than its connection takes."""
        return self.paused_since >= 0

    def begin(self, listener: ClientListener) -> None:
        """An exchange is admitted and listens from now on."""
        self.listener = listener

    def end(self) -> None:
        self.listener = None
        self._unanswered -= 1
        if not self._unanswered:
            self._crowd.rest(self, self._loop.time())

    def await_body(self, bytes_max: int) -> None:
        """The exchange starts to read its body, of at most bytes_max: from here on the least rate applies."""
        self.reading_since = self._loop.time()
        self.bytes_in = 0
        self._wire_bytes_max = bytes_max * CHUNKING_FACTOR_MAX + CHUNKING_BYTES_MAX

    def body_read(self) -> None:
        self.reading_since = -1.0

    def is_overdue(self, now: float, timeouts: ClientTimeouts) -> bool:
        """Whether one of the client's deadlines has passed."""
        if self._wire is not None and self._wire.is_closing():
            if self._closing_since < 0:
                self._closing_since = now
            return now - self._closing_since > timeouts.write
        if self.head_since >= 0 and now - self.head_since > timeouts.head and not self._request_in_progress:
            return True
        if self.reading_since >= 0 and not self._body.is_eof():
            late = now - self.reading_since - timeouts.body_grace
            if late > 0 and self.bytes_in < late * timeouts.body_bytes_per_second:
                return True
        return self.paused_since >= 0 and now - self.paused_since > timeouts.write

    def abort(self) -> None:
        """Cut the connection at once, so that the client sees an incomplete answer as incomplete."""
        if self._wire is not None:
            self._wire.abort()

    def _break_body(self) -> None:
        """No more of it will come, though aiohttp lets its reader wait. One that is only read away just ends."""
        if self._unanswered and self._body.exception() is None:
            self._body.set_exception(web.RequestPayloadError("the body's framing is malformed"))
        self._body.feed_eof()

    def _tell_fault(self, info: _ErrInfo, head: bytes | bytearray) -> None:
        """Put what is wrong with a request in the place of the parser's words. head: empty if it is the body that is at fault."""
        limits = HeadLimits(line=self.max_line_size, fields=self.max_headers)
        fault = fault_of(bytes(head), limits, is_too_long=isinstance(info.exc, LineTooLong))
        self._messages[-1] = (_error_of(fault), self._messages[-1][1])

    def _name_paths(self, newest: int) -> None:
        """Of so many newest requests, take those whose target is a URL for their paths."""
        for place in range(-newest, 0):
            message, body = self._messages[place]
            if not isinstance(message, _ErrInfo) and not message.path.startswith("/"):
                self._messages[place] = in_origin_form(message), body

    def _decline(self, request: RawRequestMessage, data: bytes) -> None:
        """A request offers to switch protocols. data: what it came in, if it is alone in there from its first byte on."""
        _, end, rest = data.partition(b"\r\n\r\n")
        length = request.headers.get("Content-Length", "0")
        if not end or request.chunked or not length.isdigit() or request.headers.get("Upgrade", "").lower() != "h2c":
            self.is_last = True
        elif len(rest) > int(length):
            self._close_behind()
        elif len(rest) < int(length):
            self._offering_left = int(length) - len(rest)

    def _close_behind(self) -> None:
        """What came behind a request is lost: its answer says that the connection ends, and its client sends the rest anew."""
        self.is_last = True
        if self._body.is_eof():
            self.close()

    def _refuse_head(self) -> None:
        """Answer an endless head after the requests before it, read no more, and close."""
        fault = HEAD_TOO_LARGE._replace(is_head=self._head.startswith(b"HEAD "))
        self._messages.append((_error_of(fault), EMPTY_PAYLOAD))
        self._request_count += 1
        self._is_refused = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The one answer to what the parser refuses, so that nothing of the request comes back or reaches a log."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError
        fault = exc.fault if isinstance(exc, FaultError) else MALFORMED if status < 500 else INTERNAL
        response = self.answer_malformed(fault)
        if fault.is_head:
            request._cache["method"] = hdrs.METH_HEAD  # noqa: SLF001 - as in `last_answer`
        last_answer(request, response)
        return response


def _error_of(fault: Fault) -> _ErrInfo:
    return _ErrInfo(status=fault.status, exc=FaultError(fault), message="")


def last_answer(request: web.BaseRequest, response: web.Response) -> None:
    """Make aiohttp write this as HTTP/1.1, whatever the request claims to be, and close the connection."""
    request._cache["version"] = HttpVersion11  # noqa: SLF001 - a response takes its version from there, where reading it leaves it
    response.headers[hdrs.SERVER] = "tallygate"  # else aiohttp's name and version
    response.force_close()


def reap(connections: Collection[RequestHandler], now: float, timeouts: ClientTimeouts) -> int:
    """Cut every connection whose client is overdue; returns how many."""
    cut = 0
    for connection in connections:
        if isinstance(connection, ClientConnection) and connection.is_overdue(now, timeouts):
            connection.abort()
            cut += 1
    return cut


async def reap_forever(connections: Callable[[], Collection[RequestHandler]], timeouts: ClientTimeouts, *, every_s: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every_s)
        reap(connections(), loop.time(), timeouts)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ClientServer(web.Server):
    """aiohttp's low-level server (no application, no router) that makes `ClientConnection`s."""

    def __init__(self, handler: Handler, *, crowd: Crowd, answer_malformed: Answer, head_bytes_max: int, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._crowd = crowd
        self._answer_malformed = answer_malformed
        self._head_bytes_max = head_bytes_max

    @property
    def has_idle(self) -> bool:
        return any(isinstance(connection, ClientConnection) and connection.is_idle for connection in self.connections)

    def __call__(self) -> RequestHandler:
        return ClientConnection(
            self,
            loop=self._loop,
            crowd=self._crowd,
            answer_malformed=self._answer_malformed,
            head_bytes_max=self._head_bytes_max,
            **self._kwargs,
        )
