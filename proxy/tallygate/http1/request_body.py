"""A request body, read whole or in part, and bounded."""

from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import HttpVersion11, StreamReader, hdrs, web

from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.content_codings import too_large

MALFORMED_BODY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST, message="The chunks of the request body are malformed.", should_retry=False
)


class ClientLeftError(Exception):
    """The client's connection ended before its request did."""


Reserve = Callable[[int], None]


class Content(Protocol):
    """The source of a body: the request's stream, or a decoder of it."""

    async def readany(self) -> bytes:
        """The next bytes; none at the end."""


async def read_body(
    request: web.BaseRequest,
    content: Content,
    connection: ClientConnection,
    *,
    length: int | None,
    bytes_max: int,
    reserve: Reserve,
    is_enough: Callable[[bytes], bool] | None = None,
) -> bytes:
    """Read the whole body. Raises Refused, and ClientLeftError if the client leaves in the middle.

    length      of the bytes from `content`, where it is known
    reserve     reserves memory before bytes are kept: at once for a body of known length, else as they arrive; raises Refused
    is_enough   gets each piece, and says whether no more is to be read; raises Refused
    """
    if length is not None and length > bytes_max:
        raise Refused(too_large(bytes_max))
    if length:
        reserve(length)
    send_continue(request)
    if is_enough is None and isinstance(content, StreamReader) and content.is_eof():  # most bodies come with their head
        return _at_hand(content, length=length, bytes_max=bytes_max, reserve=reserve)
    chunks: list[bytes] = []
    size = 0
    connection.await_body(bytes_max)
    try:
        while True:
            chunk = await content.readany()
            if not chunk:
                break
            size += len(chunk)
            if size > bytes_max:
                raise Refused(too_large(bytes_max))
            if length is None:
                reserve(len(chunk))
            chunks.append(chunk)
            if is_enough is not None and is_enough(chunk):
                break
        return b"".join(chunks)
    except web.RequestPayloadError:
        raise Refused(MALFORMED_BODY) from None
    except ConnectionError as error:
        raise ClientLeftError from error
    finally:
        connection.body_read()
        chunks.clear()  # the reader keeps its error, whose traceback has this frame: only the collector would free what came


def _at_hand(content: StreamReader, *, length: int | None, bytes_max: int, reserve: Reserve) -> bytes:
    """A body of which nothing is still to come."""
    try:
        body: bytes = content.read_nowait()
    except web.RequestPayloadError:
        raise Refused(MALFORMED_BODY) from None
    except ConnectionError as error:
        raise ClientLeftError from error
    if len(body) > bytes_max:
        raise Refused(too_large(bytes_max))
    if length is None:
        reserve(len(body))
    return body


def send_continue(request: web.BaseRequest) -> None:
    """Ask for the body of a client that waits for `100 Continue` (RFC 9110 section 10.1.1)."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None:
        return
    if expected.strip().lower() == "100-continue" and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
