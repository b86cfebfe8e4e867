"""A port for clients: its connections, their deadlines, and its shutdown. The gateway and the console have one each."""

import asyncio
import socket
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

from aiohttp import web

from tallygate.http1.client_connection import ClientConnection, ClientTimeouts
from tallygate.http1.open_connections import OpenConnections
from tallygate.shares.ticks import tick

BACKLOG: Final = 1024
REAP_EVERY_S: Final = 1.0
LINGER_S: Final = 1.0  # for clients of open connections to bring the request that may be on its way
_LOOK_EVERY_S: Final = 0.02


class ClientPort:
    """Opened by `open`, ended by `drain` and then `close`."""

    def __init__(self, *, connections_max: int, timeouts: ClientTimeouts, **options: Any) -> None:
        """options: of `ClientConnection`, beside those that follow from the others."""
        self._timeouts = timeouts
        self._options = {
            **options,
            "open_connections": OpenConnections(connections_max),
            "keepalive_timeout": timeouts.idle,
            "lingering_time": timeouts.head,
        }
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._is_leaving = False

    @property
    def connections(self) -> Collection[ClientConnection]:
        """Connections that are open, and those that were closed while their request is still being handled."""
        found = () if self._server is None else self._server.connections
        return [connection for connection in found if isinstance(connection, ClientConnection)]

    async def open(self, server: web.Server, listening: socket.socket) -> None:
        """Accept on a bound socket, which other processes may share. server: hands the requests to their handler."""
        loop = asyncio.get_running_loop()
        self._server = server
        self._listener = await loop.create_server(partial(self._connection, server, loop), sock=listening, backlog=BACKLOG)
        self._reaping = loop.create_task(self._reap_forever())

    def announce_leaving(self) -> None:
        """Keep serving, but make every answer its connection's last, so that clients send their next request elsewhere."""
        self._is_leaving = True
        for connection in self.connections:
            connection.is_last = True

    async def drain(self, grace_s: float, *, is_busy: Callable[[], bool]) -> None:
        """Accept no more connections, and return once none is busy, at the latest after the grace.

        A request that arrives on an idle connection is still served: its client could not know why it failed. One under way is
        received whole, and its connection closed after its answer.
        """
        self.announce_leaving()
        self._stop_accepting()
        time = asyncio.get_running_loop().time
        deadline = time() + grace_s
        await until(lambda: not any(connection.is_idle for connection in self.connections), min(LINGER_S, grace_s))
        for connection in self.connections:
            if connection.is_idle:
                connection.hang_up()
        await until(lambda: not is_busy(), deadline - time())

    def is_answering(self) -> bool:
        """Return whether a request is being handled."""
        return any(connection.is_answering for connection in self.connections)

    def close(self) -> None:
        """Accept no more connections and check no more deadlines. The server closes the connections."""
        self._stop_accepting()
        if self._reaping is not None:
            self._reaping.cancel()

    def reap(self, now: float) -> None:
        """Abort every connection whose client is overdue. now: seconds of the loop's clock."""
        for connection in self.connections:
            if connection.is_overdue(now, self._timeouts):
                connection.abort()

    def _connection(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> ClientConnection:
        connection = ClientConnection(server, loop=loop, **self._options)
        connection.is_last = self._is_leaving
        return connection

    def _stop_accepting(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def _reap_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await tick(REAP_EVERY_S)
            self.reap(loop.time())


async def until(is_reached: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition and return whether it came true in that time. It is polled: an event would cost every request."""
    time = asyncio.get_running_loop().time
    deadline = time() + seconds
    while not is_reached() and time() < deadline:  # noqa: ASYNC110 - as above
        await asyncio.sleep(_LOOK_EVERY_S)
    return is_reached()
