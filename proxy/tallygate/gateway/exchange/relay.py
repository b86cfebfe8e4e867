"""One answer on its way from the upstream to the client: events on either side, in any order, and its single end.

Everything happens inside the upstream connection's callbacks: a stream chunk costs no task switch. What is read in passing is
`answer_reader.py`'s, how the body goes down `client_body.py`'s, what is read on without a client `drains.py`'s.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from msgspec.structs import replace

from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.exchange.answer_reader import NO_HEAD, AnswerHead, AnswerReader, ReadExchange, head_of
from tallygate.gateway.exchange.client_body import (
    BUFFERED_BYTES_MAX,
    NO_BODY,
    ClientBody,
    KeptBody,
    MeasuredBody,
    StreamedBody,
    UnshownBody,
)
from tallygate.gateway.exchange.drains import Drain
from tallygate.gateway.headers import response_headers
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.header import NO_LINES, Header, Lines
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure

LIST_UNREADABLE: Final = Refusal(
    code=ErrorCode.LIST_UNREADABLE,
    message="This list cannot be shown without the objects of others. Ask for a smaller page, or for objects by their ids.",
    should_retry=False,
)
_UNAUTHORIZED: Final = HTTPStatus.UNAUTHORIZED.value  # read once: a member of this enum takes a call to look up
_REVEALS_OTHERS: Final = frozenset({b"etag", b"last-modified", b"link", b"x-total", b"x-total-count", b"content-range"})


class RelayedExchange(ReadExchange, Protocol):
    """The exchange of a relay, which it calls as the answer comes."""

    @property
    def gateway_asks_usage(self) -> bool:
        """True if only the gateway asked for the usage chunk, so that the client is not sent it."""

    def early_headers(self) -> Lines:
        """Our own response headers, as far as they are known before the answer."""

    def now_ms(self) -> int:
        """The time of day."""

    def own_location(self, headers: list[Header]) -> list[Header]:
        """`headers` of a redirect, to this gateway where it leads to the upstream again."""


class StartDrain(Protocol):
    """Starts a drain, whose `finish` must follow; None if one more would be too many."""

    def __call__(self, *, is_stream: bool) -> Drain | None: ...


class Relay:
    """Sink of one upstream answer and listener of its client. `ended` resolves when the upstream is done, one way or another.

    reader      reads the answer's body, and has what was read
    exchange    forgotten at the end: it knows its relay, and the two would wait for the garbage collector together
    start_drain begins to read on without a client, within `Drains`; None where there is nothing to learn: the answer is cut
    buffered_bytes_max  of a 2xx answer that is held back whole, so that its cost can stand in its head
    is_own_key  the operator's key is used, so a 401 does not concern the caller's: it is a failure, and is not relayed

    head        of the answer
    body        on its way to the client
    refusal     why we ended it ourselves
    is_left     by us, while the upstream may still have been generating
    is_behind   what the upstream has sent waits for a client that does not take it, and was not read yet
    """

    def __init__(  # noqa: PLR0917 - by position: with names it takes as long again
        self,
        response: ClientResponse,
        reader: AnswerReader,
        exchange: RelayedExchange,
        start_drain: StartDrain | None,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        buffered_bytes_max: int = BUFFERED_BYTES_MAX,
        is_own_key: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        self.connection: UpstreamConnection | None = None
        self.head: AnswerHead = NO_HEAD
        self.reader = reader
        self.body: ClientBody = NO_BODY
        self.failure: UpstreamFailure | None = None
        self.refusal: Refusal | None = None
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None
        self.is_complete = False
        self.is_client_gone = False
        self.is_left = False
        self.is_behind = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self._response = response
        self._loop = loop
        self._clock = clock
        self._exchange: RelayedExchange | None = exchange
        self._buffered_bytes_max = buffered_bytes_max
        self._start_drain = start_drain
        self._is_own_key = is_own_key
        self._drain: Drain | None = None  # set while this answer is read on without a client

    # The upstream's side.

    def on_headers(self, status: int, headers: list[Header], *, keep_alive: bool, content_length: int | None) -> None:
        del keep_alive
        self.first_byte_at = self._clock()
        if status == _UNAUTHORIZED and self._is_own_key:
            self._refuse_key()
            return
        is_http_1_0 = self.connection is not None and self.connection.is_http_1_0
        head = self.head = head_of(status, headers, content_length=content_length, is_http_1_0=is_http_1_0)
        exchange, objects, is_success = self._exchange, self.reader.objects, 200 <= status < 300
        is_list = objects is not None and objects.is_read_whole and is_success
        if self._response.is_bodyless:
            if is_list:  # its length includes others' items
                self.head = replace(head, headers=own_headers(headers), content_length=None)
            self._start(self.head.content_length)
            return
        hides_usage_chunk = exchange is not None and exchange.gateway_asks_usage
        if is_success:
            self.reader.begin(head, hides_usage_chunk=hides_usage_chunk)
        elif status < HTTPStatus.BAD_REQUEST and exchange is not None:
            self.head = replace(head, headers=exchange.own_location(headers))
        bytes_max = self._buffered_bytes_max if is_success else BUFFERED_BYTES_MAX if status >= 400 else 0
        streams = head.is_labelled_events or (self.reader.facts.stream and status < 300)
        if is_list:
            self.body = UnshownBody()
        elif streams or not bytes_max or (content_length is not None and content_length > bytes_max):
            self._start(None if hides_usage_chunk else content_length)
        else:
            self.body = KeptBody()

    def on_body(self, data: bytes) -> None:
        reader = self.reader
        passing = reader.feed(data)
        if self.is_client_gone:
            self._read_on(len(data))
            return
        body = self.body
        if reader.reading.ended:
            body.write_ended(passing)
        else:
            body.write(passing)
        if body.is_over:
            self._keep_no_longer()

    def on_complete(self) -> None:
        self.is_complete = True
        self._end()

    def on_failure(self, error: UpstreamFailure) -> None:
        self.failure = error
        self.is_left = error.kind is FailureKind.TIMEOUT
        self._end()

    def _refuse_key(self) -> None:
        message = "it does not accept the gateway's own key"
        self.failure = UpstreamFailure(kind=FailureKind.UNAUTHORIZED, message=message, request_sent=True, headers_seen=True)
        self.head = replace(NO_HEAD, status=self.failure.code.status)  # also in the usage: the caller's own key was right
        if self.connection is not None:
            self.connection.abort()
        self._end()

    @property
    def is_key_refused(self) -> bool:
        return self.failure is not None and self.failure.kind is FailureKind.UNAUTHORIZED

    @property
    def is_event_stream(self) -> bool:
        """Return whether the answer is an event stream, as its label or its first bytes say."""
        return self.head.is_labelled_events or self.reader.reading.is_events

    @property
    def is_streamed(self) -> bool:
        """Return whether the answer is a stream, as requested or as seen."""
        return self.is_event_stream or self.reader.facts.stream

    # The client's side.

    def _start(self, length: int | None) -> None:
        """Send the head: the body streams from now on."""
        head, exchange = self.head, self._exchange
        ours = exchange.early_headers() if exchange is not None else NO_LINES
        now_ms = exchange.now_ms() if exchange is not None else None
        headers = response_headers(head.headers, ours=ours, status=head.status, now_ms=now_ms, is_http_1_0=head.is_http_1_0)
        self._response.start(head.status, headers, length=length)
        if length is None:
            self.body = StreamedBody(self._response, self._loop)
        else:
            self.body = MeasuredBody(self._response, self._loop, length)

    def _keep_no_longer(self) -> None:
        """More came than is kept: a list cannot be shown then, and any other answer is streamed."""
        if self.body.withheld() is not None:
            self.cut(LIST_UNREADABLE)
            return
        kept = self.body.rest()
        self._start(None)
        self._response.write(kept)

    def withhold(self, refusal: Refusal) -> None:
        """Answer with a refusal in place of a whole list."""
        self.refusal, self.is_complete = refusal, False

    def show(self, own: bytes) -> None:
        """Answer with the organization's own part of a whole list."""
        self.refusal, self.is_complete = None, True
        self.head = replace(self.head, headers=own_headers(self.head.headers))
        self.body = KeptBody()
        self.body.keep(own)

    def client_gone(self) -> None:
        if self.is_client_gone:
            return
        self.is_client_gone = True
        if self.connection is None or self.ended.done():
            return
        self.body.clear()  # nobody waits for it: further bytes are metered, not kept
        if self._start_drain is not None and (not self.head.status or self.head.is_success):
            self._drain = self._start_drain(is_stream=self.is_streamed)
        if self._drain is None:
            self.cut()
            return
        self._drain.limit(self._loop, self.cut)
        self.is_behind = False
        self.connection.resume()

    def client_paused(self) -> None:
        if self.connection is not None and not self.ended.done():
            self.is_behind = True
            self.connection.pause()

    def client_resumed(self) -> None:
        if self.connection is not None and not self.ended.done():
            self.is_behind = False
            self.connection.resume()

    # The end.

    def _read_on(self, size: int) -> None:
        if self._drain is not None and self._drain.count(size) is not None:
            self.cut()

    def cut(self, refusal: Refusal | None = None) -> None:
        """Close the upstream connection and end the answer here. refusal: for a client that is still connected."""
        if self.ended.done():
            return
        self.refusal = refusal
        self.is_left = True
        if self.connection is not None:
            self.connection.abort()
        if not self.ended.done():
            self._end()

    def _end(self) -> None:
        if self._drain is not None:
            self._drain.finish(is_complete=self.is_complete, has_failed=self.failure is not None)
            self._drain = None
        rest = self.reader.end_body()
        if rest:
            self.body.keep(rest)
        self.body.end_body()
        if not self.ended.done():
            self.ended_at = self._clock()
            self.ended.set_result(None)
        self.connection = self._exchange = None


def own_headers(headers: list[Header]) -> list[Header]:
    """The headers of a list of stored objects, without those that reveal others' items."""
    return [header for header in headers if header[0].lower() not in _REVEALS_OTHERS]
