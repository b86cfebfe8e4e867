"""The ways in which the body of an answer goes down to its client.

What tells a client that the answer is complete (the dialect's last event, the last bytes of a known length, the end of chunked
framing) is held back until the exchange is settled: nothing that a client saw complete can be lost.
"""

import asyncio
from typing import Final, Protocol

from tallygate.http1.client_response import ClientResponse

BUFFERED_BYTES_MAX: Final = 1 << 20  # a larger answer is streamed, and its cost comes too late for a header
HELD_SECONDS_MAX: Final = 1.0  # the longest that an upstream that has sent its last event but does not end delays the client
LIST_BYTES_MAX: Final = 4 << 20  # of a page of a list, which is read whole to leave out what is somebody else's


class ClientBody(Protocol):
    """A body on its way. is_over: more was to be kept than may be."""

    is_over: bool

    def write(self, data: bytes) -> None:
        """Send a piece, or keep it."""

    def write_ended(self, data: bytes) -> None:
        """Send or keep a piece in which the dialect's end was seen: the client could take the answer for complete."""

    def keep(self, data: bytes) -> None:
        """Keep a piece until the end."""

    def clear(self) -> None:
        """Drop the kept bytes: the client has left."""

    def end_body(self) -> None:
        """Note that nothing more comes."""

    def rest(self) -> bytes:
        """The bytes that were not sent yet."""

    def withheld(self) -> bytes | None:
        """The bytes that came of a body that is never relayed unchanged; None of any other."""


class NoBody:
    """A body before its answer has begun, of which nothing is kept. It knows nothing of any, so one serves all."""

    __slots__ = ()

    is_over = False

    def write(self, data: bytes) -> None:
        pass

    write_ended = keep = write

    def clear(self) -> None:
        pass

    end_body = clear

    def rest(self) -> bytes:
        return b""

    def withheld(self) -> None:
        return None


NO_BODY: Final = NoBody()


class KeptBody:
    """A body that is kept whole, so that its cost can stand in the answer's head. bytes_max: past it, it is over."""

    __slots__ = ("_bytes", "_bytes_max", "_pieces", "is_over")

    def __init__(self, bytes_max: int = BUFFERED_BYTES_MAX) -> None:
        self.is_over = False
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._bytes_max = bytes_max

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._bytes += len(data)
        self.is_over = self._bytes > self._bytes_max

    write_ended = write

    def keep(self, data: bytes) -> None:
        self._pieces.append(data)

    def clear(self) -> None:
        self._pieces.clear()

    def end_body(self) -> None:
        pass

    def rest(self) -> bytes:
        return b"".join(self._pieces)

    def withheld(self) -> bytes | None:
        return None


class UnshownBody(KeptBody):
    """A body that may show others' objects: it is never relayed unchanged."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(LIST_BYTES_MAX)

    def rest(self) -> bytes:
        return b""

    def withheld(self) -> bytes:
        return b"".join(self._pieces)


class _Streamed:
    """A body that goes down as it comes; from the dialect's end on it is kept, for a while."""

    __slots__ = ("_is_holding", "_left", "_loop", "_response", "_timer", "held")

    is_over = False

    def __init__(self, response: ClientResponse, loop: asyncio.AbstractEventLoop, length: int = 0) -> None:
        self._left = length
        self.held: list[bytes] = []
        self._response = response
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._is_holding = True

    def hold(self, data: bytes) -> bool:
        """Keep a piece, unless pieces have been kept for too long: then return False."""
        if not self._is_holding:
            return False
        self.held.append(data)
        if self._timer is None:
            self._timer = self._loop.call_later(HELD_SECONDS_MAX, self._give_up_holding)
        return True

    def _give_up_holding(self) -> None:
        self._is_holding = False
        held, self.held = self.held, []
        self._response.write(b"".join(held))

    def keep(self, data: bytes) -> None:
        self.held.append(data)

    def clear(self) -> None:
        self.held.clear()

    def end_body(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def rest(self) -> bytes:
        return b"".join(self.held)

    def withheld(self) -> None:
        return None


class StreamedBody(_Streamed):
    """A body of unknown length. A piece costs no call besides the response's own."""

    __slots__ = ("write",)

    def __init__(self, response: ClientResponse, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(response, loop)
        self.write = response.write

    def write_ended(self, data: bytes) -> None:
        if not self.hold(data):
            self.write(data)


class MeasuredBody(_Streamed):
    """A body whose length was announced to the client, so that its last bytes are kept."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self.held.append(data)
        else:
            self._response.write(data)

    def write_ended(self, data: bytes) -> None:
        if not self.hold(data):
            self.write(data)
