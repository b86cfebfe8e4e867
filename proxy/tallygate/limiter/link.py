"""A transport to Redis: the calls of a loop tick are sent in one write, and replies come in the order of the calls."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from tallygate.domain.errors import NothingSentError, StoreError

_NOTHING: Final = object()
LINE_END: Final = b"\r\n"
_SHORT: Final = 2_048  # more than nearly all words of a script's call have
_LENGTHS: Final = [b"\r\n$%d\r\n" % length for length in range(_SHORT)]  # between a word of this length and the one before


class ConnectionLostError(StoreError):
    """The transport closed before the reply came: the call may or may not have been applied."""


class Link(asyncio.Protocol):
    """An open transport. A cancelled call keeps its place in the queue, so that later replies still reach their callers.

    All calls have the same time limit and replies keep their order, so one timer on the oldest call watches all. A late
    reply closes the transport: those behind it would be late as well.
    """

    __slots__ = (
        "_loop",
        "_lost",
        "_outstanding_max",
        "_pending_writes",
        "_pushed",
        "_reader",
        "_timeout_s",
        "_timer",
        "_transport",
        "_waiting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        outstanding_max: int,
        lost: Callable[["Link"], None],
        pushed: Callable[[], None] | None = None,
    ) -> None:
        """pushed: called for what comes without a call, as the messages of a channel; without it, that ends the transport."""
        self._loop = loop
        self._timeout_s = timeout_s
        self._outstanding_max = outstanding_max
        self._lost = lost
        self._pushed = pushed
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._pending_writes: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def call(self, encoded: bytes) -> asyncio.Future[Any]:
        """The reply to one encoded command; an error reply is a hiredis.ReplyError as the result.

        Raises NothingSentError at once if too many calls wait already.
        """
        if len(self._waiting) >= self._outstanding_max:
            raise NothingSentError(f"more than {self._outstanding_max} calls wait for Redis")
        future = self._loop.create_future()
        if self._transport is None:
            future.set_exception(ConnectionLostError("the connection to Redis is closed"))
            return future
        self._waiting.append((future, self._loop.time() + self._timeout_s))
        if not self._pending_writes:
            self._loop.call_soon(self._flush)
        self._pending_writes.append(encoded)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._check_oldest)
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's Unix transport is one, but says that it is not

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                future, _ = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except IndexError:  # a reply that nobody asked for
            if self._pushed is None:
                self.close()
            else:
                self._pushed()
                self.data_received(b"")
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail_waiting(exc)
        self._lost(self)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._pending_writes))
        self._pending_writes.clear()

    def _check_oldest(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        left_s = self._waiting[0][1] - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check_oldest)
        else:
            self.close()

    def _fail_waiting(self, cause: Exception | None) -> None:
        now = self._loop.time()
        for future, deadline in self._waiting:
            if not future.done():
                in_time = now < deadline
                future.set_exception(
                    ConnectionLostError(f"the connection to Redis was lost: {cause or 'closed'}")
                    if in_time
                    else StoreError(f"Redis did not answer within {self._timeout_s * 1000:.0f} ms")
                )
        self._waiting.clear()


async def open_link(new_link: Callable[[], Link], host: str, port: int, *, tls: ssl.SSLContext | None, name: str) -> Link:
    """An open transport over TCP. tls: with it, the certificate must be for the name. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(new_link, host, port, ssl=tls, server_hostname=name if tls else None)
    return link


def encoded(parts: tuple[bytes, ...]) -> bytes:
    """A command as the server reads it (RESP, "Sending commands to a Redis server")."""
    return continued(b"*%d" % len(parts), parts, LINE_END)


def continued(command: bytes, words: tuple[bytes, ...], end: bytes = b"") -> bytes:
    """The beginning of a command, up to the end of a line, with these words behind it."""
    pieces = [command]
    for word in words:
        length = len(word)
        pieces += (_LENGTHS[length] if length < _SHORT else b"\r\n$%d\r\n" % length, word)
    pieces.append(end)
    return b"".join(pieces)


def login(username: str, password: str) -> tuple[bytes, ...]:
    """The words of AUTH; none without a password."""
    if not password:
        return ()
    return (b"AUTH", *((username.encode(),) if username else ()), password.encode())
