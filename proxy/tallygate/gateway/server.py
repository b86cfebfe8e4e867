"""The gateway's server: the listening socket, the background work of a worker, and its orderly end."""

import asyncio
import logging
import socket
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tallygate.domain.errors import StoreError
from tallygate.gateway.exchange.checkpoints import checkpoint_forever
from tallygate.gateway.exchange.pipeline import Pipeline
from tallygate.gateway.refusals import SHUTTING_DOWN
from tallygate.gateway.services import Services
from tallygate.http1.client_connection import ClientServer, ClientTimeouts, reap_forever
from tallygate.http1.faults import Fault
from tallygate.http1.open_connections import Crowd

BACKLOG: Final = 1024
LINE_BYTES_MAX: Final = 8190
HEADER_COUNT_MAX: Final = 100
_REAP_EVERY_S: Final = 1.0
SETTLE_SECONDS_MAX: Final = 1.5  # for exchanges that were cut at the end to be settled
LINGER_SECONDS: Final = 1.0  # for clients of open connections to bring the request that may be on its way
_log = logging.getLogger(__name__)


class GatewayServer:
    """Serve with `start`, end with `drain` and `close`. One per worker process."""

    def __init__(
        self,
        services: Services,
        *,
        timeouts: ClientTimeouts,
        connections_max: int,
        background: Sequence[Coroutine[Any, Any, None]] = (),
    ) -> None:
        """background: what runs beside the server for as long as it does."""
        self.services = services
        self.pipeline = Pipeline(services)
        self._timeouts = timeouts
        self._http = ClientServer(
            self.pipeline.handle,
            crowd=Crowd(connections_max),
            answer_malformed=self._answer_malformed,
            head_bytes_max=services.limits.head_bytes_max,
            keepalive_timeout=timeouts.idle,
            access_log=None,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADER_COUNT_MAX,
            auto_decompress=False,
            lingering_time=timeouts.head,
            logger=_log,
        )
        self._background = background
        self._listener: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, listening: socket.socket) -> None:
        """Accept on a bound socket, which other workers may share."""
        loop = self.services.loop
        self._listener = await loop.create_server(self._http, sock=listening, backlog=BACKLOG)
        work: tuple[Coroutine[Any, Any, None], ...] = (
            checkpoint_forever(self.pipeline),
            self.services.settler.replay_forever(),
            self.services.withdrawals.forever(),
            reap_forever(lambda: self._http.connections, self._timeouts, every_s=_REAP_EVERY_S),
            *self._background,
        )
        self._tasks = [loop.create_task(job) for job in work]

    def say_leaving(self) -> None:
        """Serve on, but let every answer be its connection's last, so that clients go elsewhere with their next request."""
        self.pipeline.is_draining = True

    async def drain(self, grace_seconds: float) -> None:
        """Stop accepting and wait, at most for the grace time, until the open exchanges have ended.

        An idle connection may be about to bring a request, new or kept: that one is served, for a client could not tell why not.
        """
        self.say_leaving()
        if self._listener is not None:
            self._listener.close()
        deadline = self.services.loop.time() + grace_seconds
        linger_until = min(deadline, self.services.loop.time() + LINGER_SECONDS)
        while self._http.has_idle and self.services.loop.time() < linger_until:  # noqa: ASYNC110 - as in _emptied
            await asyncio.sleep(0.02)
        self._http.pre_shutdown()
        await self._emptied(deadline - self.services.loop.time())

    async def close(self) -> None:
        """Cut what is still open, settle it as it stands, and stop the background work."""
        for live in list(self.pipeline.open):
            if live.relay is not None:
                live.relay.cut(SHUTTING_DOWN)
        if not await self._emptied(SETTLE_SECONDS_MAX):
            _log.error("%d exchanges could not be settled before the end; their leases will", len(self.pipeline.open))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.shutdown(0)
        with suppress(StoreError):  # those that cannot be withdrawn now end with their leases
            await self.services.withdrawals.attempt()
        self.services.reading.close()
        for upstream in self.services.view.upstreams.values():
            upstream.pool.close()

    async def _emptied(self, seconds: float) -> bool:
        deadline = self.services.loop.time() + seconds
        while self.pipeline.open and self.services.loop.time() < deadline:  # noqa: ASYNC110 - an event would cost every request
            await asyncio.sleep(0.02)
        return not self.pipeline.open

    def _answer_malformed(self, fault: Fault) -> web.Response:
        self.services.metrics.bad_request()
        answer = _answer_of(fault)
        if self.services.cors.origins:  # whose page asks is not known, and there is nothing in it to keep from others
            answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer


def _answer_of(fault: Fault) -> web.Response:
    """In the shape of a problem (RFC 9457), with the error object that SDKs look for.

    Constant: no dialect is known, and nothing of the input may come back.
    """
    status, message = HTTPStatus(fault.status), fault.message
    kind = "server_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    code = "internal_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
    body = (
        f'{{"type":"about:blank","title":"{status.phrase}","status":{status.value},"detail":"{message}",'
        f'"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}'
    )
    return web.Response(status=status, body=body.encode(), content_type="application/problem+json")
