"""The open sockets of a worker: their handshakes, and what is watched while they are open."""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from tallygate.domain.errors import Refused, RequestRejectedError
from tallygate.gateway.callers.keys import query_key
from tallygate.gateway.exchange.call import Caller, Head
from tallygate.gateway.exchange.finish import refusal_of_failure
from tallygate.gateway.exchange.intake import intake_of
from tallygate.gateway.headers import request_headers
from tallygate.gateway.refusals import SHUTTING_DOWN, rejected
from tallygate.gateway.websocket.handshake import accept, check_offer, offered_protocols, passing
from tallygate.gateway.websocket.session import Close, Session, Stages
from tallygate.gateway.websocket.upstream_socket import UpstreamSocket, dial
from tallygate.http1.header import Header
from tallygate.http1.upstream_failure import FailureKind, UpstreamError
from tallygate.telemetry.metrics import OPEN_SOCKETS

WATCH_EVERY_S: Final = 1.0
KEYS_CHECKED_EVERY_S: Final = 5.0
GOING_AWAY: Final = Close(1001, SHUTTING_DOWN.code)
_log: Final = logging.getLogger(__name__)


class Sockets:
    """Serves sockets, and knows those that are open."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._services = stages.services
        self._is_leaving = False
        self._keys_checked_at = 0.0
        self.open: set[Session] = set()

    async def serve(self, head: Head, caller: Caller) -> None:
        """Serve one socket from its handshake to its close. The client is accepted once the upstream has accepted."""
        client, dialect = head.client, self._services.dialects.sockets[head.dialect.name]
        check_offer(client.request)
        if self._is_leaving:
            raise Refused(SHUTTING_DOWN)
        with self._stages.entrance.socket(caller):
            try:
                talk = dialect.talk(client.request.query)
            except RequestRejectedError as error:
                raise Refused(rejected(error)) from None
            async with await self._dial(head, caller) as upstream:
                session = Session(self._stages, replace(head, dialect=talk), caller, talk, is_serial=dialect.is_serial)
                client.connection.begin_exchange(session)
                self.open.add(session)
                self._services.metrics.inc(OPEN_SOCKETS)
                try:
                    if client.connection.transport is None:
                        return  # the client has left meanwhile
                    socket = await accept(
                        self._services,
                        client,
                        upstream=upstream.headers,
                        subprotocol=upstream.subprotocol,
                        on_bytes=session.receive,
                    )
                    await session.run(socket, upstream)
                except ConnectionError:
                    return  # it has left in the middle of its handshake
                finally:
                    self.open.discard(session)
                    self._services.metrics.dec(OPEN_SOCKETS)

    async def _dial(self, head: Head, caller: Caller) -> UpstreamSocket:
        """Open the upstream's side. A token of ours that is refused may have been revoked: another one is tried once."""
        client, upstream = head.client, head.upstream
        request, intake = client.request, intake_of(head, caller)
        own_key = query_key(request)
        passage = head.treatment.passage(is_own_key=not head.is_shared, org=caller.organization.id, more=head.route.headers)
        target = client.view.routes.target(head.route, head.sent_params, intake.query)
        credentials: list[Header] = []
        is_first = True
        while True:
            try:
                credentials = await upstream.credentials.headers(request.headers, head.dialect, own_key)
                headers = request_headers(
                    request.raw_headers, credentials=credentials, request_id=client.id, passage=passage, query_key=own_key
                )
                socket = await dial(upstream, target, passing(upstream.with_trace(headers)), offered_protocols(request))
            except UpstreamError as error:
                failure = error.failure
                is_refused = failure.kind is FailureKind.UNAUTHORIZED
                is_other = is_refused and upstream.credentials.refused(credentials)
                if not (is_first and is_other):
                    self._services.upstream_failures.note(head.route.upstream, failure.kind, failure.reason or failure.message)
                    raise Refused(refusal_of_failure(failure)) from None
                is_first = False
            else:
                upstream.credentials.accepted(credentials)
                return socket

    def leave(self) -> None:
        """Accept no more, and close each socket once its turns are over."""
        self._is_leaving = True
        for session in list(self.open):
            session.leave(GOING_AWAY)

    def stop(self) -> None:
        """Close every socket now; its turns are settled as they stand."""
        self._is_leaving = True
        for session in list(self.open):
            session.stop(GOING_AWAY._replace(refusal=SHUTTING_DOWN))

    async def watch_forever(self) -> None:
        """Watch for silence, and for keys that hold no longer."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self.watch(self._services.clock())
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("the open sockets could not be watched")

    async def watch(self, now: float) -> None:
        """Watch once. now: of the services' clock."""
        is_time = now - self._keys_checked_at >= KEYS_CHECKED_EVERY_S
        if is_time:
            self._keys_checked_at = now
        sessions = list(self.open)
        for session in sessions:
            session.check_silence(now, idle_s=self._services.bounds.socket_idle_seconds)
        if is_time:
            await asyncio.gather(*[session.check_key() for session in sessions])
