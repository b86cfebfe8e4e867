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
from tallygate.gateway.exchange.account import checkpoint_forever
from tallygate.gateway.exchange.pipeline import Pipeline
from tallygate.gateway.observed_pipeline import AccessLines, ObservedPipeline, Observer
from tallygate.gateway.refusals import SHUTTING_DOWN
from tallygate.gateway.services import Services
from tallygate.http1.client_connection import ClientTimeouts
from tallygate.http1.client_port import ClientPort, until
from tallygate.http1.faults import Fault
from tallygate.http1.server_connection import received
from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.metrics import BAD_REQUESTS

LINE_BYTES_MAX: Final = 8190
HEADER_COUNT_MAX: Final = 100
SETTLE_SECONDS_MAX: Final = 1.5  # for exchanges that were cut at the end to be settled
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
        access_log: AccessLog | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """background: what runs beside the server for as long as it does. observers: of its exchanges, beside the access log."""
        self.services = services
        looking_on = [*observers, *([] if access_log is None else [AccessLines(access_log)])]
        self.pipeline = ObservedPipeline(services, looking_on) if looking_on else Pipeline(services)
        self._http = web.Server(self.pipeline.handle, request_factory=received)
        self.port = ClientPort(
            connections_max=connections_max,
            timeouts=timeouts,
            answer_fault=self._answer_fault,
            head_bytes_max=services.bounds.head_bytes_max,
            access_log=None,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADER_COUNT_MAX,
            auto_decompress=False,
            logger=_log,
        )
        self._background = background
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, listening: socket.socket) -> None:
        """Accept on a bound socket, which other workers may share."""
        await self.port.open(self._http, listening)
        work: tuple[Coroutine[Any, Any, None], ...] = (
            checkpoint_forever(self.services, self.pipeline.answers),
            self.services.settler.replay_forever(),
            self.services.settler.forget_forever(),
            self.services.withdrawals.withdraw_forever(),
            self.pipeline.sockets.watch_forever(),
            *self._background,
        )
        self._tasks = [self.services.loop.create_task(job) for job in work]

    def announce_leaving(self) -> None:
        """Keep serving, but make every answer its connection's last, so that clients send their next request elsewhere."""
        self.port.announce_leaving()

    async def drain(self, grace_seconds: float) -> None:
        """Stop accepting and wait, at most for the grace time, until the open exchanges have ended."""
        self.pipeline.sockets.leave()
        await self.port.drain(grace_seconds, is_busy=lambda: bool(self.pipeline.open))

    async def close(self) -> None:
        """Cut open exchanges, settle them with their cost so far, and stop the background tasks."""
        for answer in list(self.pipeline.answers):
            if not answer.is_ending:
                answer.relay.cut(SHUTTING_DOWN)
        self.pipeline.sockets.stop()
        if not await until(lambda: not self.pipeline.open, SETTLE_SECONDS_MAX):
            _log.error("%d exchanges could not be settled before the end; their leases will", len(self.pipeline.open))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.port.close()
        await self._http.shutdown(0)
        with suppress(StoreError):  # those that cannot be withdrawn now end with their leases
            await self.services.withdrawals.attempt()
        self.services.reading.close()
        for upstream in self.services.view.upstreams.values():
            upstream.pool.close()

    def _answer_fault(self, fault: Fault) -> web.Response:
        self.services.metrics.inc(BAD_REQUESTS)
        answer = _answer_of(fault)
        if self.services.cors.origins:  # the page's origin is unknown, and the answer has nothing to protect
            answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer


def _answer_of(fault: Fault) -> web.Response:
    """Answer in the shape of a problem (RFC 9457), with the error object that SDKs look for.

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
