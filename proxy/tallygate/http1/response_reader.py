"""One HTTP/1.1 response, read incrementally; no socket, clock or task.

llhttp (through httptools) parses heads and chunks, in its strict mode. Where a body ends is decided here, so that a byte after
the end is noticed, whatever it is: it must never become part of this answer or the next. A reader, and its parser, serve one
response only.
"""

from functools import lru_cache
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tallygate.http1.header import Headers, Names, names_of
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure

HEAD_BYTES_MAX: Final = 64 * 1024  # of one header section; also of chunk extensions and trailers between two pieces of body
HEADERS_MAX: Final = 200
INTERIM_MAX: Final = 16  # 1xx responses before the final one

_NAMES_READ_MAX: Final = 256  # sequences of names: an upstream sends the same ones again and again

_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_FIRST_BYTE: Final = ord("H")  # llhttp would also take leading line breaks, RTSP/ and ICE/


class ResponseSink(Protocol):
    """Receives one answer. Called inside the loop's read callback: must be quick, must not raise.

    After on_headers and any number of on_body comes exactly one of on_complete and on_failure, unless the connection is aborted:
    after `abort` nothing is called. Any of them may call pause, resume or abort on the connection.
    """

    def on_headers(self, status: int, headers: list[tuple[bytes, bytes]], *, keep_alive: bool, content_length: int | None) -> None:
        """The final response's head: 200 to 599, names as sent. content_length: as stated, also where no body follows (HEAD)."""

    def on_body(self, data: bytes) -> None:
        """The body bytes of one read, framing removed; never empty, never held back."""

    def on_complete(self) -> None:
        """The answer is whole: its framing proved it."""

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Note that there will be no whole answer."""


class InvalidResponseError(Exception):
    """Bytes that are no response, or one with ambiguous framing (RFC 9112 section 6.3). The message is our own."""


# How the body is framed. Plain numbers: each piece of a body asks, and an enum's member takes longer to look up.
_HEAD: Final = 0  # still reading a header section
_CHUNKED: Final = 1
_LENGTH: Final = 2
_UNTIL_EOF: Final = 3
_ENDED: Final = 4


@lru_cache(_NAMES_READ_MAX)
def _framing_places(names: Names) -> tuple[int, tuple[int, ...]]:
    """The place of Content-Length among a head's names, -1 for none, and those of Transfer-Encoding."""
    lower = [name.lower() for name in names]
    length = lower.index(b"content-length") if b"content-length" in lower else -1
    return length, tuple(place for place, name in enumerate(lower) if name == b"transfer-encoding")


class ResponseReader:
    """Feeds `sink` with one response. `is_complete` once framing proved the end; on_complete and on_failure are the caller's.

    is_clean_end   the connection may carry another exchange: keep-alive, and not a byte after the end
    """

    __slots__ = (
        "_content_length",
        "_fields",
        "_framing",
        "_has_begun",
        "_has_ended",
        "_held",
        "_interim",
        "_is_head_request",
        "_is_keep_alive",
        "_left",
        "_parser",
        "_sink",
        "_tail",
        "_transfer_encoding",
        "_unproductive",
        "headers_seen",
        "is_clean_end",
        "is_complete",
        "is_http_1_0",
        "on_body",
        "parts",
    )

    def __init__(self, sink: ResponseSink, *, is_head_request: bool = False) -> None:
        self._sink: ResponseSink | None = sink
        self._is_head_request = is_head_request
        self._framing = _HEAD
        self._parser: HttpResponseParser | None = None
        self._held = bytearray()
        self._interim = 0
        self._fields = Headers()
        self._content_length: int | None = None
        self._transfer_encoding: bytes | None = None
        self._is_keep_alive = False
        self._has_begun = False
        self._has_ended = False
        self._left = 0
        self._tail = b""
        self._unproductive = 0
        self.headers_seen = False
        self.is_complete = False
        self.is_clean_end = False
        self.is_http_1_0 = False
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # the parser's callback: pieces of one read are handed on together

    def feed(self, data: bytes) -> None:
        """Parse the bytes of one read. Raises InvalidResponseError; valid parts before the fault have been passed on."""
        framing = self._framing
        if framing is _CHUNKED:
            self._feed_chunked(data)
        elif framing is _LENGTH:
            self._feed_length(data)
        elif framing is _UNTIL_EOF:
            self._hand_on(data)
        elif framing is _HEAD:
            self._feed_head(data)
        else:
            self.is_clean_end = False

    def end_of_file(self) -> FailureKind | None:
        """The upstream closed. None: that was the body's end (close-delimited); else how the answer failed."""
        if self._framing is _UNTIL_EOF:
            self._end(is_clean=False)
            return None
        return FailureKind.TRUNCATED if self.headers_seen else FailureKind.RESET

    def close(self) -> None:
        """Call the sink no more."""
        self._sink = None
        self._parser = None  # it refers back to us: without this, only the garbage collector would free the two

    def _feed_head(self, data: bytes) -> None:
        if data[0] != _FIRST_BYTE and not self._held:
            raise InvalidResponseError("the response does not begin with HTTP/")
        searched = 0
        if self._held:
            searched = max(0, len(self._held) - len(_HEAD_END) + 1)
            self._held += data
            end = self._held.find(_HEAD_END, searched)
        else:
            end = data.find(_HEAD_END)
            if end < 0:
                self._held += data
        if end < 0 or end + len(_HEAD_END) > HEAD_BYTES_MAX:
            if end >= 0 or len(self._held) > HEAD_BYTES_MAX:
                raise InvalidResponseError(f"the header section is larger than {HEAD_BYTES_MAX} bytes")
            return
        if self._held:
            data = bytes(self._held)
            self._held.clear()
        end += len(_HEAD_END)
        status = self._parse_head(data[:end])
        rest = data[end:]
        if status < 200:
            self._interim += 1
            if self._interim > INTERIM_MAX:
                raise InvalidResponseError(f"more than {INTERIM_MAX} interim responses")
            self._fields.clear()
            self._content_length = self._transfer_encoding = None
            self._has_begun = self._has_ended = False
            if rest:
                self._feed_head(rest)
            return
        self._begin_body(status)
        if self.is_complete:
            self.is_clean_end &= not rest
        elif rest and self._sink is not None:
            self.feed(rest)

    def _parse_head(self, head: bytes) -> int:
        self._parser = parser = HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except HttpParserUpgrade as error:
            raise InvalidResponseError("the upstream wants to switch protocols") from error
        except HttpParserError as error:
            raise InvalidResponseError("the header section is malformed") from error
        status: int = parser.get_status_code()
        if not 100 <= status <= 599 or status == 101:
            raise InvalidResponseError("the status is not one that was asked for")
        if status == 407:  # RFC 9110 section 15.5.8: not the upstream, but a proxy on the way, which would only puzzle a client
            raise InvalidResponseError("a proxy on the way to the upstream refused with status 407")
        if len(self._fields) > HEADERS_MAX:
            raise InvalidResponseError(f"more than {HEADERS_MAX} header fields")
        self._read_framing()
        self.is_http_1_0 = not head.startswith(b"HTTP/1.1 ")
        if self.is_http_1_0 and (not head.startswith(b"HTTP/1.0 ") or self._transfer_encoding is not None):
            # RFC 9112 section 6.1: Transfer-Encoding in an HTTP/1.0 message is faulty framing
            raise InvalidResponseError("the HTTP version is not 1.1, or 1.0 without Transfer-Encoding")
        if self._transfer_encoding is not None and self._transfer_encoding.lower() != b"chunked":
            raise InvalidResponseError("a transfer coding that was not asked for")
        return status

    def _read_framing(self) -> None:
        fields = self._fields
        length, codings = _framing_places(names_of(fields))
        if length >= 0:
            self._content_length = int(fields[length][1])  # digits: llhttp has seen to that, and refuses a second one
        if codings:
            self._transfer_encoding = fields[codings[0]][1] if len(codings) == 1 else b"repeated"

    def _begin_body(self, status: int) -> None:
        length = self._content_length
        if self._is_head_request or status in {204, 304}:
            self._end(is_clean=self._is_keep_alive)
        elif self._transfer_encoding is not None:
            self._framing = _CHUNKED
        elif length is None:
            self._framing = _UNTIL_EOF
        elif length == 0:
            self._end(is_clean=self._is_keep_alive)
        else:
            self._framing = _LENGTH
            self._left = length
        self.headers_seen = True
        if self._sink is not None:
            self._sink.on_headers(status, self._fields, keep_alive=self._is_keep_alive, content_length=length)

    def _feed_length(self, data: bytes) -> None:
        self._left = left = self._left - len(data)
        if left > 0:
            self._hand_on(data)
            return
        self._end(is_clean=self._is_keep_alive and left == 0)
        self._hand_on(data if left == 0 else data[:left])

    def _feed_chunked(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            return
        fault: HttpParserError | None = None
        try:
            parser.feed_data(data)
        except HttpParserError as error:
            fault = error
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self._has_ended:
            # llhttp skips line breaks before a next message, so only the exact last chunk proves that nothing followed;
            # trailers fail this too, and cost a connection. A fault or a second message after the end is such a byte as well.
            self._end(is_clean=self._is_keep_alive and fault is None and self._tail == _LAST_CHUNK)
            fault = None
        parts = self.parts
        if parts:
            self._unproductive = 0
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._hand_on(body)
        else:
            self._unproductive += len(data)
            if self._unproductive > HEAD_BYTES_MAX and not self._has_ended:
                raise InvalidResponseError(f"more than {HEAD_BYTES_MAX} bytes of chunk extensions or trailers")
        if fault is not None:
            raise InvalidResponseError("the chunked body is malformed") from fault

    def _hand_on(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.on_body(data)

    def _end(self, *, is_clean: bool) -> None:
        self._framing = _ENDED
        self._parser = None
        self.is_complete = True
        self.is_clean_end = is_clean

    # Callbacks of the parser. They only note: the sink is called after the parser has returned, and may then abort freely.
    # Each parser asks for these too; what is missing takes longer to find missing.
    on_status = on_chunk_header = on_chunk_complete = None

    def on_message_begin(self) -> None:
        if self._has_begun:
            raise InvalidResponseError("a second response")
        self._has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headers_seen:  # else a trailer: merged into nothing, passed to nobody (RFC 9110 section 6.5.1)
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self._is_keep_alive = self._parser.should_keep_alive()  # llhttp forgets it at the end of the message

    def on_message_complete(self) -> None:
        self._has_ended = True
