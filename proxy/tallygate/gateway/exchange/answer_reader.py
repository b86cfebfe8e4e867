"""Reading of an upstream's answer as it passes: its head, its usage, and the stored objects that it creates."""

import logging
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from tallygate.dialects.dialect import Dialect, RequestFacts, ResponseMeter
from tallygate.dialects.made_objects import MadeReader
from tallygate.dialects.meters import NO_METER
from tallygate.gateway.exchange.coded_meter import CodedMeter
from tallygate.http1.content_codings import answer_codings
from tallygate.http1.header import Header, names_of

UNCOUNTED_CHARS_MAX: Final = 1 << 18  # generated text kept for counting; more of it is counted before the next checkpoint
_NAMES_READ_MAX: Final = 256  # sequences of names: an upstream sends the same ones again and again
_log: Final = logging.getLogger(__name__)


class AnswerHead(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer.

    status      0 while none has come
    codings     of the body, although identity was asked for
    """

    status: int = 0
    headers: list[Header] = []
    content_length: int | None = None
    content_type: str = ""
    is_labelled_events: bool = False
    codings: tuple[str, ...] = ()
    is_http_1_0: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


NO_HEAD: Final = AnswerHead()


@lru_cache(_NAMES_READ_MAX)
def _described_places(names: tuple[bytes, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places of Content-Type and of Content-Encoding among a head's names."""
    lower = [name.lower() for name in names]
    types = tuple(place for place, name in enumerate(lower) if name == b"content-type")
    return types, tuple(place for place, name in enumerate(lower) if name == b"content-encoding")


def head_of(status: int, headers: list[Header], *, content_length: int | None, is_http_1_0: bool) -> AnswerHead:
    """The head of an answer with these headers. Of several content types the first counts."""
    types, coded = _described_places(names_of(headers))
    codings: tuple[str, ...] = ()
    for place in coded:
        codings += answer_codings(headers[place][1])
    text = headers[types[0]][1].decode("latin-1") if types else ""
    return AnswerHead(
        status=status,
        headers=headers,
        content_length=content_length,
        content_type=text,
        is_labelled_events=text.startswith("text/event-stream"),
        codings=codings,
        is_http_1_0=is_http_1_0,
    )


class AnswerObjects(msgspec.Struct, frozen=True, kw_only=True):
    """The stored objects in an answer; kinds as in `RouteObjects`.

    sent      the request's body, where an id in it is not proved to be new by the answer
    compares  the kind of objects that the answer names as existing before, possibly others'
    refers    it names by an address of the provider what is to be fetched here
    """

    makes: str
    lists: str
    prefix: str
    sent: bytes = b""
    compares: str = ""
    refers: bool = False

    @property
    def is_read_whole(self) -> bool:
        """Return whether the answer may show others' objects, or lead past the gateway, so that it is never relayed unchanged."""
        return bool(self.lists or self.compares or self.refers)


class ReadExchange(Protocol):
    """The exchange whose answer is read."""

    def note_made(self) -> None:
        """Record an object that a stream has made."""

    def count_soon(self) -> None:
        """UNCOUNTED_CHARS_MAX of generated text have gathered in the meter."""


class AnswerReader:
    """Reads a body piece by piece, and changes no byte of it but our own usage chunk.

    facts     of the request; objects: what to read about stored objects, None for nothing
    bytes_in  of the body, as the upstream sent it
    reading   what the dialect's meter has read
    coded     the meter, where the body comes coded
    made      the objects that the answer makes; None where none is looked for
    sent_ids  what is found in here was not made by the answer
    """

    __slots__ = ("_dialect", "_exchange", "_meter", "bytes_in", "coded", "facts", "made", "objects", "reading", "sent_ids")

    def __init__(self, exchange: ReadExchange, dialect: Dialect, facts: RequestFacts, objects: AnswerObjects | None = None) -> None:
        self.facts = facts
        self.objects = objects
        self.bytes_in = 0
        self.coded: CodedMeter | None = None
        self.made: MadeReader | None = None
        self.sent_ids = b""
        self._dialect = dialect
        self._exchange: ReadExchange | None = exchange
        self._meter: ResponseMeter = NO_METER
        self.reading = NO_METER.reading

    def begin(self, head: AnswerHead, *, hides_usage_chunk: bool) -> None:
        """Read the body of a 2xx answer from now on; of any other, and before, bytes are only counted."""
        self._meter = self._dialect.meter(self.facts, content_type=head.content_type, hide_usage_chunk=hides_usage_chunk)
        if head.codings and not self._meter.reading.is_unread:
            self._meter = self.coded = CodedMeter(self._meter, head.codings)
        self.reading = self._meter.reading
        objects = self.objects
        if objects is not None and objects.makes:
            self.made = MadeReader(objects.makes, prefix=objects.prefix, content_type=head.content_type)
            self.made.is_unread = bool(head.codings)
            self.sent_ids = objects.sent

    def feed(self, data: bytes) -> bytes:
        """Read a piece; returns the bytes for the client."""
        self.bytes_in += len(data)
        made = self.made
        if made is not None and not made.is_unread and made.feed(data) and self._exchange is not None:
            self._exchange.note_made()
        data = self._meter.feed(data)
        reading = self.reading = self._meter.reading  # another one once the first bytes have shown what it is
        if reading.text_chars > UNCOUNTED_CHARS_MAX and self._exchange is not None:
            self._exchange.count_soon()
        return data

    def end_body(self) -> bytes:
        """End the body, whole or cut; returns the bytes that the meter held back. Drops the exchange, which refers to this."""
        self._exchange = None
        if self.made is not None:
            self.made.end_body()
            if self.made.is_unread:
                _log.warning("an answer that makes a stored object cannot be read: nobody owns what it made")
        rest = self._meter.end_body()
        self.reading = self._meter.reading
        return rest

    async def read_on(self) -> None:
        """Read what waits after the end of a coded body."""
        if self.coded is not None:
            await self.coded.read_on()
            self.reading = self.coded.reading

    @property
    def bytes_unread(self) -> int:
        """Bytes of the body that no meter could read."""
        return self.bytes_in if self.reading.is_unread else self.reading.unread_bytes
