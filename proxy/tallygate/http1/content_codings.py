"""Bodies in gzip, deflate and zstd, decoded piece by piece as they arrive, within bounds against decompression bombs.

RFC 9110 section 8.4: the codings of a body, listed in the order in which they were applied.
"""

import importlib
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from aiohttp import StreamReader, hdrs, web

from tallygate.domain.errors import ErrorCode, Refusal, Refused

ACCEPTED: Final = ("gzip", "deflate", "zstd")
STACKED_MAX: Final = 2
RATIO_MAX: Final = 100  # decoded bytes for each that was sent; prose comes to 3, JSON of much the same to 20
RATIO_FLOOR_BYTES: Final = 1_000_000  # up to here any ratio
PARTS_MAX: Final = 1_000  # gzip members or zstd frames, each of which costs a new decoder; bgzip makes one for each 64 KiB
ZSTD_WINDOW_LOG_MAX: Final = 23  # 8 MiB: RFC 9659 section 3 allows no more in HTTP
AT_ONCE_BYTES_MAX: Final = 32_768  # decoded on the event loop, some 0.1 ms; longer input takes turns in a thread
PIECE_BYTES: Final = 262_144

_GZIP_BITS: Final = 31  # zlib's: a window of any size, with gzip's head and check
_NO_CODING: Final = re.compile(
    r"|identity|none|null|plain|text|binary|[78]bit|utf-?(8|16|32)(le|be)?|(us-)?ascii|iso-8859-\d+|latin-?1|(windows-|cp)\d+"
)
_ALIASES: Final = {"x-gzip": "gzip"}  # RFC 9110 section 8.4.1.3


def content_codings(field: str) -> tuple[str, ...]:
    """The codings of Content-Encoding in the order in which they were applied; "identity" is none (RFC 9110 section 8.4.1).

    Raises Refused for unsupported ones.
    """
    names = [name.strip().lower() for name in field.split(",")]
    found = tuple(_ALIASES.get(name, name) for name in names if name not in {"", "identity"})
    if len(found) > STACKED_MAX or not set(ACCEPTED).issuperset(found):
        message = (
            f"Content-Encoding of a request must be one of {', '.join(ACCEPTED)}, or at most {STACKED_MAX} of these: "
            "send the body so, or plain."
        )
        raise Refused(Refusal(code=ErrorCode.UNSUPPORTED_ENCODING, message=message, should_retry=False))
    return found


def answer_codings(field: bytes) -> tuple[str, ...]:
    """The codings in a Content-Encoding of an answer in the order in which they were applied, known or not.

    What is none, though services put it there, is left out: identity, an empty value, `none`, a charset, an encoding of mail.
    """
    names = [each.partition(";")[0].strip().lower() for each in field.decode("latin-1").split(",")]
    return tuple([_ALIASES.get(each, each) for each in names if not _NO_CODING.fullmatch(each)])


class _Layer(Protocol):
    """Decoder of one coding: `feed`, then `decode` until it returns nothing. Raises zlib.error, zstd's error or ValueError.

    is_whole   nothing was fed yet, or what was fed is complete
    """

    is_whole: bool

    def feed(self, data: bytes) -> None: ...
    def decode(self, most: int) -> bytes: ...


class _Parts:
    """A coding of consecutive parts: gzip members (RFC 1952 section 2.2), zstd frames (RFC 8878 section 3)."""

    def __init__(self, new_part: Callable[[], Any]) -> None:
        self._new_part = new_part
        self._part: Any = None
        self._count = 0
        self._fed = b""
        self.is_whole = True

    def feed(self, data: bytes) -> None:
        self._fed += data

    def decode(self, most: int) -> bytes:
        while True:
            if self._part is None:
                if not self._fed:
                    return b""
                self._count += 1
                if self._count > PARTS_MAX:
                    raise ValueError(f"more than {PARTS_MAX} parts")
                self._part, self.is_whole = self._new_part(), False
            data, self._fed = self._fed, b""
            piece: bytes = self._part.decompress(data, most)
            if self._part.eof:
                self._fed = self._part.unused_data
                self._part, self.is_whole = None, True
            else:
                self._fed = getattr(self._part, "unconsumed_tail", b"")  # zstd keeps its own
            if piece or self._part is not None:
                return piece


class _Deflate:
    """One zlib stream (RFC 1950), or the bare deflate data that some clients send in its place (RFC 9110 section 8.4.1.2)."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._fed = b""
        self.is_whole = True

    def feed(self, data: bytes) -> None:
        self._fed += data

    def decode(self, most: int) -> bytes:
        self.is_whole = self.is_whole and not self._fed
        if self._stream is None:
            if len(self._fed) < 2:
                return b""
            is_zlib = self._fed[0] & 0x0F == 8 and self._fed[0] < 0x80 and int.from_bytes(self._fed[:2]) % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        data, self._fed = self._fed, b""
        if self._stream.eof:
            if data:
                raise ValueError("bytes after the end")
            return b""
        piece: bytes = self._stream.decompress(data, most)
        self._fed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        self.is_whole = self._stream.eof and not self._fed
        return piece


def _gzip_member() -> Any:
    return zlib.decompressobj(_GZIP_BITS)


def _zstd_frame() -> Any:
    zstd = _zstd()
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


def _zstd() -> Any:
    """Loaded by the first body that needs it: Python's own from 3.14 on, before that the same module as a package."""
    try:
        return importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        return importlib.import_module("backports.zstd")


def _layer(coding: str) -> _Layer:
    return _Deflate() if coding == "deflate" else _Parts(_gzip_member if coding == "gzip" else _zstd_frame)


class BodyDecoder:
    """Decoder of a body, without I/O: `feed` bytes, `decode` until it returns nothing, `check_whole` at the end. Raises Refused.

    No layer returns more than `bytes_max` in all nor, above RATIO_FLOOR_BYTES, more than RATIO_MAX for each byte fed: what is
    packed around a bomb is counted too, however little is left of it in the end.
    """

    def __init__(self, codings: Sequence[str], *, bytes_max: int) -> None:
        self._layers = [_layer(coding) for coding in reversed(codings)]
        self._given = [0] * len(self._layers)
        self._bytes_max = bytes_max
        self._coded = 0

    @property
    def is_stacked(self) -> bool:
        return len(self._layers) > 1

    @property
    def decoded(self) -> int:
        """Bytes returned so far."""
        return self._given[-1]

    def feed(self, coded: bytes) -> None:
        self._coded += len(coded)
        self._layers[0].feed(coded)

    def decode(self, most: int) -> bytes:
        """Return up to `most` further bytes; none where more has to be fed first."""
        try:
            return self._pull(len(self._layers) - 1, most)
        except (zlib.error, ValueError, EOFError) as error:
            raise _malformed() from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise _malformed() from error

    def check_whole(self) -> None:
        if not all(layer.is_whole for layer in self._layers):
            raise _malformed()

    def _pull(self, index: int, most: int) -> bytes:
        layer = self._layers[index]
        while True:
            piece = layer.decode(most)
            if piece:
                self._given[index] += len(piece)
                self._check(self._given[index])
                return piece
            more = self._pull(index - 1, most) if index else b""
            if not more:
                return b""
            layer.feed(more)

    def _check(self, given: int) -> None:
        if given > self._bytes_max:
            raise Refused(too_large(self._bytes_max))
        if given > max(RATIO_FLOOR_BYTES, RATIO_MAX * self._coded):
            raise Refused(
                Refusal(
                    code=ErrorCode.REQUEST_TOO_LARGE,
                    message=(
                        f"The request body is packed too tightly: of a body of more than {RATIO_FLOOR_BYTES} bytes at least one in "
                        f"{RATIO_MAX} must be sent. Send it without Content-Encoding."
                    ),
                    should_retry=False,
                )
            )


Work = Callable[[Callable[[], bytes]], Awaitable[bytes]]


class DecodedContent:
    """The decoded body of a request, with the interface of its stream.

    in_turn   runs work in a thread, in the turn of the request's organization
    """

    def __init__(self, content: StreamReader, codings: Sequence[str], *, bytes_max: int, in_turn: Work) -> None:
        self._content = content
        self._decoder = BodyDecoder(codings, bytes_max=bytes_max)
        self._in_turn = in_turn
        self._newest = 0

    async def readany(self) -> bytes:
        """The next bytes, at most PIECE_BYTES; none at the end. Raises Refused, and what the stream raises."""
        decoder = self._decoder
        while True:
            if self._newest:
                is_small = not decoder.is_stacked and max(decoder.decoded, self._newest) < AT_ONCE_BYTES_MAX
                if piece := decoder.decode(AT_ONCE_BYTES_MAX) if is_small else await self._in_turn(self._decode_piece):
                    return piece
            coded = await self._content.readany()
            self._newest = len(coded)
            if not coded:
                decoder.check_whole()
                return b""
            decoder.feed(coded)

    def _decode_piece(self) -> bytes:
        return self._decoder.decode(PIECE_BYTES)


def coded_as(request: web.BaseRequest) -> tuple[str, ...]:
    """The codings of the request's body; none if there is no body. Raises Refused."""
    field = request.headers.get(hdrs.CONTENT_ENCODING, "")
    return content_codings(field) if field and request.body_exists else ()


def too_large(bytes_max: int) -> Refusal:
    return Refusal(
        code=ErrorCode.REQUEST_TOO_LARGE,
        message=f"The request body is larger than {bytes_max} bytes.",
    )


def _malformed() -> Refused:
    return Refused(
        Refusal(
            code=ErrorCode.INVALID_REQUEST,
            message="The request body is not what its Content-Encoding says: damaged, cut short, or followed by something else.",
            should_retry=False,
        )
    )
