"""The stages of one exchange, in order. Read `Pipeline.serve` from top to bottom: it is the life of a request.

A stage returns a Refusal to end the exchange, or None to go on. Order matters: nothing is read from a body before its sender is
known, nothing is held before the request is understood, nothing is sent before the hold is granted, and nothing looks complete to
the client before the exchange is settled.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, cast

from aiohttp import web

from tallygate.config.route_objects import INGESTION
from tallygate.dialects.unread_body import names_all, references_of_any
from tallygate.domain.admission import AdmissionRequest
from tallygate.domain.errors import LimiterWipedError, Refusal, RequestRejectedError, StoreError
from tallygate.domain.exchange import Event
from tallygate.domain.markup import marked_up
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.prompt import PromptShape, tokens_at_least
from tallygate.gateway.callers.key_traces import gives_away, presented_keys
from tallygate.gateway.callers.keys import UNKNOWN_KEY, authenticate, check_caller, check_capability, check_model, query_key
from tallygate.gateway.cors import is_preflight, preflight_headers
from tallygate.gateway.exchange.assumed import floor_of
from tallygate.gateway.exchange.entrance import DEAR_BODY_BYTES, Entrance
from tallygate.gateway.exchange.estimate import (
    affordable_output,
    estimate,
    listed_price,
    price_of_unknown,
    refusal_of_absurd,
    with_cache_ttl,
    with_long_window,
)
from tallygate.gateway.exchange.finish import finish, refuse
from tallygate.gateway.exchange.forward import forward
from tallygate.gateway.exchange.live_exchange import LiveExchange
from tallygate.gateway.exchange.object_checks import (
    check_objects,
    put_kind,
    reads_body,
    refused_body,
    shares_account,
    spoken_dialect,
    streamed_form,
)
from tallygate.gateway.exchange.unread_models import check_unread_model
from tallygate.gateway.headers import refused_header
from tallygate.gateway.path_refusals import PathRefusals
from tallygate.gateway.query import metered_query, own_producers, unmetered_query
from tallygate.gateway.refusals import (
    ENDPOINT_NOT_ENABLED,
    INTERNAL_ERROR,
    WEBSOCKET_NOT_SERVED,
    limiter_refusal,
    overloaded,
    rejected,
    store_refusal,
)
from tallygate.gateway.request_checks import PATH, check_request
from tallygate.gateway.routes import decoded
from tallygate.gateway.services import Services
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.content_codings import coded_as
from tallygate.http1.header import Header, http_date
from tallygate.http1.received_head import asks_about_nothing, offers_websocket
from tallygate.http1.request_body import ClientLeftError, read_body
from tallygate.shares.turns import at_once

READ_AT_ONCE_BYTES_MAX: Final = 32_768  # at worst some 15 ms, in bodies of nothing but commas; usually far below one
_Result = TypeVar("_Result")
_log: Final = logging.getLogger(__name__)


class Pipeline:
    """Serves requests, and knows those under way (for checkpoints and shutdown)."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.entrance = Entrance(services)
        self.path_refusals = PathRefusals()
        self.open: set[LiveExchange] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request. The outermost place where an unforeseen error is caught, logged and answered."""
        live = LiveExchange(self.services, request.method)
        response = ClientResponse(
            request,
            closes=request.headers.get("Transfer-Encoding") is not None,
            grant=self.services.cors.grant(request),
        )
        connection = cast("ClientConnection", request.protocol)
        self.open.add(live)
        self.services.metrics.opened()
        try:
            await self.serve(live, request, response, connection)
        except Exception:  # noqa: BLE001 - the outermost handler
            _log.exception("exchange %s failed", live.id)
            refuse(live, response, INTERNAL_ERROR)
        finally:
            connection.end()
            self.open.discard(live)
            self.entrance.leave(live)
            self.services.metrics.closed()
        return response

    async def serve(
        self, live: LiveExchange, request: web.BaseRequest, response: ClientResponse, connection: ClientConnection
    ) -> None:
        """The life of a request."""
        body = b""
        refusal = self._check_head(live, request, response)
        if refusal is None and request.method == "OPTIONS":
            self._answer_options(live, request, response)
            return
        refusal = (
            refusal
            or self._check_room()
            or self._route(live, request)
            or await self._authenticate(live, request)
            or self._check_passage(live, request)
            or self.entrance.enter(live)
            or await self.entrance.look_before_body(live, request)
        )
        try:
            if refusal is None and live.is_body_read:
                reserve = partial(self.entrance.reserve, live)
                bytes_max = self.services.limits.body_bytes_max
                content, length = live.content(request, bytes_max=bytes_max)
                body, refusal = await read_body(request, content, connection, length=length, bytes_max=bytes_max, reserve=reserve)
            if refusal is None:
                refusal = (
                    await self._understand(live, request, body)
                    or await self.entrance.wait_for_upstream(live)
                    or await self._admit(live)
                )
        except ClientLeftError:
            live.apply(Event.CLIENT_GONE)
            return
        if refusal is not None:
            self.entrance.refused(live, refusal)
            live.apply(Event.REFUSED)
            refuse(live, response, refusal)
            return
        live.apply(Event.ADMITTED)
        try:
            await forward(live, request, response, connection, await self._rewritten(live, body))
        finally:
            await finish(live, response)  # whatever happened: what is held must end

    def _check_head(self, live: LiveExchange, request: web.BaseRequest, response: ClientResponse) -> Refusal | None:
        """A head that two servers could read differently also casts doubt on where the next one begins."""
        refusal = check_request(request, head_bytes_max=self.services.limits.head_bytes_max)
        if refusal is not None:
            response.close_after()
            if refusal.param == PATH:
                return self._explained(live, request, refusal)
        return refusal

    def _answer_options(self, live: LiveExchange, request: web.BaseRequest, response: ClientResponse) -> None:
        """What can be asked of a path, by whom: of no account, without a key, and nothing for the upstream to know."""
        found = live.view.routes.match(request.method, request.raw_path)  # no route takes OPTIONS: it tells what they take
        answer: list[Header] | Refusal = []
        if asks_about_nothing(request):
            pass  # a ping
        elif not isinstance(found, Refusal):
            answer = INTERNAL_ERROR
        elif is_preflight(request):  # also where nothing is: the request gets the refusal then, which its page can read
            grant, methods = self.services.cors.grant(request), found.details.get("allow", "GET, HEAD, POST, DELETE")
            answer = preflight_headers(request, grant, methods=str(methods))
        elif found.status != 405:
            answer = self._explained(live, request, found)
        else:
            answer = [(b"allow", f"{found.details['allow']}, OPTIONS".encode())]
        if isinstance(answer, Refusal):
            refuse(live, response, answer)
            return
        response.close_if_awaited()
        response.answer_options([(b"date", http_date(live.services.now_ms())), *live.early_headers(), *answer])

    def _check_room(self) -> Refusal | None:
        if len(self.open) > self.services.limits.requests_open_max:
            return overloaded("Too many requests are open at this gateway.")
        if self.services.settler.is_saturated:
            return store_refusal(rebuilding=False)
        return None

    def _route(self, live: LiveExchange, request: web.BaseRequest) -> Refusal | None:
        found = live.view.routes.match(request.method, request.raw_path)
        if offers_websocket(request) and not (isinstance(found, Refusal) and found.status == 404):
            return WEBSOCKET_NOT_SERVED
        if isinstance(found, Refusal):
            return self._explained(live, request, found)
        route, params = found
        if not route.enabled:
            return self._explained(live, request, ENDPOINT_NOT_ENABLED)
        live.route, live.target_params, live.path_params = route, params, decoded(params)
        live.capability = route.capability
        live.dialect = self.services.dialects[route.dialect] if route.dialect is not None else None
        live.spoken = live.dialect or spoken_dialect(request, self.services)
        return None

    def _explained(self, live: LiveExchange, request: web.BaseRequest, refusal: Refusal) -> Refusal:
        """A refusal for the path, with what was asked and what is nearest, in the shape of errors that the caller reads there."""
        caller = authenticate(request, live.view.directory)
        explained, nearest = self.path_refusals.explained(
            refusal,
            method=request.method,
            target=request.raw_path,
            table=live.view.routes,
            keys=presented_keys(request.headers, query_key(request)),
            org="" if isinstance(caller, Refusal) else caller[0].id,
            now_ms=live.started_at_ms,
        )
        live.spoken = spoken_dialect(request, self.services)
        if live.spoken is self.services.plain and nearest is not None and nearest.is_sure and nearest.route.dialect is not None:
            live.spoken = self.services.dialects[nearest.route.dialect]
        return explained

    async def _authenticate(self, live: LiveExchange, request: web.BaseRequest) -> Refusal | None:
        # bytes that are not UTF-8 arrive as lone surrogates, which no event could be written with
        told = request.headers.get("x-request-id", "")[:200].encode(errors="replace")
        live.client_request_id = None if gives_away(told, ()) else told.decode() or None
        found = authenticate(request, live.view.directory)
        if found is UNKNOWN_KEY and live.view.foreign is not None:
            found = await live.view.foreign.find(request)
        if isinstance(found, Refusal):
            return found
        live.organization, live.credential = found
        if live.credential.is_registered:  # else it may be another's name
            self.services.used.note(live.credential.id, live.started_at_ms)
        live.terms = live.view.terms(live.organization, live.credential, live.capability, live.found_route.weight)
        return check_caller(found, live.started_at_ms) or check_capability(live.credential, live.capability)

    def _check_passage(self, live: LiveExchange, request: web.BaseRequest) -> Refusal | None:
        """Whether the body can be decoded, and the query and the headers leave the answer one that can be metered."""
        route, dialect = live.found_route, live.dialect
        refusal = refused_body(live, request)
        if refusal is not None:
            return refusal
        live.is_body_read = dialect is not None or reads_body(live, request)
        codings = coded_as(request)
        if isinstance(codings, Refusal):
            return codings
        live.codings = codings
        raw_query = request.raw_path.partition("?")[2]
        if raw_query:
            query = (
                unmetered_query(raw_query, route.query, presented_keys(request.headers, query_key(request)))
                if dialect is None
                else metered_query(raw_query, dialect.query_values, route.query)
            )
            if isinstance(query, Refusal):
                return query
            is_upload = route.objects.makes == INGESTION and shares_account(live)
            live.query = own_producers(query, live.org) if is_upload else query
        return refused_header(request.raw_headers, route.headers) if dialect is not None else None

    async def _understand(self, live: LiveExchange, request: web.BaseRequest, body: bytes) -> Refusal | None:
        """Read the request in its dialect and bound what it can cost."""
        organization, credential, terms = live.parties
        live.request_bytes = len(body)
        if live.dialect is None:
            return await self._check_unread(live, request, body)
        try:
            reading = partial(live.dialect.read_request, body, path=live.path_params, query=request.query)
            read = await self._work_on(live.org, len(body), reading)
        except RequestRejectedError as error:
            return rejected(error)
        cached = with_cache_ttl(read, ",".join(request.headers.getall("x-cache-ttl", ())))
        facts = live.facts = with_long_window(cached, ",".join(request.headers.getall("anthropic-beta", ())))
        refusal = check_model(credential, facts.model) or await check_objects(live, request, facts.references)
        if refusal is not None:
            return refusal
        price = listed_price(facts, live.view.prices, live.started_at_ms)
        if price is None and live.is_billed:
            self.services.metrics.unknown_model(organization.id, organization.plan.unknown_model)
            found = price_of_unknown(facts, organization.plan, live.view.prices, live.started_at_ms)
            if isinstance(found, Refusal):
                return found
            price = found
        if price is not None:
            price = marked_up(price, live.markup)
        binding = [limit.limit_nano_usd for _, limit in terms.spend if not limit.shadow]
        worst = partial(
            estimate,
            facts,
            organization.plan,
            price,
            fee_nano_usd=live.found_route.fee_nano_usd,
            has_spend_limit=bool(binding),
            spend_limit_nano_usd=min(binding, default=0),
        )
        if terms.spend and len(body) > DEAR_BODY_BYTES:  # whose tokens are not worth counting if the least cost is too much
            least = worst(tokens_at_least(facts.prompt)).hold_min_nano_usd
            refusal = await self.entrance.look(live, least_nano_usd=least) if least <= MONEY_MAX_NANO_USD else None
            if refusal is not None:
                return refusal
        if terms.needs_tokens:
            prompt_tokens = await self.services.tokens.prompt_upper_bound(facts.prompt, facts.model, org=organization.id)
        else:
            prompt_tokens = len(body) // 4  # no limit depends on it; counted exactly if the upstream gives no usage
        predicted = 0
        if facts.predicted:
            shape = PromptShape(texts=(facts.predicted,))
            predicted = await self.services.tokens.prompt_upper_bound(shape, facts.model, org=organization.id)
        live.estimate = worst(
            prompt_tokens, predicted_tokens=predicted * max(facts.choices, 1), referred_tokens=live.referred_tokens
        )
        return refusal_of_absurd(live.estimate)

    async def _work_on(self, org: str, size: int, work: Callable[[], _Result]) -> _Result:
        """Work on a body of that size: here and now if it is small, else in a thread, in the organization's turn."""
        return work() if size <= READ_AT_ONCE_BYTES_MAX else await self.services.reading.take(org, at_once(work))

    async def _check_unread(self, live: LiveExchange, request: web.BaseRequest, body: bytes) -> Refusal | None:
        """Of a request that no dialect reads, see whose the stored objects are that it names."""
        refusal = await self._work_on(live.org, len(body), partial(check_unread_model, live, request, body))
        if refusal is not None:
            return refusal
        try:
            streamed_form(live, request)
            reading = partial(references_of_any, body, put=put_kind(live), is_shared=shares_account(live))
            references = await self._work_on(live.org, len(body), reading) if body else ()
        except RequestRejectedError as error:
            return rejected(error)
        return await check_objects(live, request, references, names_all=live.found_route.objects.is_bulk and names_all(body))

    async def _admit(self, live: LiveExchange) -> Refusal | None:
        """Hold the worst case against every limit at once."""
        organization, credential, terms = live.parties
        asked, facts, lease_ms = live.estimate, live.facts, self.services.limits.lease_ms
        fee = live.found_route.fee_nano_usd
        floor, floor_completion = fee, 0
        if asked is not None and facts is not None:
            floor, floor_completion = floor_of(asked, facts, live.upstream.config, lease_ms)
        live.admission = AdmissionRequest(
            reservation_id=live.id,
            org=organization.id,
            rate=terms.rate_demands(asked.rate_tokens if asked is not None else 0),
            spend=terms.spend_demands(live.started_at_ms),
            hold_nano_usd=asked.hold_nano_usd if asked is not None else fee,
            hold_min_nano_usd=asked.hold_min_nano_usd if asked is not None else fee,
            floor_nano_usd=floor,
            lease_ms=lease_ms,
            event=live.first_event(floor, floor_completion),
            floor_prompt_tokens=asked.prompt_tokens if asked is not None else 0,
            floor_completion_tokens=floor_completion,
        )
        try:
            live.decision = await self.services.limiter.admit(live.admission)
        except LimiterWipedError:
            return store_refusal(rebuilding=True)
        except StoreError as error:
            live.decision = self.services.fallback.admit(live.admission)
            live.is_fallback = live.decision.admitted
            if not live.decision.admitted:
                self.services.withdrawals.note(live.admission, after=error)
                return self._fallback_refusal(live)
            self.services.metrics.fail_open("spend" if terms.spend else "rate")
        for key in live.decision.shadow_refused_by:
            self.services.metrics.shadow_refused(organization.id, credential.id, live.capability, terms.names[key])
        if not live.decision.admitted:
            return limiter_refusal(live.decision, terms, hold_nano_usd=live.admission.hold_min_nano_usd, fee_nano_usd=fee)
        return None

    def _fallback_refusal(self, live: LiveExchange) -> Refusal:
        """A refusal without Redis: of a rate limit as ever, of a spend limit because it cannot be checked."""
        _, _, terms = live.parties
        if live.decision is not None and live.decision.refused_by in {key for key, _ in terms.rate}:
            return limiter_refusal(live.decision, terms, hold_nano_usd=0)
        return store_refusal(rebuilding=False)

    async def _rewritten(self, live: LiveExchange, body: bytes) -> bytes:
        """The body to forward: asking for usage where the client did not, and clamped to what is affordable."""
        facts, dialect, asked, decision = live.facts, live.dialect, live.estimate, live.decision
        if facts is None or dialect is None or asked is None or decision is None:
            return body
        clamped = affordable_output(facts, asked, decision.held_nano_usd) if decision.held_nano_usd else asked.assumed_tokens
        if 0 < decision.held_nano_usd < asked.hold_nano_usd:  # else it is a maximum that plans or prices state, which is no news
            live.clamped = clamped
        live.asked_usage = facts.stream and not facts.asks_usage and facts.can_ask_usage and live.upstream.config.ask_usage
        if clamped is None and not live.asked_usage and not facts.replaces_model:
            return body
        rewriting = partial(dialect.rewrite_request, body, facts, ask_usage=live.asked_usage, max_output_tokens=clamped)
        rewritten = await self._work_on(live.org, len(body), rewriting)
        live.asked_usage = live.asked_usage and rewritten is not body
        return rewritten
