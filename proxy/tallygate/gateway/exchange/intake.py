"""The stage that decides, before the body is read, how it is received and what of query and headers is forwarded."""

from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web

from tallygate.config.route_objects import INGESTION
from tallygate.dialects.form import FormReader, FormRules
from tallygate.domain.errors import Refused, RequestRejectedError
from tallygate.gateway.callers.key_traces import presented_keys
from tallygate.gateway.callers.keys import query_key
from tallygate.gateway.exchange.call import Caller, Head, Intake, Received
from tallygate.gateway.exchange.entrance import Visit
from tallygate.gateway.exchange.object_checks import FORM, check_bodiless
from tallygate.gateway.headers import check_form
from tallygate.gateway.query import metered_query, own_producers, unmetered_query
from tallygate.gateway.refusals import rejected
from tallygate.gateway.services import Services
from tallygate.http1.content_codings import DecodedContent, coded_as, too_large
from tallygate.http1.request_body import Content, read_body
from tallygate.shares.turns import at_once


def intake_of(head: Head, caller: Caller) -> Intake:
    """Refuses a body that cannot be decoded, and a query or a header under which the answer could not be metered."""
    request, treatment = head.client.request, head.treatment
    check_bodiless(head)
    codings = coded_as(request)
    query = treatment.query(head, request.raw_path.partition("?")[2])
    if query and head.route.objects.makes == INGESTION and head.is_shared:
        query = own_producers(query, caller.organization.id)
    return Intake(is_body_read=treatment.reads_body(head, caller), codings=codings, query=query)


def readable_query(head: Head, raw_query: str) -> str:
    """The query to forward if the answer must be readable. Also refuses headers that would change its form."""
    query = metered_query(raw_query, head.dialect.query_values, head.route.query) if raw_query else ""
    check_form(head.client.request.raw_headers, head.route.headers, is_media=head.dialect.answers_media)
    return query


def any_query(head: Head, raw_query: str) -> str:
    """The query to forward if nobody reads the answer."""
    if not raw_query:
        return ""
    request = head.client.request
    return unmetered_query(raw_query, head.route.query, presented_keys(request.headers, query_key(request)))


async def receive(services: Services, head: Head, caller: Caller, intake: Intake, visit: Visit) -> Received:
    """The body as far as it is read before it goes up. Raises ClientLeftError if the client leaves in the middle."""
    if not intake.is_body_read:
        return _STREAMING if head.client.request.body_exists else _NOTHING
    client, bytes_max = head.client, services.bounds.body_bytes_max
    if head.dialect.form is not None and client.request.content_type == FORM:
        return await _receive_form(services, head, head.dialect.form.rules, intake, visit)
    content, length = body_content(services, client.request, intake, org=caller.organization.id, bytes_max=bytes_max)
    body = await read_body(client.request, content, client.connection, length=length, bytes_max=bytes_max, reserve=visit.reserve)
    return Received(body=body)


async def _receive_form(services: Services, head: Head, rules: FormRules, intake: Intake, visit: Visit) -> Received:
    """A form, as far as its fields need it. What is kept of it is bounded like any body that is read."""
    client, bounds = head.client, services.bounds
    streamed_max = bounds.body_bytes_max if rules.keeps_files else bounds.streamed_bytes_max
    content, length = body_content(services, client.request, intake, org=visit.org, bytes_max=streamed_max)
    if length is not None and length > streamed_max:
        raise Refused(too_large(streamed_max))
    try:
        form = FormReader(client.request.headers["Content-Type"], rules, size=length)

        def is_enough(piece: bytes) -> bool:
            form.feed(piece)
            return form.is_ready

        body = await read_body(
            client.request,
            content,
            client.connection,
            length=None,  # memory is taken as it is needed: most of it may stream
            bytes_max=bounds.body_bytes_max,
            reserve=visit.reserve,
            is_enough=is_enough,
        )
        if not form.is_ready:
            form.end_form()
    except RequestRejectedError as error:
        raise Refused(rejected(error)) from None
    form.form.body = body
    return Received(body=body, is_whole=not form.is_ready, form=form, content=content)


def body_content(
    services: Services, request: web.BaseRequest, intake: Intake, *, org: str, bytes_max: int
) -> tuple[Content, int | None]:
    """The decoded source of the body, and its length if known."""
    if not intake.codings:
        return request.content, request.content_length
    return DecodedContent(request.content, intake.codings, bytes_max=bytes_max, in_turn=partial(_read_in_turn, services, org)), None


_STREAMING: Final = Received(is_whole=False)
_NOTHING: Final = Received()


async def _read_in_turn(services: Services, org: str, work: Callable[[], bytes]) -> bytes:
    return await services.reading.run_in_turn(org, at_once(work))
