"""A list of stored objects, shown to an organization without those of others.

A page on which nothing is the organization's is followed by the next, up to a bound, since clients take an empty page for the end.
A list that cannot be taken apart is refused.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec

from tallygate.dialects.object_lists import ListItem, ListPage, objects_of_item, read_page
from tallygate.domain.errors import Refused, StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.answer_reader import AnswerObjects
from tallygate.gateway.exchange.client_body import LIST_BYTES_MAX
from tallygate.gateway.exchange.relay import LIST_UNREADABLE
from tallygate.gateway.object_owners import owners_unavailable
from tallygate.http1.header import Header
from tallygate.http1.upstream_connection import UpstreamConnection
from tallygate.http1.upstream_failure import UpstreamError, UpstreamFailure

PAGES_MAX: Final = 50  # of the upstream's, for one of ours
PAGE_LIMIT: Final = 100  # requested if a client asked for less: OpenAI's maximum for all lists except files
PAGES_SECONDS: Final = 30.0
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[str | int | None] | None).decode
# Anthropic, "Retrieve a Message Batch": where its results are. SDKs fetch it as it stands, with the key that they have for us.
_RESULTS_URL: Final = re.compile(rb'("results_url"\s*:\s*)"https?://[^"\\]*(/v1/messages/batches/[^"\\/]+/results)"')
_BACKWARDS: Final = ("before", "before_id")


async def show_own(answer: Answer, objects: AnswerObjects, headers: list[Header]) -> None:
    """Replace the page that the relay received by the organization's own, or refuse with the reason."""
    relay = answer.relay
    body = relay.body.withheld()
    if not relay.is_complete or body is None:
        return
    relay.withhold(LIST_UNREADABLE)  # until there is something to show
    try:
        async with asyncio.timeout(PAGES_SECONDS):
            own = body
            if objects.lists:
                own = await _own_page(answer, objects, headers, body)
            elif objects.compares:
                own = await _own_duplicates(answer, objects, body)
            if objects.refers:
                own = _RESULTS_URL.sub(rb'\1"\2"', own)
    except (TimeoutError, UpstreamError):
        return
    except StoreError:
        relay.withhold(owners_unavailable())
    except Refused as refused:
        relay.withhold(refused.refusal)
    else:
        relay.show(own)


async def _own_page(answer: Answer, objects: AnswerObjects, headers: list[Header], body: bytes) -> bytes:
    head = answer.held.call.head
    query = dict(parse_qsl(answer.held.call.intake.query, keep_blank_values=True))
    limit = int(query["limit"]) if query.get("limit", "").isdecimal() else None
    for left in reversed(range(PAGES_MAX)):
        page = read_page(body, prefix=objects.prefix)
        if page is None:
            raise Refused(LIST_UNREADABLE)
        own = await _own_items(answer, objects, page)
        following = _following(page, query)
        if own or following is None:
            shown = own if limit is None or not page.is_by_id else own[:limit]
            return page.written(shown, has_more=page.has_more or len(shown) < len(own))
        if not left:
            break
        query = following
        target = answer.client.view.routes.target(head.route, head.sent_params, urlencode(query))
        body = await _fetch(answer, target, headers)
    raise Refused(LIST_UNREADABLE)


async def _own_duplicates(answer: Answer, objects: AnswerObjects, body: bytes) -> bytes:
    """The answer to an upload, which names in `duplicates` what was there already, without what is somebody else's."""
    if not body:
        return body
    try:
        members = _decode_object(body)
        duplicates = _decode_list(members["duplicates"]) if "duplicates" in members else None
    except (msgspec.DecodeError, RecursionError):
        raise Refused(LIST_UNREADABLE) from None
    if not duplicates:
        return body
    organization = answer.held.call.caller.organization
    asked = [MadeObject(kind=objects.compares, id=str(id_), upstream=answer.held.call.head.route.upstream) for id_ in duplicates]
    made = {MadeObject(kind=new.kind, id=new.id, upstream=new.upstream) for new in answer.made}
    owned = {*(await answer.services.owners.owned(organization, asked)), *made}
    own = [id_ for id_, item in zip(duplicates, asked, strict=True) if item in owned]
    return msgspec.json.encode(members | {"duplicates": msgspec.Raw(msgspec.json.encode(own))})


async def _own_items(answer: Answer, objects: AnswerObjects, page: ListPage) -> Sequence[ListItem]:
    organization = answer.held.call.caller.organization
    upstream = answer.held.call.head.route.upstream
    asked = {item.id: MadeObject(kind=objects.lists, id=item.id, upstream=upstream) for item in page.items if item.id}
    owned = await answer.services.owners.owned(organization, list(asked.values()))
    own = [item for item in page.items if item.id and asked[item.id] in owned]
    beside = [found for item in own for found in objects_of_item(item, objects.lists, prefix=objects.prefix)]
    answer.note_listed(MadeObject(kind=found.kind, id=found.id, upstream=upstream) for found in beside)
    return own


def _following(page: ListPage, query: Mapping[str, str]) -> dict[str, str] | None:
    """The query for the page after this one; None if there is none, or it cannot be asked for."""
    if page.token:
        return {**query, "pageToken": page.token}
    if not page.is_by_id or not page.has_more or not page.items:
        return None
    backwards = next((name for name in _BACKWARDS if name in query), None)
    cursor = backwards or page.cursor
    item = page.items[0] if backwards else page.items[-1]
    more = {"limit": str(PAGE_LIMIT)} if query.get("limit", "").isdecimal() and int(query["limit"]) < PAGE_LIMIT else {}
    return {**query, cursor: item.id, **more} if item.id else None


class _PageSink:
    """Takes one page. Implements ResponseSink."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[bytes] = loop.create_future()
        self.connection: UpstreamConnection | None = None
        self._body = bytearray()
        self._status = 0

    def on_headers(self, status: int, headers: list[Header], *, keep_alive: bool, content_length: int | None) -> None:
        del headers, keep_alive, content_length
        self._status = status

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > LIST_BYTES_MAX:
            self._end(b"")
            if self.connection is not None:
                self.connection.abort()

    def on_complete(self) -> None:
        self._end(bytes(self._body) if 200 <= self._status < 300 else b"")

    def on_failure(self, failure: UpstreamFailure) -> None:
        del failure
        self._end(b"")

    def _end(self, body: bytes) -> None:
        """An empty body is no page, and is refused as such."""
        if not self.ended.done():
            self.ended.set_result(body)


async def _fetch(answer: Answer, target: str, headers: list[Header]) -> bytes:
    """Raises UpstreamError."""
    upstream = answer.held.call.head.upstream
    sink = _PageSink(answer.services.loop)
    sink.connection = await upstream.pool.acquire()
    sink.connection.send(upstream.head("GET", target, headers), b"", sink)
    try:
        return await sink.ended
    finally:
        if not sink.ended.done() or sink.ended.cancelled():
            sink.connection.abort()
