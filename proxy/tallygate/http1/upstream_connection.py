"""One keep-alive connection to an upstream. Everything happens in the loop's callbacks: a stream chunk costs no task switch."""

import asyncio
import math
import select
from collections.abc import Callable
from typing import Final, Protocol, cast

from tallygate.http1.response_reader import InvalidResponseError, ResponseReader, ResponseSink
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure, UpstreamUnreachableError

JOINED_BYTES_MAX: Final = 64 * 1024  # up to here head and body are copied into one write; above, the copy costs more than it saves

_MESSAGES: Final = {
    FailureKind.RESET: "the upstream closed the connection before it answered",
    FailureKind.TRUNCATED: "the upstream closed the connection inside its answer",
}


class ConnectionOwner(Protocol):
    """The events that a connection reports to its pool."""

    def connection_opened(self, connection: "UpstreamConnection") -> None: ...

    def connection_idle(self, connection: "UpstreamConnection") -> None:
        """An exchange ended cleanly: the connection may carry another."""

    def connection_closed(self, connection: "UpstreamConnection") -> None:
        """Once for each connection that was opened."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time: `send`, or `send_stream` with `write_body`, `drain` and `end_body`.

    It goes back to its pool by itself, right before on_complete, if the answer was complete, keep-alive is allowed, the whole
    request is written and not a byte is left over; in every other case it closes. Timeouts are noticed by `check_timeouts`, which
    the pool calls: reading a chunk only notes the time.
    """

    __slots__ = (
        "_active_at",
        "_clock",
        "_is_chunked",
        "_is_reading_paused",
        "_is_sending",
        "_is_writing_paused",
        "_owner",
        "_poll",
        "_reader",
        "_sink",
        "_transport",
        "_unsent",
        "_write_waiter",
        "idle_since",
        "retire_at",
    )

    def __init__(self, owner: ConnectionOwner, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._sink: ResponseSink | None = None
        self._active_at = 0.0  # when the request was written, later when the last body bytes came
        self._is_sending = False  # a streamed request body has not ended
        self._is_chunked = False
        self._unsent: int | None = None  # bytes of a streamed body still to come, where its length was promised
        self._is_writing_paused = False
        self._is_reading_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._poll: select.poll | None = None  # asks about the socket; made once it is asked
        self.idle_since = 0.0
        self.retire_at = math.inf

    @property
    def is_usable(self) -> bool:
        """Open and idle, as far as the loop knows."""
        return self._transport is not None and self._reader is None and not self._transport.is_closing()

    @property
    def wants_body(self) -> bool:
        """A streamed body can still be written: the upstream has neither answered in full nor failed."""
        return self._is_sending and self._reader is not None

    @property
    def is_http_1_0(self) -> bool:
        """True if the answer under way is in HTTP/1.0, once its head has come."""
        return self._reader is not None and self._reader.is_http_1_0

    def has_unread_input(self) -> bool:
        """Ask the kernel, in one system call, whether bytes or a close wait that the loop has not seen yet."""
        if self._transport is None:
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def send(self, head: bytes, body: bytes, sink: ResponseSink) -> None:
        """Start an exchange with a complete request. The answer goes to `sink`, never before this returns.

        Raises UpstreamUnreachableError if the connection died since `acquire`: nothing was written, so acquiring another is safe.
        """
        transport = self._begin(head, sink)
        if len(body) <= JOINED_BYTES_MAX:
            transport.write(head + body if body else head)
        else:
            transport.write(head)  # not `writelines`, after which asyncio's transports of Python 3.12 and 3.13.0 never pause
            transport.write(body)

    def send_stream(self, head: bytes, sink: ResponseSink, *, content_length: int | None) -> None:
        """Start an exchange whose body follows by `write_body`; content_length None: in chunks. `head` must say the same.

        The answer may come, complete and even fail while the body is being sent: look at `wants_body`.
        """
        transport = self._begin(head, sink)
        self._is_sending = True
        self._is_chunked = content_length is None
        self._unsent = content_length
        transport.write(head)

    def write_body(self, chunk: bytes) -> None:
        """Write a piece of a streamed body; without effect once nobody wants it. Await `drain` between pieces."""
        if not self.wants_body or not chunk or self._transport is None:
            return
        if self._is_chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            return
        if self._unsent is not None:
            if len(chunk) > self._unsent:
                raise ValueError("more body than its promised length")  # it would be read as the next request
            self._unsent -= len(chunk)
        self._transport.write(chunk)

    async def drain(self) -> None:
        """Wait until the upstream accepts more of the body, or it is no longer needed. For one task at a time."""
        if self._is_writing_paused and self.wants_body:
            self._write_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None

    def end_body(self) -> None:
        """The streamed body is whole. Raises ValueError if it is shorter than promised: the caller has to abort."""
        if not self.wants_body or self._transport is None:
            return
        if self._unsent:
            raise ValueError("less body than its promised length")
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._is_sending = False
        self._active_at = self._clock()

    def pause(self) -> None:
        """Stop reading: at most what the transport has already read still reaches the sink. No timeout runs meanwhile."""
        if not self._is_reading_paused and self._reader is not None and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = False
            self._active_at = self._clock()
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close the socket at once, unread and unwritten bytes included; the sink hears nothing more. Harmless when repeated."""
        self._end_exchange()
        if self._transport is not None:
            self._transport.abort()

    def check_timeouts(self, now: float, *, first_byte_s: float, idle_s: float) -> None:
        """Fail the exchange if its upstream has been silent, or has taken none of the request, for too long."""
        reader = self._reader
        if reader is None or self._is_reading_paused:
            return
        silent_s = now - self._active_at
        if self._is_writing_paused:
            if silent_s >= idle_s:
                self._fail(FailureKind.TIMEOUT, "the upstream stopped taking the request")
        elif self._is_sending:
            return  # the client's turn: the server has limits of its own for slow bodies
        elif not reader.headers_seen:
            if silent_s >= first_byte_s:
                self._fail(FailureKind.TIMEOUT, "the upstream did not answer in time")
        elif silent_s >= idle_s:
            self._fail(FailureKind.TIMEOUT, "the upstream stopped in the middle of its answer")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self.abort()  # unsolicited: it must never be read as the answer to the next request
            return
        try:
            reader.feed(data)
        except InvalidResponseError as error:
            self._fail(FailureKind.INVALID_RESPONSE, str(error))
            return
        if reader.is_complete and self._reader is reader:
            self._complete(is_clean=reader.is_clean_end)
        elif reader.headers_seen:
            self._active_at = self._clock()  # before, the time until the headers counts, however they trickle in

    def eof_received(self) -> None:
        reader = self._reader
        if reader is not None:
            kind = reader.end_of_file()
            if kind is None:
                self._complete(is_clean=False)
            else:
                self._fail(kind, _MESSAGES[kind])
        elif self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the system's text is not for clients
        reader = self._reader
        if reader is not None:
            kind = FailureKind.TRUNCATED if reader.headers_seen else FailureKind.RESET
            self._fail(kind, _MESSAGES[kind])
        self._owner.connection_closed(self)
        self._transport = None

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._active_at = self._clock()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._active_at = self._clock()
        self._wake_writer()

    def _begin(self, head: bytes, sink: ResponseSink) -> asyncio.Transport:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamUnreachableError(FailureKind.UNREACHABLE, "the connection to the upstream closed before it was used")
        if self._reader is not None:
            raise RuntimeError("an exchange is under way on this connection")
        self._reader = ResponseReader(sink, is_head_request=head.startswith(b"HEAD "))
        self._sink = sink
        self._active_at = self._clock()
        return transport

    def _complete(self, *, is_clean: bool) -> None:
        sink, transport = self._sink, self._transport
        is_reusable = (
            is_clean
            and not self._is_sending
            and not self._is_writing_paused
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        if is_reusable:
            self.resume()
        self._end_exchange()
        if is_reusable:
            self._owner.connection_idle(self)
        elif transport is not None:
            transport.abort()
        if sink is not None:
            sink.on_complete()

    def _fail(self, kind: FailureKind, message: str) -> None:
        reader, sink = self._reader, self._sink
        if reader is None or sink is None:
            return
        failure = UpstreamFailure(kind=kind, message=message, request_sent=True, headers_seen=reader.headers_seen)
        self.abort()
        sink.on_failure(failure)

    def _end_exchange(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._sink = None
        self._is_sending = False
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
