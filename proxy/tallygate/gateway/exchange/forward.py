"""The way up: a connection, the request, and the wait for the end of the answer."""

from dataclasses import dataclass

from aiohttp import HttpVersion11, web

from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.exchange import Event, State
from tallygate.gateway.callers.keys import query_key
from tallygate.gateway.exchange.live_exchange import LiveExchange
from tallygate.gateway.exchange.object_checks import answer_objects, api_of, streamed_form
from tallygate.gateway.exchange.own_lists import show_own
from tallygate.gateway.exchange.relay import AnswerObjects, Relay
from tallygate.gateway.headers import read_whole, request_headers
from tallygate.gateway.refusals import rejected
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.content_codings import BodyCodingError, too_large
from tallygate.http1.header import Header
from tallygate.http1.request_body import MALFORMED_BODY, greet_expecting
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import UpstreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """The headers of a request that was sent, and those among them that show who we are."""

    headers: list[Header]
    credentials: list[Header]


async def forward(
    live: LiveExchange, request: web.BaseRequest, response: ClientResponse, connection: ClientConnection, body: bytes
) -> None:
    """Send the request and relay the answer until it ends. Failures end up in live.relay, never as exceptions.

    A token of ours that is refused may have been revoked: a request whose body is at hand is sent once more with a new one.
    """
    objects = answer_objects(live, body)
    relay, sent = await _send(live, request, response, connection, body, objects=objects)
    if relay.is_key_refused and sent is not None:
        is_other = live.upstream.credentials.refused(sent.credentials, now_ms=live.now_ms())
        if is_other and not relay.is_client_gone and (live.is_body_read or not request.body_exists):
            live.sent_at = None  # what was refused is not billed
            relay, sent = await _send(live, request, response, connection, body, objects=objects)
            if relay.is_key_refused and sent is not None:
                live.upstream.credentials.refused(sent.credentials, now_ms=live.now_ms())
    if sent is None or relay.failure is not None:
        return
    live.upstream.credentials.accepted(sent.credentials)
    if objects is not None and objects.is_read_whole and 200 <= relay.status < 300 and not response.is_bodyless:
        await show_own(live, objects, sent.headers)


async def _send(
    live: LiveExchange,
    request: web.BaseRequest,
    response: ClientResponse,
    connection: ClientConnection,
    body: bytes,
    *,
    objects: AnswerObjects | None,
) -> tuple[Relay, _Sent | None]:
    """One attempt, to the end of its answer; None where nothing was sent."""
    upstream = live.upstream
    relay = live.relay = Relay(
        response=response,
        dialect=live.dialect,
        facts=live.facts,
        exchange=live,
        hide_usage=live.asked_usage,
        drains=upstream.drains if live.facts is not None or objects is not None else None,
        org=live.parties[0].id,
        loop=live.services.loop,
        clock=live.services.clock,
        objects=objects,
        is_own_key=upstream.credentials.is_own,
    )
    connection.begin(relay)
    if connection.transport is None:
        relay.client_gone()
    try:
        own_key = query_key(request)
        api = live.dialect or api_of(request.path, live.services)
        credentials = await upstream.credentials.headers(request.headers, api.name if api is not None else None, own_key)
        headers = request_headers(
            request.raw_headers,
            credentials=credentials,
            request_id=live.id,
            passage=live.passage,
            query_key=own_key,
            is_http_1_0=request.version < HttpVersion11,
        )
        if objects is not None:
            headers = read_whole(headers)
        target = live.view.routes.target(live.found_route, live.target_params, live.query)
        head = _head(live, request, target, headers, body)
        relay.connection = up = await upstream.pool.acquire()
        if relay.is_client_gone:
            upstream.pool.connection_idle(up)
            live.apply(Event.CLIENT_GONE)
            return relay, None
        if live.is_body_read or not request.body_exists:
            up.send(head, body, relay)
        else:
            up.send_stream(head, relay, content_length=None if live.codings else request.content_length)
    except UpstreamError as error:
        relay.on_failure(error.failure)
        return relay, None
    if live.lifecycle.state is State.ADMITTED:
        live.apply(Event.UPSTREAM_ACCEPTED)
    live.sent_at = live.services.clock()
    is_whole = not up.wants_body or await _stream_up(live, request, connection, relay, up)
    await relay.ended
    if not is_whole and not relay.status:
        live.sent_at = None  # nobody does the work of half a request, nor bills it
    return relay, _Sent(headers=headers, credentials=credentials)


def _head(live: LiveExchange, request: web.BaseRequest, target: str, headers: list[Header], body: bytes) -> bytes:
    """The request's head in our own framing: a body that was read is at hand, any other streams through in the client's length,
    or where it is decoded on its way in chunks.
    """
    if live.is_body_read:
        return live.upstream.head(request.method, target, headers, content_length=len(body) if body else None)
    if not request.body_exists:
        return live.upstream.head(request.method, target, headers)
    length = None if live.codings else request.content_length
    return live.upstream.head(request.method, target, headers, content_length=length, is_chunked=length is None)


async def _stream_up(
    live: LiveExchange, request: web.BaseRequest, connection: ClientConnection, relay: Relay, up: UpstreamConnection
) -> bool:
    """Pass the body through as it comes, no faster than the upstream takes it. Returns whether all of it went up."""
    greet_expecting(request)
    bytes_max = live.services.limits.streamed_bytes_max
    connection.await_body(bytes_max)
    content, _ = live.content(request, bytes_max=bytes_max)
    form = streamed_form(live, request)
    try:
        while up.wants_body:
            chunk = await content.readany()
            if not chunk:
                up.end_body()
                return True
            live.request_bytes += len(chunk)
            if form is not None:
                form.feed(chunk)
            if live.request_bytes > bytes_max:
                relay.cut(too_large(bytes_max))
                break
            up.write_body(chunk)
            await up.drain()
    except RequestRejectedError as error:
        relay.cut(rejected(error))
    except BodyCodingError as error:
        relay.cut(error.refusal)
    except web.RequestPayloadError:
        relay.cut(MALFORMED_BODY)
    except (ConnectionError, ValueError):
        relay.client_gone()
        relay.cut()
    finally:
        connection.body_read()
    return False
