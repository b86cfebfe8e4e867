"""Stands between a client and the gateway, and notes what was asked and how it was answered; the bytes pass as they are."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httptools

PIECE_BYTES = 1 << 16
SWITCHED = 101


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request as the client sent it. headers: by lower-case name. status 0: not answered."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    status: int = 0

    @property
    def line(self) -> str:
        """Method, path and status, such as `POST /v1/messages 200`; the query is left out."""
        return f"{self.method} {self.target.partition('?')[0]} {self.status}"


@asynccontextmanager
async def running_wiretap(host: str, port: int, asked: list[Asked]) -> AsyncIterator[str]:
    """The address to give to clients. A request is added to `asked` when its head is there."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            there, back = await asyncio.open_connection(host, port)
            tap = _Tap(asked)
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(_pump(reader, back, tap.client_says), _pump(there, writer, tap.gateway_says))
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, note: Callable[[bytes], None]) -> None:
    try:
        while data := await source.read(PIECE_BYTES):
            note(data)
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


class _Tap:
    """One connection, parsed beside the bytes. What is no HTTP is not noted any more, and passes all the same."""

    def __init__(self, asked: list[Asked]) -> None:
        self._asked = asked
        self._waiting: deque[Asked] = deque()
        self._request = Asked()
        self._requests = httptools.HttpRequestParser(self)
        self._answers = _Answers(self._answered)
        self._is_switched = False  # to WebSocket, whose frames pass unread

    def client_says(self, data: bytes) -> None:
        if self._is_switched:
            return
        try:
            self._requests.feed_data(data)
        except httptools.HttpParserUpgrade as offer:  # an offer that is not taken: HTTP goes on behind it
            self._requests = httptools.HttpRequestParser(self)
            if rest := data[offer.args[0] :]:
                self.client_says(rest)
        except httptools.HttpParserError:
            pass

    def gateway_says(self, data: bytes) -> None:
        if self._is_switched:
            return
        is_bodiless = bool(self._waiting) and self._waiting[0].method == "HEAD"
        with contextlib.suppress(httptools.HttpParserError):
            try:
                self._answers.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._is_switched = True
        if is_bodiless:  # the parser does not know that no body follows its length
            self._answers = _Answers(self._answered)

    def on_message_begin(self) -> None:
        self._request = Asked()

    def on_url(self, url: bytes) -> None:
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._request.method = self._requests.get_method().decode()
        self._asked.append(self._request)
        self._waiting.append(self._request)

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def _answered(self, status: int) -> None:
        if (status >= 200 or status == SWITCHED) and self._waiting:
            self._waiting.popleft().status = status


class _Answers:
    """The other direction, of which only statuses are noted."""

    def __init__(self, answered: Callable[[int], None]) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self._answered = answered

    def on_headers_complete(self) -> None:
        self._answered(self.parser.get_status_code())
