"""aiohttp's side of a client's connection, under names of our own: the one file that uses names which aiohttp may change.

A name is private here if aiohttp's documentation does not promise it, with an underscore or without. What each is used for stands
in tests/http1/test_aiohttp_contract.py, which fails by name where a new version has changed one; pyproject.toml lets in no minor
version that the test has not seen.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sized
from typing import Any, Final, cast

from aiohttp import HttpVersion11, StreamReader, hdrs, http_parser, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tallygate.http1.faults import INTERNAL, MALFORMED, Fault, HeadLimits, fault_of
from tallygate.http1.header import Headers
from tallygate.http1.received_head import in_origin_form

AIOHTTP_LEAST: Final = (3, 14, 3)  # the security fixes up to here are needed
AIOHTTP_TOO_NEW: Final = (3, 15)  # the names below have not been tested with it; pyproject.toml asks for the same versions

Answer = Callable[[Fault], web.Response]
RequestHead = RawRequestMessage
EMPTY_BODY: Final = EMPTY_PAYLOAD
_NO_REQUEST: Final = (0, None, EMPTY_BODY)


class FaultError(Exception):
    """Carries the fault of a request through aiohttp to `handle_error`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ServerConnection(web.RequestHandler):
    """A connection whose requests are parsed, queued and answered one after the other."""

    __slots__ = ("answer_fault",)

    def __init__(self, server: web.Server, *, answer_fault: Answer, **options: Any) -> None:
        """answer_fault: a constant answer to what the parser refuses. options: aiohttp's, for its request handler."""
        super().__init__(server, **options)
        self.answer_fault = answer_fault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if sys.version_info < (3, 12):
            self._loop = cast("asyncio.AbstractEventLoop", _InOneTask(self._loop, self._messages))

    @property
    def is_answering(self) -> bool:
        """Return whether a request has been handed to its handler and is not answered yet."""
        return self._request_in_progress

    def turn_away(self) -> None:
        """Let aiohttp forget a connection that it never knew: instead of `connection_made`."""
        self._manager = None

    def parse(self, data: bytes) -> tuple[int, RequestHead | None, StreamReader]:
        """The number of heads that ended in these bytes, the last of them, and its body. The head is None if it is a fault.

        Requests whose target is a URL become those for its path.
        """
        before = self._request_count
        super().data_received(data)
        parsed = self._request_count - before
        if not parsed:
            return _NO_REQUEST
        messages = self._messages
        for place in range(-parsed, 0):
            message, body = messages[place]
            if not isinstance(message, _ErrInfo) and not message.path.startswith("/"):
                messages[place] = _for_its_path(message), body
        newest, body = messages[-1]
        return parsed, None if isinstance(newest, _ErrInfo) else newest, body

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as in aiohttp
        """Read on, where reading was paused. aiohttp asks for it at each piece and at the end of every body.

        Requests in line may be as many as its parser takes, which it then learns here to go on with.
        """
        if self._reading_paused or self._messages:
            super().resume_reading(resume_parser)

    def receive_frames(self, data: bytes) -> None:
        """Hand on bytes of a connection that has switched to WebSocket."""
        super().data_received(data)

    def explain_fault(self, head: bytes | bytearray) -> None:
        """Replace the parser's message about the newest request by our own fault. head: empty if its body is at fault."""
        info, body = self._messages[-1]
        limits = HeadLimits(line=self.max_line_size, fields=self.max_headers)
        is_too_long = isinstance(info, _ErrInfo) and isinstance(info.exc, LineTooLong)
        self._messages[-1] = _error_of(fault_of(bytes(head), limits, is_too_long=is_too_long)), body

    def queue_fault(self, fault: Fault) -> None:
        """Answer a head that the parser has not refused, after the requests before it."""
        self._messages.append((_error_of(fault), EMPTY_BODY))
        self._request_count += 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_until_written(self) -> None:
        """Wait until the client has received enough of the written bytes for its connection to accept more."""
        if self.writing_paused and self.transport is not None:
            await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The one answer to what the parser refuses, so that nothing of the request comes back or reaches a log."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError
        fault = exc.fault if isinstance(exc, FaultError) else MALFORMED if status < 500 else INTERNAL
        response = self.answer_fault(fault)
        if fault.is_head:
            _claim(request, "method", hdrs.METH_HEAD)
        last_answer(request, response)
        return response


class _InOneTask:
    """The loop of a connection in whose own task its requests are handled: what aiohttp would make a task for is awaited as it is.

    aiohttp makes one for each request, for context variables of its own, which costs two turns of the loop. So do requests that
    came together here: others get their turn between two of them. From Python 3.12 on such a task begins at once, and this is not
    needed; nor would it do, since a task that begins at once asks its loop which task is the current one.
    """

    __slots__ = ("_in_line", "_loop", "call_at", "create_future", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop, in_line: Sized) -> None:
        """in_line: the requests that wait for the one under way to end."""
        self._loop = loop
        self._in_line = in_line
        self.call_at = loop.call_at
        self.create_future = loop.create_future
        self.time = loop.time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return self._loop.create_task(work) if self._in_line else work


class ReceivedRequest(web.BaseRequest):
    """A request whose facts are attributes: of aiohttp's own each is a call, whenever it is read."""

    __slots__ = ("content", "content_length", "headers", "keep_alive", "method", "protocol", "raw_headers", "raw_path", "version")
    content_length: int | None
    protocol: web.RequestHandler

    def clone(self, **changes: Any) -> "ReceivedRequest":
        request = cast("ReceivedRequest", super().clone(**changes))
        return _described(request, request._message, request._payload, request._protocol)  # noqa: SLF001 - as above


def received(
    message: RequestHead,
    body: StreamReader,
    connection: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> ReceivedRequest:
    """The request of a head, as aiohttp makes it."""
    return _described(ReceivedRequest(message, body, connection, writer, task, connection._loop), message, body, connection)  # noqa: SLF001 - as above


def _described(
    request: ReceivedRequest, message: RequestHead, body: StreamReader, connection: web.RequestHandler
) -> ReceivedRequest:
    request.method = message.method
    request.raw_path = message.path
    request.version = message.version
    request.headers = headers = message.headers
    request.raw_headers = Headers(message.raw_headers)  # type: ignore[assignment]  # a sequence as well
    request.keep_alive = not message.should_close
    request.protocol = connection
    request.content = body
    length = headers.get(hdrs.CONTENT_LENGTH)
    request.content_length = None if length is None else int(length)
    return request


def end_body(body: StreamReader, error: Exception | None = None) -> None:
    """End a request's body of which no more will come, although aiohttp lets its reader wait. error: raised to its reader."""
    if error is not None and body.exception() is None:
        body.set_exception(error)
    body.feed_eof()


def last_answer(request: web.BaseRequest, response: web.Response) -> None:
    """Make aiohttp write this as HTTP/1.1, whatever the request claims to be, and close the connection."""
    _claim(request, "version", HttpVersion11)
    response.headers[hdrs.SERVER] = "tallygate"  # else aiohttp's name and version
    response.force_close()


def _claim(request: web.BaseRequest, name: str, value: object) -> None:
    """Make a request say something else of itself, by which a response is written."""
    if isinstance(request, ReceivedRequest):
        setattr(request, name, value)
    else:
        request._cache[name] = value  # noqa: SLF001 - where reading it leaves it


def put_before(server: web.Server, handler_for: Callable[[Any], Any]) -> None:
    """Have requests pass a handler in front of the server's own, of which it is made."""
    server.request_handler = handler_for(server.request_handler)


def has_c_parser() -> bool:
    """Return whether aiohttp parses with its compiled parser, as strict as the checks behind it expect."""
    return http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


def _error_of(fault: Fault) -> _ErrInfo:
    return _ErrInfo(status=fault.status, exc=FaultError(fault), message="")


def _for_its_path(request: RequestHead) -> RequestHead:
    """Convert a request whose target is a URL to its path; its authority replaces the Host header (RFC 9112 section 3.2.2)."""
    hosts = [value for name, value in request.raw_headers if name.lower() == b"host"]
    found = in_origin_form(request.method, request.path, hosts, is_http_1_0=request.version < HttpVersion11)
    if found is None:
        return request
    plain, _, query = found.path.partition("#")[0].partition("?")
    changed = request._replace(path=found.path, url=URL.build(path=plain, query_string=query, encoded=True))
    if found.host is None:
        return changed
    headers = CIMultiDict(request.headers)
    headers[hdrs.HOST] = found.host
    others = [header for header in request.raw_headers if header[0].lower() != b"host"]
    return changed._replace(headers=CIMultiDictProxy(headers), raw_headers=((hdrs.HOST.encode(), found.host.encode()), *others))
