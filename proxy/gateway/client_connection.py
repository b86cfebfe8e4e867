"""One client connection: aiohttp's request handler, with the time limits, the silence and the events that a gateway needs.

aiohttp waits for ever for request headers, keeps idle connections for an hour, and answers a malformed request with the
offending bytes, keys included, in body and log. Here every wait has a deadline, checked once a second for all connections by
`reap` (no timer per connection), and a malformed request gets one constant answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_MALFORMED: Final = (
    b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request is not valid HTTP/1.1.",'
    b'"error":{"message":"The request is not valid HTTP/1.1.","type":"invalid_request_error","param":null,'
    b'"code":"invalid_request"}}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """Seconds. head: from the first byte of a request to the end of its headers; idle: without a request, aiohttp's own timer.

    body_bytes_per_second    least rate of a request body, averaged from its start, after body_grace
    write                    longest time that a client may take no byte of what is waiting for it
    """

    head: float = 10.0
    idle: float = 75.0
    body_grace: float = 10.0
    body_bytes_per_second: int = 1_000
    write: float = 60.0


class ClientListener(Protocol):
    """An exchange that wants to know what its client's connection does."""

    def client_gone(self) -> None: ...
    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


class ClientConnection(RequestHandler):
    """See the module. At most one exchange at a time listens; requests that are pipelined wait their turn."""

    __slots__ = ("bytes_in", "head_since", "listener", "on_malformed", "paused_since", "reading_since")

    def __init__(self, manager: web.Server, *, on_malformed: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.on_malformed = on_malformed
        self.listener: ClientListener | None = None
        self.head_since: float = -1.0  # when the first byte of an unfinished head came; negative while none is under way
        self.reading_since: float = -1.0  # when the exchange began to wait for its body
        self.bytes_in = 0
        self.paused_since: float = -1.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        if isinstance(manager, ClientServer) and manager.is_full:
            self._manager = None  # so that aiohttp forgets the connection, which it never knew
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.head_since < 0 and not self._request_in_progress:
            self.head_since = self._loop.time()
        super().data_received(data)
        if self._messages:
            self.head_since = -1.0

    def connection_lost(self, exc: BaseException | None) -> None:
        listener, self.listener = self.listener, None
        super().connection_lost(exc)
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

    def begin(self, listener: ClientListener) -> None:
        """An exchange starts: its head is complete, and it listens from now on."""
        self.head_since = -1.0
        self.listener = listener

    def end(self) -> None:
        self.listener = None

    def await_body(self) -> None:
        """The exchange starts to read its body: from here on the least rate applies."""
        self.reading_since = self._loop.time()
        self.bytes_in = 0

    def body_read(self) -> None:
        self.reading_since = -1.0

    def is_overdue(self, now: float, timeouts: ClientTimeouts) -> bool:
        """Whether one of the client's deadlines has passed."""
        if self.head_since >= 0 and now - self.head_since > timeouts.head:
            return True
        if self.reading_since >= 0:
            late = now - self.reading_since - timeouts.body_grace
            if late > 0 and self.bytes_in < late * timeouts.body_bytes_per_second:
                return True
        return self.paused_since >= 0 and now - self.paused_since > timeouts.write

    def abort(self) -> None:
        """Cut the connection at once, so that the client sees an incomplete answer as incomplete."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The one answer to what the parser refuses: constant, so that nothing of the request comes back or reaches a log."""
        del status, exc, message
        if request.writer.output_size > 0:
            raise ConnectionError
        self.on_malformed()
        response = web.Response(status=400, body=_MALFORMED, content_type="application/problem+json")
        response.headers["Server"] = "tallygate"
        response.force_close()
        return response


def reap(connections: list[RequestHandler], now: float, timeouts: ClientTimeouts) -> int:
    """Cut every connection whose client is overdue; returns how many."""
    cut = 0
    for connection in connections:
        if isinstance(connection, ClientConnection) and connection.is_overdue(now, timeouts):
            connection.abort()
            cut += 1
    return cut


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ClientServer(web.Server):
    """aiohttp's low-level server (no application, no router) that makes `ClientConnection`s."""

    def __init__(self, handler: Handler, *, on_malformed: Callable[[], None], connections_max: int, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._on_malformed = on_malformed
        self._connections_max = connections_max

    @property
    def is_full(self) -> bool:
        """Past the maximum, a new client is turned away at once."""
        return len(self._connections) >= self._connections_max

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, on_malformed=self._on_malformed, **self._kwargs)
