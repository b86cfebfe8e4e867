"""The stages of one exchange, in order. Read `Pipeline.serve` from top to bottom: it is the life of a request.

A stage takes the results of those before it and returns its own, or raises Refused. Order matters: no body is read before its
sender is known, nothing is held before the request is understood, nothing is sent before the hold is granted, and no answer is
completed before the exchange is settled.
"""

import logging
from typing import Final, cast

from aiohttp import hdrs, web
from msgspec.structs import replace

from tallygate.config.model import WEBSOCKET
from tallygate.dialects.dialect import Dialect
from tallygate.domain.errors import PathRefused, Refusal, Refused
from tallygate.gateway.callers.key_traces import presented_keys
from tallygate.gateway.callers.keys import check_caller, check_capability, presented_key, query_key
from tallygate.gateway.client_request_id import kept_request_id
from tallygate.gateway.cors import check_origin, is_preflight, preflight_headers
from tallygate.gateway.exchange.admitting import admit
from tallygate.gateway.exchange.answer import NO_STORE, Answer, exchange_headers
from tallygate.gateway.exchange.call import Caller, Client, Head
from tallygate.gateway.exchange.entrance import Entrance
from tallygate.gateway.exchange.finish import finish, write_refusal
from tallygate.gateway.exchange.forward import forward
from tallygate.gateway.exchange.intake import intake_of, receive
from tallygate.gateway.exchange.limit_headers import limit_headers
from tallygate.gateway.exchange.treatments import BATCH, READ, UNREAD
from tallygate.gateway.exchange.understanding import Understanding
from tallygate.gateway.me import Me
from tallygate.gateway.path_refusals import PathRefusals
from tallygate.gateway.refusals import (
    ENDPOINT_NOT_ENABLED,
    INTERNAL_ERROR,
    WEBSOCKET_NOT_SERVED,
    overloaded,
    refused_by,
    store_refusal,
)
from tallygate.gateway.request_checks import check_request
from tallygate.gateway.routes import UNKNOWN_ENDPOINT, decoded
from tallygate.gateway.services import Services
from tallygate.gateway.websocket.handshake import offer_of
from tallygate.gateway.websocket.sockets import Sockets
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.header import Header, http_date, text_of
from tallygate.http1.received_head import asks_about_nothing, offers_websocket
from tallygate.http1.request_body import ClientLeftError
from tallygate.telemetry.metric import OTHER
from tallygate.telemetry.metrics import OPEN_REQUESTS, REFUSED

_log: Final = logging.getLogger(__name__)


class Pipeline:
    """Serves requests, and knows those under way.

    open     every request, from its head to its end
    sockets  those that are open, whose turns are among the answers
    answers  those of admitted requests, until they are settled: for checkpoints and shutdown
    finish   the last stage
    """

    finish = staticmethod(finish)

    def __init__(self, services: Services) -> None:
        self.services = services
        self.entrance = Entrance(services)
        self.understanding = Understanding(services, self.entrance)
        self.path_refusals = PathRefusals(services.dialects)
        self.me = Me(services)
        self.open: set[Client] = set()
        self.answers: set[Answer] = set()
        self.sockets = Sockets(self)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request from its arrival to the last byte of its answer."""
        services = self.services
        connection = cast("ClientConnection", request.protocol)
        response = ClientResponse(
            request,
            closes=hdrs.TRANSFER_ENCODING in request.headers,
            grant=services.cors.grant(request),
        )
        client = Client(
            id=services.new_id(),
            request=request,
            response=response,
            connection=connection,
            view=services.view,
            started_at=services.clock(),
            started_at_ms=services.now_ms(),
        )
        self.open.add(client)
        services.metrics.inc(OPEN_REQUESTS)
        try:
            await self.serve(client)
        finally:
            connection.end_exchange()
            self.open.discard(client)
            services.metrics.dec(OPEN_REQUESTS)
        return cast("web.StreamResponse", response)

    async def serve(self, client: Client) -> None:
        """Lead a request through its stages. The outermost place where an unforeseen error is caught, logged and answered."""
        head: Head | None = None
        caller: Caller | None = None
        try:
            self.check(client)
            if client.request.method == "OPTIONS":
                self.answer_options(client)
                return
            self.check_room()
            head = self.match(client)
            if head is None:
                await self.me.serve(client)
                return
            caller = await self.identify(head)
            self.permit(head, caller)
            if head.route.method == WEBSOCKET:
                await self.sockets.serve(head, caller)
                return
            intake = intake_of(head, caller)
            with self.entrance.enter(head, caller) as visit:
                await self.entrance.preview_before_body(head, caller, intake)
                received = await receive(self.services, head, caller, intake, visit)
                call = await self.understanding.call(head, caller, intake, received)
                await visit.wait_for_place(head.upstream)
                held = await admit(self.services, call)
                answer = Answer(held, self.services)
                self.answers.add(answer)
                try:
                    await forward(answer)
                finally:  # whatever happened: the hold must end; until it has, its lease is renewed
                    try:
                        await self.finish(answer)
                    finally:
                        self.answers.discard(answer)
        except ClientLeftError:
            return
        except Refused as refused:
            self.refuse(refused, client, head, caller)
        except Exception:  # noqa: BLE001 - the outermost handler
            _log.exception("exchange %s failed", client.id)
            self.refuse(Refused(INTERNAL_ERROR), client, head, caller)

    def check(self, client: Client) -> None:
        """Refuse a head that two servers could read differently, after which the start of the next one is uncertain too."""
        try:
            check_request(client.request, head_bytes_max=self.services.bounds.head_bytes_max)
        except Refused:
            client.response.close_after()
            raise

    def check_room(self) -> None:
        """Refuse what this worker has no room to serve, or to settle."""
        if len(self.open) > self.services.bounds.requests_open_max:
            raise Refused(overloaded("Too many requests are open at this gateway."))
        if self.services.settler.is_saturated:
            raise Refused(store_refusal(rebuilding=False))

    def match(self, client: Client) -> Head | None:
        """The endpoint of the table that a request names, and its dialect; None for the gateway's own."""
        request, view = client.request, client.view
        if offers_websocket(request) and (found := self._match_socket(client)) is not None:
            return found
        matched = view.routes.match(request.method, request.raw_path)
        if matched is None:
            return None
        route, params = matched
        if not route.enabled:
            raise PathRefused(ENDPOINT_NOT_ENABLED)
        dialects = self.services.dialects
        dialect: Dialect
        if route.dialect is None:
            dialect, treatment = dialects.unmetered(request.path, request.headers), UNREAD
        else:
            dialect, treatment = dialects[route.dialect], BATCH if route.dialect in dialects.batches else READ
        upstream = view.upstreams[route.upstream]
        return Head(
            client=client,
            route=route,
            upstream=upstream,
            dialect=dialect,
            treatment=treatment,
            is_shared=upstream.credentials.is_own,
            params=decoded(params) if params else params,
            sent_params=params,
        )

    def _match_socket(self, client: Client) -> Head | None:
        """The endpoint of an offer to speak WebSocket. None if the path is unknown; refused where HTTP alone is spoken."""
        request, view = client.request, client.view
        found = view.routes.find(WEBSOCKET, request.raw_path.partition("?")[0])
        if found is None or request.method != "GET":
            if view.routes.methods(request.raw_path):
                raise Refused(WEBSOCKET_NOT_SERVED)
            return None
        client.response.close_after()  # if it is refused: nobody else may read what follows as another protocol
        check_origin(request, self.services.cors.grant(request))
        route, params = found
        if not route.enabled:
            raise PathRefused(ENDPOINT_NOT_ENABLED)
        dialect, upstream = self.services.dialects.sockets[route.dialect or ""], view.upstreams[route.upstream]
        return Head(
            client=replace(client, request=offer_of(request, dialect)),
            route=route,
            upstream=upstream,
            dialect=dialect,
            treatment=READ,
            is_shared=upstream.credentials.is_own,
            params=decoded(params) if params else params,
            sent_params=params,
        )

    async def identify(self, head: Head) -> Caller:
        """The caller of a request, whether it may call or not. Only callers that are neither in the directory nor cached wait."""
        client = head.client
        request, view = client.request, client.view
        sent_id = request.headers.get("x-request-id")
        key = presented_key(request)
        organization, credential = view.directory.find(key) or await view.foreign.find(key, request.remote or "")
        if credential.is_registered:  # else it may be another's name
            self.services.used.record(credential.id, client.started_at_ms)
        return Caller(
            organization=organization,
            credential=credential,
            limits=view.limits_for(organization, credential, head.route.capability, head.route.weight),
            client_request_id=kept_request_id(sent_id) if sent_id else None,
        )

    def permit(self, head: Head, caller: Caller) -> None:
        """Refuse a caller that may not use this endpoint at all."""
        check_caller(caller.organization, caller.credential, head.client.started_at_ms)
        check_capability(caller.organization, caller.credential, head.route.capability)

    def refuse(self, refused: Refused, client: Client, head: Head | None, caller: Caller | None) -> None:
        """Write the refusal and count it. head, caller: None if not known yet. What cannot be explained is refused all the same."""
        services, request = self.services, client.request
        dialect = services.dialects.spoken(request.path, request.headers) if head is None else head.dialect
        if isinstance(refused, PathRefused):
            try:
                explained, dialect = self._explained(client, refused.refusal)
                refused = Refused(explained)
            except Exception:  # noqa: BLE001 - the caller is in the outermost handler
                _log.exception("the refusal of exchange %s could not be explained", client.id)
        self.count_refused(refused, head, caller)
        ours = exchange_headers(client, services.clock()) + NO_STORE
        if refused.decision is not None and caller is not None:
            ours += limit_headers(refused.decision, caller.limits, dialect)[1]
        write_refusal(client, dialect, refused.refusal, ours, services.now_ms())

    def count_refused(self, refused: Refused, head: Head | None, caller: Caller | None) -> None:
        """Count a refusal, as in `refuse`, and note one of a caller that is known."""
        services = self.services
        services.metrics.inc(
            REFUSED,
            OTHER if caller is None else caller.organization.id,
            OTHER if caller is None else caller.credential.id,
            OTHER if head is None else head.route.capability,
            refused_by(refused.refusal),
        )
        if services.refusal_log is not None and head is not None and caller is not None:
            try:
                services.refusal_log.note(refused, head, caller)
            except Exception:  # noqa: BLE001 - as above: the answer matters more
                _log.exception("the refusal of exchange %s could not be noted", head.client.id)

    def answer_options(self, client: Client) -> None:
        """Answer what can be asked of a path, and by whom: without a key or an exchange, and without the upstream."""
        request, services = client.request, self.services
        methods = ", ".join(client.view.routes.methods(request.raw_path))
        answer: list[Header] = []
        if asks_about_nothing(request):
            pass  # a ping
        elif is_preflight(request):  # also where nothing is: the request gets the refusal then, which its page can read
            answer = preflight_headers(request, services.cors.grant(request), methods=methods or "GET, HEAD, POST, DELETE")
        elif not methods:
            raise PathRefused(UNKNOWN_ENDPOINT)
        else:
            answer = [(b"allow", f"{methods}, OPTIONS".encode())]
        client.response.close_if_awaited()
        ours = exchange_headers(client, services.clock())
        client.response.answer_options(text_of([(b"date", http_date(services.now_ms()))]) + ours + text_of(answer))

    def _explained(self, client: Client, refusal: Refusal) -> tuple[Refusal, Dialect]:
        """A refusal for the path with what was asked and what is nearest, and the dialect in which its caller reads errors."""
        services, request, view = self.services, client.request, client.view
        explained, nearest = self.path_refusals.explained(
            refusal,
            method=request.method,
            target=request.raw_path,
            table=view.routes,
            keys=presented_keys(request.headers, query_key(request)),
            org=_org_of(client),
            now_ms=client.started_at_ms,
        )
        spoken = services.dialects.spoken(request.path, request.headers)
        if spoken is services.dialects.plain and nearest is not None and nearest.is_sure and nearest.route.dialect is not None:
            spoken = services.dialects[nearest.route.dialect]
        return explained, spoken


def _org_of(client: Client) -> str:
    """The probable organization of a request; "" if its key shows none."""
    try:
        caller = client.view.directory.find(presented_key(client.request))
    except Refused:
        return ""
    return "" if caller is None else caller[0].id
