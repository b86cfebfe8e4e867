"""The stage that confines a request to its own organization's objects.

An upstream with `passthrough` needs none of it: there every caller brings an account of its own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from tallygate.config.route_objects import INGESTION, SHARED, RouteObjects
from tallygate.dialects.form_fields import FormFields
from tallygate.dialects.made_objects import RESPONSE, UNKEPT_RESPONSE
from tallygate.dialects.references import folded, query_references
from tallygate.dialects.unread_body import PRODUCER, all_producers
from tallygate.domain.errors import ErrorCode, Refusal, Refused, StoreError
from tallygate.domain.made_object import ID_CHARS_MAX, MadeObject
from tallygate.domain.stored_object import StoredReference
from tallygate.gateway.exchange.answer_reader import AnswerObjects
from tallygate.gateway.exchange.call import NO_OBJECTS_NAMED, Caller, Head, NamedObjects
from tallygate.gateway.object_owners import ObjectOwners, OwnersBusyError, not_found, owners_unavailable

REFERENCES_MAX: Final = 1_000  # of one request
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE"})
FORM: Final = "multipart/form-data"
_UPLOADED: Final = frozenset({"file"})  # kinds whose routes take bytes of any type
_KEPT_ONLY: Final = {  # the members with which a request asks to store the answer's object
    "chat_completion": (b'"store"', b'"audio"'),
    # Searches of 2026 and later filter their results by code, with no tool for it (Anthropic, "Web search tool", Dynamic filtering)
    "message": (b'"container"', b"code_execution", b'"web_search_202', b'"web_fetch_202'),
}
_UPSERTED: Final = frozenset(
    {"content_item"}
)  # kinds whose ids a client may choose: one that it sent may be somebody else's already
_INGESTED: Final = "content_item"
_ECHOING: Final = "/responses/compact"  # answers with the messages of its input, ids and all (OpenAI, "Compact a response")
_BULK_QUERY: Final = frozenset({"publisher_id"})  # besides ids in the body; anything else may be a filter
_NAMED_BY_GOOGLE: Final = "batch"
_REFERRING: Final = "/messages/batches"  # in paths whose answers have a `results_url`
# An escape of JSON's for a letter, a digit, a dot, a dash or an underscore, of which ids consist: no encoder writes one.
_DISGUISE: Final = re.compile(rb"\\u00(?:2[de]|3\d|[46][1-9a-f]|[57][\da]|5f)", re.IGNORECASE)
_SEARCHED_BYTES_MAX: Final = 4 << 20  # of a body, for a disguise: some 50 ms at the worst
_NOT_KEPT: Final = {RESPONSE: re.compile(rb'(?<!\\)"store"\s*:\s*false')}


def check_bodiless(head: Head) -> None:
    """Refuse a body with a method that none of the APIs documents one for: no reader agrees with another on what it means.

    RFC 9110, sections 9.3.1, 9.3.2 and 9.3.5: it has no defined semantics. A server may read an order in it that was not checked.
    """
    request = head.client.request
    if request.method in _WITHOUT_BODY and request.body_exists and head.is_shared and not head.route.objects.is_bulk:
        message = f"A {request.method} request has no body here: leave it out."
        raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, should_retry=False))


def reads_always(_head: Head, _caller: Caller) -> bool:
    """Return whether the body is read before it is forwarded, on a route with a dialect."""
    return True


def reads_references(head: Head, caller: Caller) -> bool:
    """Return whether the body is read before it goes up, where no dialect reads it.

    It is read for what it refers to, and for the model of a caller who may use only some. Forms stream, and are searched on their
    way.
    """
    request = head.client.request
    if not request.body_exists or not (head.is_shared or caller.credential.models is not None):
        return False
    if request.content_type == FORM:
        return False
    is_upload = head.route.objects.makes in _UPLOADED
    return not is_upload or "json" in request.content_type


def put_kind(objects: RouteObjects) -> str:
    """The kind of what a request makes or changes under an id in its body; empty where bodies state none."""
    return next((kind for kind in (objects.makes, objects.by_ids, *dict(objects.names).values()) if kind in _UPSERTED), "")


def streamed_form(head: Head, *, is_body_read: bool) -> FormFields | None:
    """The watcher of a form's fields for names of stored objects; None if none is needed.

    Raises RequestRejectedError for a form that cannot be watched.
    """
    request = head.client.request
    if is_body_read or not request.body_exists or not head.is_shared or request.content_type != FORM:
        return None
    return FormFields(request.headers["Content-Type"])


def answer_objects(head: Head, caller: Caller, body: bytes) -> AnswerObjects | None:
    """The stored objects to look for in the answer; None for none, the usual case."""
    objects = head.route.objects
    if not (objects.makes or objects.lists) or not head.is_shared:
        return None
    makes = head.treatment.makes(objects.makes, body)
    if not (makes or objects.lists):
        return None
    # Google's file may have a name that its maker chose, and another may take once the file has ended (Files API, `File.name`).
    is_named = objects.makes in _UPSERTED or objects.prefix or head.route.path.endswith(_ECHOING)
    sent = body.replace(b"\\/", b"/") if is_named else b""
    makes, compares = "" if objects.makes != _NAMED_BY_GOOGLE and _may_disguise(sent) else makes, ""
    if makes == INGESTION:
        compares = _INGESTED
        if not all(name.startswith(f"{caller.organization.id}:") for name in all_producers(body)):
            makes = ""  # an item of that name may have been there, and the answer tells it like a new one
    refers = _REFERRING in head.route.path and head.client.request.method == "GET"
    return AnswerObjects(makes=makes, lists=objects.lists, prefix=objects.prefix, sent=sent, compares=compares, refers=refers)


def _may_disguise(body: bytes) -> bool:
    """Return whether a body may have an id that a search for its letters does not find."""
    return b"\\u00" in body and (len(body) > _SEARCHED_BYTES_MAX or _DISGUISE.search(body) is not None)


def made_as_asked(makes: str, body: bytes) -> str:
    """The kind of what a body that a dialect has read may make; empty if its answer names nothing that can be named later."""
    kept, lost = _KEPT_ONLY.get(makes), _NOT_KEPT.get(makes)
    if kept is not None and not _has_any(body, kept):
        return ""
    return UNKEPT_RESPONSE if lost is not None and lost.search(body) is not None else makes


def _has_any(body: bytes, words: Sequence[bytes]) -> bool:
    for word in words:  # noqa: SIM110 - at each request: any() takes twice as long
        if body.find(word) >= 0:
            return True
    return False


def made_at_route(makes: str, _body: bytes) -> str:
    """The kind of what a body may make that no dialect has read."""
    return makes


async def check_objects(
    owners: ObjectOwners, head: Head, caller: Caller, references: Sequence[StoredReference], *, names_all: bool = False
) -> NamedObjects:
    """The objects that a request names. Refuses one that is not the organization's in the same words as one that does not exist.

    references   of the body
    names_all    the body names each object that it means, by ids alone
    """
    if not head.is_shared:
        return NO_OBJECTS_NAMED
    objects, request = head.route.objects, head.client.request
    if not references and "?" not in request.raw_path and objects.needs_no_name:
        return NO_OBJECTS_NAMED
    query = request.query
    if (objects.is_bulk or objects.by_ids) and not (objects.by_ids and names_all and query.keys() <= _BULK_QUERY):
        fix = "name each object by 'item_id' or in 'item_ids', and nothing else" if objects.by_ids else "name one object by its id"
        raise Refused(
            Refusal(
                code=ErrorCode.BULK_OPERATION_REFUSED,
                message=f"This has to do with what others have stored as well: {fix}.",
                should_retry=False,
            )
        )
    if objects.asks is not None and not query.get(objects.asks[0]):
        raise Refused(not_found(objects.asks[1], param=objects.asks[0]))
    if put_kind(objects) and not objects.lists and any(folded(name) == "producerid" for name in query):
        raise Refused(not_found(PRODUCER, param=None))
    named = [(name, StoredReference(kind, objects.prefix + head.params[name])) for name, kind in objects.names if kind != SHARED]
    updated = _INGESTED if objects.makes == INGESTION else ""
    others = list(dict.fromkeys((*query_references(query.items(), listed=objects.lists, updated=updated), *references)))
    if not named and not others:
        return NO_OBJECTS_NAMED
    if len(others) > REFERENCES_MAX:
        message = f"A request may refer to at most {REFERENCES_MAX:,} stored objects."
        raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message))
    upstream = head.route.upstream
    asked: list[tuple[str | None, MadeObject]] = [
        (name, MadeObject(kind=reference.kind, id=reference.id, upstream=upstream)) for name, reference in named
    ]
    asked += [(None, MadeObject(kind=reference.kind, id=reference.id, upstream=upstream)) for reference in others]
    for name, made in asked:
        if len(made.id) > ID_CHARS_MAX:  # nobody's, and neither to be asked for nor to be remembered as unknown
            raise Refused(not_found(made.kind, param=name, named=made.id))
    try:
        owned = await owners.owned(caller.organization, [made for _, made in asked])
    except OwnersBusyError:
        raise Refused(_BUSY) from None
    except StoreError:
        raise Refused(owners_unavailable()) from None
    for name, made in asked:
        if made not in owned:
            raise Refused(not_found(made.kind, param=name, named=made.id))
    return NamedObjects(tokens=owned, deleting=tuple([made for _, made in asked[: len(named)]]) if objects.deletes else ())


def with_kept(named: NamedObjects, upstream: str, kept: Mapping[StoredReference, int | None]) -> NamedObjects:
    """`named` with objects that the upstream keeps for one connection alone, which is the caller's."""
    of_connection = {MadeObject(kind=each.kind, id=each.id, upstream=upstream): tokens for each, tokens in kept.items()}
    return replace(named, tokens={**named.tokens, **of_connection})


_BUSY: Final = Refusal(
    code=ErrorCode.RATE_LIMIT_EXCEEDED,
    message="Too many requests of this organization name objects that are not known. Try again shortly.",
    retry_after_ms=1_000,
    should_retry=True,
)
