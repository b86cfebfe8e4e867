"""The interface of a wire API that is spoken over a WebSocket: which messages ask for a turn, and which turn a message is about.

A turn is what an exchange is over HTTP: one response of the model, held, metered and settled by itself. Implementations are pure,
as other dialects' are.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from tallygate.dialects.dialect import Dialect
from tallygate.domain.errors import Refusal

RESPONSE: Final = "response"  # the kind of turn that clients ask for


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that the server may begin by itself, to be held before a message passes.

    kind       one of each kind is held at a time
    body       that `read_request` reads
    needs_ms   of speech that it has to cover; covers_ms: what one that is held now covers
    additions  how often something was added that it has to cover too: one that was held before the last one does not
    """

    kind: str
    body: bytes
    needs_ms: int
    covers_ms: int
    additions: int


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's message does.

    asks    for a turn, which costs
    lane    in which the turn's messages come, or the id by which the upstream's error names it
    ahead   what has to be held before it passes
    adds    to what a turn that is held ahead will read: `ahead` is held in place of such a turn, and not where there is none
    """

    asks: bool
    lane: str = ""
    ahead: tuple[Ahead, ...] = ()
    adds: bool = False


class ServerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream's message is about.

    is_of_turn    False: it is no part of any response
    kind          of the turn, as in `Ahead`
    is_read       False: it only tells of the turn's beginning, and the meter does not read it
    response_id   of the response that it names; "" for none
    begins, ends  a response, or the turn for which an error stands
    error_status  the HTTP status of an error by which the API refuses what was asked, unless it has begun; 0: it is none
    """

    is_of_turn: bool = True
    kind: str = RESPONSE
    is_read: bool = True
    lane: str = ""
    response_id: str = ""
    begins: bool = False
    ends: bool = False
    error_status: int = 0


class SocketTalk(Dialect, Protocol):
    """What is said over one socket: the dialect of its turns, with what it knows of the session."""

    def read_client(self, message: bytes) -> ClientMessage:
        """Read a client's message. Raises RequestRejectedError for one that may not pass: it could cost what nobody holds."""

    @property
    def is_expecting(self) -> bool:
        """Return whether the upstream may begin something if nothing more is sent to it."""

    def ahead(self, *, begun: str = "") -> tuple[Ahead, ...]:
        """What the upstream may begin by itself, from what it has been sent so far. begun: a kind that it has begun in any case."""

    def read_server(self, message: bytes) -> ServerMessage:
        """Read an upstream's message, however odd."""

    def error_event(self, refusal: Refusal, *, request_id: str, lane: str, headers: Mapping[str, str]) -> bytes:
        """An error as the API's clients understand it. headers: those that it would have over HTTP."""


@runtime_checkable
class SocketDialect(Dialect, Protocol):
    """A dialect of routes for WebSockets.

    subprotocols     those that are offered to the upstream if the client offers them
    key_subprotocol  what a client's key stands behind in a subprotocol: pages cannot set headers
    is_serial        in one lane responses come one after the other, so the next turn waits for the end of the one before
    """

    subprotocols: Sequence[str]
    key_subprotocol: str
    is_serial: bool

    def talk(self, query: Mapping[str, str]) -> SocketTalk:
        """Begin to read a new socket. query: of its handshake. Raises RequestRejectedError."""
