"""The stage that lets a request have to do with its own organization's objects alone.

An upstream with `passthrough` needs none of it: there every caller brings an account of its own.
"""

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from tallygate.config.model import AuthKind
from tallygate.config.route_objects import INGESTION, SHARED
from tallygate.dialects.dialect import Dialect
from tallygate.dialects.form_fields import FormFields
from tallygate.dialects.references import folded, query_references
from tallygate.dialects.unread_body import PRODUCER, all_producers
from tallygate.domain.errors import ErrorCode, Refusal, StoreError
from tallygate.domain.made_object import ID_CHARS_MAX, MADE_MAX, MadeObject
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.token_counts import UsageSource
from tallygate.gateway.exchange.live_exchange import Account, LiveExchange
from tallygate.gateway.exchange.relay import AnswerObjects
from tallygate.gateway.object_owners import OwnersBusyError, not_found, owners_unavailable
from tallygate.gateway.services import Services

REFERENCES_MAX: Final = 1_000  # of one request
_GOOGLES: Final = re.compile(r"/(?:upload/)?v1(?:beta|alpha)/(?!openai/)")
_AZURES: Final = "/openai/"
_GLOOS: Final = ("/ai/", "/engine/", "/ingestion/", "/platform/")
OTHER_TOKENIZER: Final = 4  # times as many tokens as one vocabulary, at most, another makes of the same text
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE"})
_FORM: Final = "multipart/form-data"
_UPLOADED: Final = frozenset({"file"})  # kinds whose routes take bytes of any type
_KEPT_ONLY: Final = {  # what of a request must be there for an answer to tell of an object that is kept
    "chat_completion": (b'"store"', b'"audio"'),
    "message": (b'"container"', b"code_execution"),
}
_UPSERTED: Final = frozenset(
    {"content_item"}
)  # kinds whose ids a client may choose: one that it sent may be somebody else's already
_INGESTED: Final = "content_item"
_BULK_QUERY: Final = frozenset({"publisher_id"})  # besides ids in the body; anything else may be a filter
_NOT_KEPT: Final = {"response": re.compile(rb'(?<!\\)"store"\s*:\s*false')}


def spoken_dialect(request: web.BaseRequest, services: Services) -> Dialect:
    """The dialect in which a client reads errors at a route that none reads: files and batches of Anthropic, all of Google's."""
    if "anthropic-version" in request.headers:
        return services.dialects.get("anthropic_messages", services.plain)
    return api_of(request.path, services) or services.plain


def api_of(path: str, services: Services) -> Dialect | None:
    """A dialect of the API that a path is of; None where several have such paths."""
    if path.startswith(_GLOOS):
        return services.dialects.get("gloo_chat")
    if path.startswith(_AZURES):
        return services.dialects.get("azure_chat")
    return services.dialects.get("gemini_generate") if _GOOGLES.match(path) is not None else None


def shares_account(live: LiveExchange) -> bool:
    """Whether one key of the operator's serves every organization at this upstream."""
    return live.upstream.config.auth.kind is not AuthKind.PASSTHROUGH


def refused_body(live: LiveExchange, request: web.BaseRequest) -> Refusal | None:
    """Refuses a body with a method that none of the APIs documents one for: no reader agrees with another on what it means.

    RFC 9110, sections 9.3.1, 9.3.2 and 9.3.5: it has no defined semantics. A server may read an order in it that was not checked.
    """
    if (
        request.method not in _WITHOUT_BODY
        or not request.body_exists
        or not shares_account(live)
        or live.found_route.objects.is_bulk
    ):
        return None
    return Refusal(
        status=400,
        code=ErrorCode.INVALID_REQUEST,
        message=f"A {request.method} request has no body here: leave it out.",
        should_retry=False,
    )


def reads_body(live: LiveExchange, request: web.BaseRequest) -> bool:
    """Whether a body that no dialect reads is read, for what it refers to and for the model of a caller who may use only some.

    Forms stream, and are searched on their way.
    """
    _, credential, _ = live.parties
    if live.dialect is not None or not request.body_exists or not (shares_account(live) or credential.models is not None):
        return False
    if request.content_type == _FORM:
        return False
    is_upload = live.found_route.objects.makes in _UPLOADED
    return not is_upload or "json" in request.content_type


def put_kind(live: LiveExchange) -> str:
    """The kind of what a request makes or changes under an id in its body; empty where bodies state none."""
    objects = live.found_route.objects
    return next((kind for kind in (objects.makes, objects.by_ids, *dict(objects.names).values()) if kind in _UPSERTED), "")


def streamed_form(live: LiveExchange, request: web.BaseRequest) -> FormFields | None:
    """What watches a form on its way for fields that name stored objects; None where nothing has to.

    Raises RequestRejectedError for a form that cannot be watched.
    """
    if live.is_body_read or not request.body_exists or not shares_account(live) or request.content_type != _FORM:
        return None
    return FormFields(request.headers["Content-Type"])


def answer_objects(live: LiveExchange, body: bytes) -> AnswerObjects | None:
    """What to look for in the answer; None for nothing, which is the usual case."""
    objects = live.found_route.objects
    if not shares_account(live) or not (objects.makes or objects.lists):
        return None
    kept, lost = _KEPT_ONLY.get(objects.makes), _NOT_KEPT.get(objects.makes)
    if live.dialect is not None and (
        (kept is not None and not any(word in body for word in kept)) or (lost is not None and lost.search(body) is not None)
    ):
        return None
    # Google's file may have a name that its maker chose, and another may take once the file has ended (Files API, `File.name`).
    sent = body if objects.makes in _UPSERTED or objects.prefix else b""
    makes, compares = objects.makes, ""
    if makes == INGESTION:
        compares = _INGESTED
        if not all(name.startswith(f"{live.org}:") for name in all_producers(body)):
            makes = ""  # an item of that name may have been there, and the answer tells it like a new one
    return AnswerObjects(makes=makes, lists=objects.lists, prefix=objects.prefix, sent=sent, compares=compares)


async def check_objects(
    live: LiveExchange, request: web.BaseRequest, references: Sequence[StoredReference], *, names_all: bool = False
) -> Refusal | None:
    """Refuse what names an object that is not the organization's, in the same words as one that does not exist.

    references   of the body
    names_all    the body of a bulk request names each object that it means
    """
    if not shares_account(live):
        return None
    objects = live.found_route.objects
    if objects.is_bulk and not (objects.by_ids and names_all and request.query.keys() <= _BULK_QUERY):
        fix = "name each object in 'item_ids', and nothing else" if objects.by_ids else "name one object by its id"
        return Refusal(
            status=403,
            code=ErrorCode.BULK_OPERATION_REFUSED,
            message=f"This has to do with what others have stored as well: {fix}.",
            should_retry=False,
        )
    if objects.asks is not None and not request.query.get(objects.asks[0]):
        return not_found(objects.asks[1], param=objects.asks[0])
    if put_kind(live) and not objects.lists and any(folded(name) == "producerid" for name in request.query):
        return not_found(PRODUCER, param=None)
    named = [
        (name, StoredReference(kind, objects.prefix + live.path_params[name])) for name, kind in objects.names if kind != SHARED
    ]
    updated = _INGESTED if objects.makes == INGESTION else ""
    others = list(dict.fromkeys((*query_references(request.query.items(), listed=objects.lists, updated=updated), *references)))
    if not named and not others:
        return None
    if len(others) > REFERENCES_MAX:
        return Refusal(
            status=400, code=ErrorCode.INVALID_REQUEST, message=f"A request may refer to at most {REFERENCES_MAX:,} stored objects."
        )
    upstream = live.found_route.upstream
    asked: list[tuple[str | None, MadeObject]] = [
        (name, MadeObject(kind=reference.kind, id=reference.id, upstream=upstream)) for name, reference in named
    ]
    asked += [(None, MadeObject(kind=reference.kind, id=reference.id, upstream=upstream)) for reference in others]
    for name, made in asked:
        if len(made.id) > ID_CHARS_MAX:  # nobody's, and neither to be asked for nor to be remembered as unknown
            return not_found(made.kind, param=name)
    organization, _, _ = live.parties
    try:
        owned = await live.services.owners.owned(organization, [made for _, made in asked])
    except OwnersBusyError:
        return Refusal(
            status=429,
            code=ErrorCode.RATE_LIMIT_EXCEEDED,
            message="Too many requests of this organization name objects that are not known. Try again shortly.",
            retry_after_ms=1_000,
            should_retry=True,
        )
    except StoreError:
        return owners_unavailable()
    for name, made in asked:
        if made not in owned:
            return not_found(made.kind, param=name)
    live.owned_tokens = owned
    if objects.deletes:
        live.deleting = tuple(made for _, made in asked[: len(named)])
    return None


def _made_tokens(live: LiveExchange, account: Account) -> dict[str, int]:
    """By kind, the most that what was made can put into a later prompt.

    A response brings all that it was made of, and itself. Of text alone another model makes some more tokens; of images, audio and
    files many times as many, so that nothing is known then; nor where the provider left some of it out for a model that reads less.
    """
    relay, facts = live.relay, live.facts
    if relay is None or relay.made is None:
        return {}
    if facts is None:
        return {"cached_content": relay.made.tokens} if relay.made.tokens is not None else {}
    is_text = not (facts.prompt.images or facts.prompt.opaque_bytes or facts.audio_input or facts.audio_output)
    is_seen = not facts.has_unknown_input or (not facts.has_unseen_input and live.referred_tokens is not None)
    if facts.is_cut_upstream or not (is_text and is_seen and live.has_last_word and account.metered.source is UsageSource.UPSTREAM):
        return {}
    counts = account.metered.counts
    return {"response": OTHER_TOKENIZER * (counts.prompt + counts.completion)}


def note_objects(live: LiveExchange, account: Account) -> None:
    """Tell the store of what the answer made or deleted, in front of the settlement."""
    live.made_tokens = _made_tokens(live, account)
    relay = live.relay
    if relay is None or live.organization is None:
        return
    if live.deleted:
        live.services.owners.forget(live.organization, live.deleted)
    if made := live.made:
        live.services.owners.remember(live.organization, made[:MADE_MAX])
