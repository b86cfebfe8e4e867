"""The stage that sends a request to its upstream and waits for the end of the answer."""

from collections.abc import Callable
from functools import partial

import msgspec
from aiohttp import HttpVersion11, web

from tallygate.dialects.dialect import UsageReporting
from tallygate.domain.errors import Refused, RequestRejectedError
from tallygate.gateway.callers.keys import query_key
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.call import Call, Received
from tallygate.gateway.exchange.estimate import affordable_output
from tallygate.gateway.exchange.intake import body_content
from tallygate.gateway.exchange.object_checks import streamed_form
from tallygate.gateway.exchange.own_lists import show_own
from tallygate.gateway.headers import read_whole, request_headers
from tallygate.gateway.passages import FormPassage, MediaPassage, Passage
from tallygate.gateway.refusals import rejected
from tallygate.gateway.services import work_on
from tallygate.http1.content_codings import too_large
from tallygate.http1.header import Header
from tallygate.http1.request_body import MALFORMED_BODY, send_continue
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import UpstreamError


class _Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The headers of a request that was sent, and those among them that show who we are."""

    headers: list[Header]
    credentials: list[Header]


async def forward(answer: Answer) -> None:
    """Send the request and relay the answer until it ends. Failures end up in answer.relay, never as exceptions.

    A token of ours that is refused may have been revoked: a request whose body is at hand is sent once more with a new one.
    """
    call = answer.held.call
    upstream, client = call.head.upstream, call.head.client
    body = await rewritten_body(answer)
    sent = await _send(answer, body)
    if sent is not None and answer.relay.is_key_refused:
        is_other = upstream.credentials.refused(sent.credentials)
        if is_other and not answer.relay.is_client_gone and call.received.is_whole:
            answer.begin_anew()  # the refused attempt is not billed
            sent = await _send(answer, body)
            if sent is not None and answer.relay.is_key_refused:
                upstream.credentials.refused(sent.credentials)
    relay, objects = answer.relay, call.objects
    if sent is None or relay.failure is not None:
        return
    upstream.credentials.accepted(sent.credentials)
    if objects is not None and objects.is_read_whole and relay.head.is_success and not client.response.is_bodyless:
        await show_own(answer, objects, sent.headers)


async def rewritten_body(answer: Answer) -> bytes:
    """The body to forward: asking for usage if the client did not, and clamped to what is affordable."""
    call, held_nano_usd = answer.held.call, answer.held.decision.held_nano_usd
    facts, asked, body = call.facts, call.estimate, call.received.body
    clamped = affordable_output(facts, asked, held_nano_usd) if held_nano_usd else asked.imposed_maximum
    ask_usage = (
        facts.stream
        and not facts.client_asks_usage
        and facts.can_ask_usage
        and call.head.dialect.usage_reporting is UsageReporting.STREAMS_WHEN_ASKED
        and call.head.upstream.config.ask_usage
    )
    if clamped is None and not ask_usage and not facts.replaces_model:
        return body
    rewriting = partial(call.head.dialect.rewrite_request, body, facts, ask_usage=ask_usage, max_output_tokens=clamped)
    rewritten = await work_on(answer.services, call.caller.organization.id, len(body), rewriting)
    is_clamped = 0 < held_nano_usd < asked.hold_nano_usd  # else it is a maximum that plans or prices state, which is no news
    answer.note_rewritten(clamped=clamped if is_clamped else None, asks_usage=ask_usage and rewritten is not body)
    return rewritten


async def _send(answer: Answer, body: bytes) -> _Sent | None:
    """Make one attempt, to the end of its answer; None if nothing was sent."""
    call, relay = answer.held.call, answer.relay
    head, intake, client = call.head, call.intake, call.head.client
    upstream, request = head.upstream, client.request
    client.connection.begin_exchange(relay)
    if client.connection.transport is None:
        relay.client_gone()
    try:
        own_key = query_key(request)
        credentials = await upstream.credentials.headers(request.headers, head.dialect, own_key)
        passage: Callable[..., Passage] = head.treatment.passage
        if call.received.form is not None or head.dialect.answers_media:
            passage = _own_passage(call)
        headers = request_headers(
            request.raw_headers,
            credentials=credentials,
            request_id=client.id,
            passage=passage(is_own_key=not head.is_shared, org=call.caller.organization.id, more=head.route.headers),
            query_key=own_key,
            is_http_1_0=request.version < HttpVersion11,
        )
        if call.objects is not None:
            headers = read_whole(headers)
        target = client.view.routes.target(head.route, head.sent_params, intake.query)
        lines = _request_head(call, target, headers, body)
        up = await upstream.pool.acquire()
        if relay.is_client_gone or relay.ended.done():
            upstream.pool.connection_idle(up)
            relay.cut()
            return None
        relay.connection = up
        if call.received.is_whole:
            up.send(lines, body, relay)
        else:
            up.send_stream(lines, relay, content_length=None if intake.codings else request.content_length)
    except UpstreamError as error:
        relay.on_failure(error.failure)
        return None
    answer.note_sent()
    is_whole = not up.wants_body or await _stream_up(answer, up)
    await relay.ended
    if not is_whole and not relay.head.status:
        answer.note_unsent()  # nobody does the work of half a request, nor bills it
    return _Sent(headers=headers, credentials=credentials)


def _own_passage(call: Call) -> Callable[..., Passage]:
    """The way for headers of a request whose body is a form, or whose answer may be of any type."""
    form = call.received.form
    return MediaPassage if form is None else partial(FormPassage, content_type=form.content_type)


def _request_head(call: Call, target: str, headers: list[Header], body: bytes) -> bytes:
    """The request's head in our own framing: a body that was read is at hand, any other streams through in the client's length,
    or where it is decoded on its way in chunks.
    """
    upstream, request = call.head.upstream, call.head.client.request
    if call.received.is_whole:
        return upstream.head(request.method, target, headers, content_length=len(body) if body else None)
    length = None if call.intake.codings else request.content_length
    return upstream.head(request.method, target, headers, content_length=length, is_chunked=length is None)


def _held_back(received: Received, data: bytes) -> tuple[bytes, bytes]:
    """What of `data` may go up, and what waits until all of the form has come: from the piece on in which it closes, all of it.

    An upstream could begin its work at the closing boundary, whatever the length of the request says.
    """
    if received.form is not None and received.form.is_ended:
        return b"", data
    return data[:-1], data[-1:]


async def _stream_up(answer: Answer, up: UpstreamConnection) -> bool:
    """Stream the body upstream, no faster than the upstream reads it. Returns whether all of it was sent."""
    call, relay, services = answer.held.call, answer.relay, answer.services
    client, received = call.head.client, call.received
    bytes_max, content = services.bounds.streamed_bytes_max, received.content
    if content is None:
        send_continue(client.request)
        content, _ = body_content(services, client.request, call.intake, org=call.caller.organization.id, bytes_max=bytes_max)
    client.connection.await_body(bytes_max)
    form = received.form or streamed_form(call.head, is_body_read=call.intake.is_body_read)
    begun, last = _held_back(received, received.body)
    try:
        up.write_body(begun)
        while up.wants_body:
            chunk = await content.readany()
            if not chunk:
                if form is not None:
                    form.end_form()
                up.write_body(last)
                up.end_body()
                return True
            answer.note_streamed(len(chunk))
            if form is not None:
                form.feed(chunk)
            if answer.request_bytes > bytes_max:
                relay.cut(too_large(bytes_max))
                break
            if received.form is not None:
                chunk, last = _held_back(received, last + chunk)
            up.write_body(chunk)
            await up.drain()
    except RequestRejectedError as error:
        relay.cut(rejected(error))
    except Refused as refused:
        relay.cut(refused.refusal)
    except web.RequestPayloadError:
        relay.cut(MALFORMED_BODY)
    except (ConnectionError, ValueError):
        relay.client_gone()
        relay.cut()
    finally:
        client.connection.body_read()
    return False
