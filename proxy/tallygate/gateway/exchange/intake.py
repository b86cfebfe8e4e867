"""The stage that decides, before the body is read, how it is received and what of query and headers is forwarded."""

from collections.abc import Callable
from functools import partial

from aiohttp import web

from tallygate.config.route_objects import INGESTION
from tallygate.gateway.callers.key_traces import presented_keys
from tallygate.gateway.callers.keys import query_key
from tallygate.gateway.exchange.call import Caller, Head, Intake
from tallygate.gateway.exchange.entrance import Visit
from tallygate.gateway.exchange.object_checks import check_bodiless
from tallygate.gateway.headers import check_form
from tallygate.gateway.query import metered_query, own_producers, unmetered_query
from tallygate.gateway.services import Services
from tallygate.http1.content_codings import DecodedContent, coded_as
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
    check_form(head.client.request.raw_headers, head.route.headers)
    return query


def any_query(head: Head, raw_query: str) -> str:
    """The query to forward if nobody reads the answer."""
    if not raw_query:
        return ""
    request = head.client.request
    return unmetered_query(raw_query, head.route.query, presented_keys(request.headers, query_key(request)))


async def read_whole_body(services: Services, head: Head, caller: Caller, intake: Intake, visit: Visit) -> bytes:
    """The body, decoded, as far as it is read before it goes up. Raises ClientLeftError if the client leaves in the middle."""
    if not intake.is_body_read:
        return b""
    client, bytes_max = head.client, services.bounds.body_bytes_max
    content, length = body_content(services, client.request, intake, org=caller.organization.id, bytes_max=bytes_max)
    return await read_body(client.request, content, client.connection, length=length, bytes_max=bytes_max, reserve=visit.reserve)


def body_content(
    services: Services, request: web.BaseRequest, intake: Intake, *, org: str, bytes_max: int
) -> tuple[Content, int | None]:
    """The decoded source of the body, and its length if known."""
    if not intake.codings:
        return request.content, request.content_length
    return DecodedContent(request.content, intake.codings, bytes_max=bytes_max, in_turn=partial(_read_in_turn, services, org)), None


async def _read_in_turn(services: Services, org: str, work: Callable[[], bytes]) -> bytes:
    return await services.reading.run_in_turn(org, at_once(work))
