"""One answer on its way from the upstream to the client, metered in passing.

Everything happens inside the upstream connection's callbacks: a stream chunk costs no task switch. What tells a client that the
answer is complete (the dialect's last event, the last bytes of a known length, the end of chunked framing) is held back until the
exchange is settled: nothing that a client saw complete can be lost.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from tallygate.dialects.dialect import Dialect, RequestFacts, ResponseMeter
from tallygate.dialects.made_objects import MadeReader
from tallygate.dialects.meters import NO_METER
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.exchange.drains import Drain, DrainEnd, Drains
from tallygate.gateway.headers import response_headers
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.header import Header
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure

BUFFERED_BYTES_MAX: Final = 1 << 20  # a larger answer is streamed, and its cost comes too late for a header
HELD_SECONDS_MAX: Final = 1.0  # an upstream that has said its last word and does not end keeps the client waiting no longer
UNCOUNTED_CHARS_MAX: Final = 1 << 18  # generated text kept for counting; more of it is counted before the next checkpoint
LIST_BYTES_MAX: Final = 4 << 20  # of a page of a list, which is read whole to leave out what is somebody else's
LIST_UNREADABLE: Final = Refusal(
    code=ErrorCode.LIST_UNREADABLE,
    message="This list cannot be shown without the objects of others. Ask for a smaller page, or for objects by their ids.",
    should_retry=False,
)
_TELLS_OF_OTHERS: Final = frozenset({b"etag", b"last-modified", b"link", b"x-total", b"x-total-count", b"content-range"})
_log = logging.getLogger(__name__)


def own_headers(headers: list[Header]) -> list[Header]:
    """The headers of a list of stored objects, without what they tell of others' items."""
    return [header for header in headers if header[0].lower() not in _TELLS_OF_OTHERS]


class AnswerObjects(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer tells of stored objects; kinds as in `RouteObjects`.

    sent      the request's body, where an id in it is not proved to be new by the answer
    compares  the kind of what the answer says to be there already, maybe somebody else's
    """

    makes: str
    lists: str
    prefix: str
    sent: bytes = b""
    compares: str = ""

    @property
    def is_read_whole(self) -> bool:
        """Whether the answer may show what is somebody else's, so that it never goes down as it is."""
        return bool(self.lists or self.compares)


class RelayedExchange(Protocol):
    """The exchange of a relay, which it calls as the answer comes."""

    def early_headers(self) -> list[Header]:
        """Our own response headers, as far as they are known before the answer."""

    def now_ms(self) -> int:
        """The time of day."""

    def note_made(self) -> None:
        """Record an object that a stream has made."""

    def count_soon(self) -> None:
        """UNCOUNTED_CHARS_MAX of generated text have gathered in the meter."""


class Relay:
    """Sink of one upstream answer and listener of its client. `ended` resolves when the upstream is done, one way or another.

    exchange    forgotten at the end: it knows its relay, and the two would wait for the garbage collector together
    buffered_bytes_max  of a 2xx answer that is held back whole, so that its cost can stand in its head
    objects     what to read in the answer about stored objects; None: nothing
    drains      the bounds on answers that are read on without a client, of which there is something to learn; None: cut
    org         whose share of them it is
    is_own_key  the operator's key goes up, so that a 401 says nothing of the caller's: it is a failure, and does not go down
    """

    def __init__(
        self,
        *,
        response: ClientResponse,
        dialect: Dialect,
        facts: RequestFacts,
        exchange: RelayedExchange,
        drains: Drains | None,
        org: str,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        objects: AnswerObjects | None = None,
        buffered_bytes_max: int = BUFFERED_BYTES_MAX,
        is_own_key: bool = False,
    ) -> None:
        self.response = response
        self.connection: UpstreamConnection | None = None
        self.meter: ResponseMeter = NO_METER
        self.hides_usage_chunk = False  # only the gateway asked for the usage chunk, so that the client is not sent it
        self.made: MadeReader | None = None
        self.sent_ids = b""  # what is found in here was not made by the answer
        self.status = 0
        self.headers: list[Header] = []
        self.is_http_1_0 = False  # the upstream's answer
        self.failure: UpstreamFailure | None = None
        self.refusal: Refusal | None = None  # why we ended it ourselves
        self.is_complete = False
        self.is_client_gone = False
        self._is_labelled_events = False
        self.buffered: list[bytes] | None = None  # None once the answer is being streamed
        self.held: list[bytes] = []
        self.unshown: list[bytes] = []  # of a list, which may show what is somebody else's: it never goes down as it is
        self.bytes_in = 0
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None
        self.is_left = False  # by us, while the upstream may still have been generating
        self.is_behind = False  # what the upstream has sent waits for a client that does not take it, and was not read yet
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._clock = clock
        self._dialect = dialect
        self._facts = facts
        self._exchange: RelayedExchange | None = exchange
        self._buffered_bytes_max = buffered_bytes_max
        self._objects = objects
        self._drains = drains
        self._org = org
        self._is_own_key = is_own_key
        self._drain: Drain | None = None  # set while this answer is read on without a client
        self._drain_end = DrainEnd.SHUTDOWN  # of one that is cut, unless a bound cuts it
        self._drain_timer: asyncio.TimerHandle | None = None
        self._buffered_bytes = 0
        self._left: int | None = None  # body bytes still to come, where the length is known and passed on
        self._hold_timer: asyncio.TimerHandle | None = None
        self._is_holding = True
        self._is_list = False  # of stored objects, which may be others'

    # The upstream's side.

    def on_headers(self, status: int, headers: list[Header], *, keep_alive: bool, content_length: int | None) -> None:
        del keep_alive
        self.first_byte_at = self._clock()
        if status == HTTPStatus.UNAUTHORIZED and self._is_own_key:
            self._refuse_key()
            return
        self.status = status
        self.headers = headers
        self.is_http_1_0 = self.connection is not None and self.connection.is_http_1_0
        content_type = next((value for name, value in headers if name.lower() == b"content-type"), b"").decode("latin-1")
        self._is_labelled_events = content_type.startswith("text/event-stream")
        self._is_list = self._objects is not None and self._objects.is_read_whole and 200 <= status < 300
        if self.response.is_bodyless:
            if self._is_list:
                self.headers = own_headers(headers)
            self._start(None if self._is_list else content_length)  # of a list, what it tells is the length with others' items
            return
        if 200 <= status < 300 and not _is_encoded(headers):
            self.meter = self._dialect.meter(self._facts, content_type=content_type, hide_usage_chunk=self.hides_usage_chunk)
        if self._objects is not None and self._objects.makes and 200 <= status < 300:
            self.made = MadeReader(self._objects.makes, prefix=self._objects.prefix, content_type=content_type)
            self.made.is_unread = _is_encoded(headers)
            self.sent_ids = self._objects.sent
        streams = self._is_labelled_events or (self._facts.stream and status < 300)
        if self._is_list:
            self.buffered = []
            return
        bytes_max = self._buffered_bytes_max if 200 <= status < 300 else BUFFERED_BYTES_MAX if status >= 400 else 0
        if bytes_max and not streams and (content_length is None or content_length <= bytes_max):
            self.buffered = []
            return
        self._start(None if self.hides_usage_chunk else content_length)

    def on_body(self, data: bytes) -> None:
        size = len(data)
        self.bytes_in += size
        made = self.made
        if made is not None and not made.is_unread and made.feed(data) and self._exchange is not None:
            self._exchange.note_made()
        data = self.meter.feed(data)
        reading = self.meter.reading
        if reading.text_chars > UNCOUNTED_CHARS_MAX and self._exchange is not None:
            self._exchange.count_soon()
        if self._drain is not None:
            bound = self._drain.count(size)
            if bound is not None:
                self._stop_reading_on(bound)
        if self.is_client_gone:
            return
        if reading.ended and self._is_holding and self.buffered is None:
            self._hold(data)  # the client could take the answer for complete
            return
        if self._is_list:
            self.unshown.append(data)
            if self.bytes_in > LIST_BYTES_MAX:
                self.cut(LIST_UNREADABLE)
            return
        if self.buffered is not None:
            self.buffered.append(data)
            self._buffered_bytes += len(data)
            if self._buffered_bytes > BUFFERED_BYTES_MAX:
                self._start(None)
                kept, self.buffered = self.buffered, None
                self.response.write(b"".join(kept))
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self.held.append(data)
                return
        self.response.write(data)

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
        self.status = self.failure.code.status  # also in the usage: the caller's own key was right
        if self.connection is not None:
            self.connection.abort()
        self._end()

    @property
    def bytes_unread(self) -> int:
        """Bytes of the body that no meter could read."""
        reading = self.meter.reading
        return self.bytes_in if reading.is_unread else reading.unread_bytes

    @property
    def is_key_refused(self) -> bool:
        return self.failure is not None and self.failure.kind is FailureKind.UNAUTHORIZED

    def _hold(self, data: bytes) -> None:
        self.held.append(data)
        if self._hold_timer is None:
            self._hold_timer = self._loop.call_later(HELD_SECONDS_MAX, self._give_up_holding)

    def _give_up_holding(self) -> None:
        self._is_holding = False
        held, self.held = self.held, []
        if not self.is_client_gone and not self.ended.done():
            self.response.write(b"".join(held))

    def _start(self, length: int | None) -> None:
        self._left = length
        ours = self._exchange.early_headers() if self._exchange is not None else []
        now_ms = self._exchange.now_ms() if self._exchange is not None else None
        headers = response_headers(self.headers, ours=ours, status=self.status, now_ms=now_ms, is_http_1_0=self.is_http_1_0)
        self.response.start(self.status, headers, length=length)

    def _end(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        if self._drain is not None:
            failed = DrainEnd.FAILED if self.failure is not None else self._drain_end
            self._drain.finish(DrainEnd.COMPLETE if self.is_complete else failed)
            self._drain = None
        if self.made is not None:
            self.made.end_body()
            if self.made.is_unread:
                _log.warning("an answer that makes a stored object cannot be read: nobody owns what it made")
        rest = self.meter.end_body()
        if rest:
            (self.held if self.buffered is None else self.buffered).append(rest)
        if not self.ended.done():
            self.ended_at = self._clock()
            self.ended.set_result(None)
        self.connection = self._exchange = None

    # The client's side.

    def client_gone(self) -> None:
        if self.is_client_gone:
            return
        self.is_client_gone = True
        if self.connection is None or self.ended.done():
            return
        if self.buffered is not None:
            self.buffered.clear()  # nobody waits for it: what is read on is metered, not kept
        self.held.clear()
        if self._drains is not None and (not self.status or 200 <= self.status < 300):
            self._drain = self._drains.start(self._org, is_stream=self.is_streamed)
        if self._drain is None:
            self.cut()
            return
        self._drain_timer = self._loop.call_later(self._drain.seconds, self._stop_reading_on, DrainEnd.TIME)
        self.is_behind = False
        self.connection.resume()

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer is an event stream, as its label or its first bytes say."""
        return self._is_labelled_events or self.meter.reading.is_events

    @property
    def is_streamed(self) -> bool:
        """Whether the answer is a stream, as requested or as seen."""
        return self.is_event_stream or self._facts.stream

    def _stop_reading_on(self, bound: DrainEnd) -> None:
        self._drain_end = bound
        self.cut()

    def client_paused(self) -> None:
        if self.connection is not None and not self.ended.done():
            self.is_behind = True
            self.connection.pause()

    def client_resumed(self) -> None:
        if self.connection is not None and not self.ended.done():
            self.is_behind = False
            self.connection.resume()

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


def _is_encoded(headers: list[Header]) -> bool:
    """Compressed although identity was asked for: relayed as it is, but not read (a proxy that unpacks can be made to burst)."""
    return any(name.lower() == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers)
