"""Answers on the gateway's port while no worker is up, so that nobody hangs on a port from which nobody accepts.

It runs in the supervisor, on whose machine there may be no room for one more process just then. It accepts only while no worker
does, forwards nothing, and reads of a request no more than what tells in which API's shape errors are understood.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from tallygate.dialects.errors import retry_headers
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.processes.uptime import Uptime

PATIENCE_SECONDS: Final = 5.0  # a worker that crashed is back sooner: until then connections wait for it, and are served
LOOK_SECONDS: Final = 1.0  # between two looks whether a worker is up
PAUSE_SECONDS: Final = 0.05  # after a connection that could not be accepted
HEAD_SECONDS: Final = 2.0  # for a head to come; without one it is answered all the same
HEAD_BYTES_MAX: Final = 16_384
LINGER_SECONDS: Final = 1.0  # for what is still sent: a connection that is closed over unread bytes loses its answer
OPEN_MAX: Final = 512  # connections; further ones wait as before
NO_WORKER: Final = Refusal(
    code=ErrorCode.NO_WORKER,
    message="No worker of the gateway is up at the moment. Try again shortly.",
    retry_after_ms=2_000,
    should_retry=True,
)
_log = logging.getLogger(__name__)


class StandIn:
    """Stands in for the workers of one port.

    listening   the port, shared with the workers; stays open
    uptime      of the workers
    is_crossed  whether pages of other origins may call, which may then read the answer
    """

    def __init__(self, listening: socket.socket, uptime: Uptime, *, is_crossed: bool, new_id: Callable[[], str]) -> None:
        self._listening = listening
        self._uptime = uptime
        self._is_crossed = is_crossed
        self._new_id = new_id
        self._dialects = dialects()
        self._room = asyncio.Semaphore(OPEN_MAX)
        self._answering: set[asyncio.Task[None]] = set()
        self._met = self._answered = 0  # connections, since it stands in

    async def stand_in_forever(self) -> None:
        """Answer while no worker is up, but for a short while, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._uptime.down_seconds() >= PATIENCE_SECONDS:
                try:
                    await self._stand_in()
                except Exception:  # noqa: BLE001 - the outermost handler: connections wait then, as they do for a short while anyway
                    _log.exception("requests without a worker are not answered")

    async def _stand_in(self) -> None:
        """Answer until a worker is up. A start without requests is silent, however long it takes."""
        self._met = self._answered = 0
        with self._listening.dup() as own:
            accepting = asyncio.ensure_future(self._accept_forever(own))
            try:
                await self._uptime.up.wait()
            finally:
                accepting.cancel()
                await asyncio.wait(
                    {accepting}
                )  # and not `await accepting`: who is cancelled meanwhile must not take it for its end
        if self._met:
            _log.warning("a worker is up again", extra={"fields": {"answered_503": self._answered}})

    async def _accept_forever(self, own: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(own)
            except OSError:  # out of descriptors, or the client has left
                self._room.release()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            except BaseException:
                self._room.release()
                raise
            if not self._met:
                _log.warning("no worker is up: every request gets 503 until one is")
            self._met += 1
            task = loop.create_task(self._serve(connection))
            self._answering.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._room.release()

    async def _serve(self, connection: socket.socket) -> None:
        """Answer one connection and close it. Whatever fails there concerns its client alone."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        with connection, contextlib.suppress(OSError, TimeoutError):
            head = await _head(connection)
            async with asyncio.timeout(HEAD_SECONDS):
                await loop.sock_sendall(connection, self._answer(head))
            self._answered += 1
            connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                while await loop.sock_recv(connection, HEAD_BYTES_MAX):
                    pass

    def _answer(self, head: bytes) -> bytes:
        method, path, names = _asked(head)
        request_id = self._new_id()
        content_type, body = self._dialects.spoken(path, names).error(NO_WORKER, request_id=request_id)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *retry_headers(NO_WORKER),
        ]
        if self._is_crossed:  # which origin asks need not be known: the answer has nothing to protect
            headers.append((b"access-control-allow-origin", b"*"))
        status = HTTPStatus(NO_WORKER.status)
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % header for header in headers), b"", b""]
        return b"\r\n".join(lines) + (b"" if method == "HEAD" else body)


async def _head(connection: socket.socket) -> bytes:
    """What has come of the head; all of it, if it comes soon. Raises OSError."""
    loop = asyncio.get_running_loop()
    head = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEAD_SECONDS):
            while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES_MAX:
                piece = await loop.sock_recv(connection, HEAD_BYTES_MAX)
                if not piece:
                    break
                head += piece
    return head


def _asked(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    """Method, path and the names of headers, as far as they can be read: they decide nothing but the shape of the answer."""
    first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    method, _, target = first.partition(" ")
    names = {line.partition(":")[0].strip().lower(): "" for line in lines}
    return method, target.partition(" ")[0].partition("?")[0], names
