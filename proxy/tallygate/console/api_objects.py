"""/api/organizations/{org}/objects: an organization's stored objects; only the platform may list, adopt and forget them."""

import json
from typing import Any, Final

from tallygate.console.api_body import read_object
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import ApiError, invalid_parameter
from tallygate.console.api_organizations import LIMIT, ORG
from tallygate.console.api_parameters import text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_usage import CURSOR
from tallygate.console.directory_access import directory_route, need_platform, the_org
from tallygate.console.directory_shapes import NamedObjects, ObjectPage, ObjectsAdopted, ObjectsForgotten
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.objects import object_shown

TAG: Final = "objects"
_ALL: Final = "/api/organizations/{org}/objects"
_KIND: Final = text("kind", "Only objects of this kind, such as file.")
_FIELDS: Final = ("kind", "ids", "upstream")


def object_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    resource = _Objects(book)
    return (
        directory_route(
            "GET",
            _ALL,
            resource.list,
            "The objects upstream that an organization owns.",
            parameters=(ORG, _KIND, LIMIT, CURSOR),
            answer=ObjectPage,
            tag=TAG,
        ),
        directory_route(
            "POST",
            f"{_ALL}/adopt",
            resource.adopt,
            "Make an organization the owner of objects that it made past the gateway, or before it kept account.",
            parameters=(ORG,),
            body=NamedObjects,
            answer=ObjectsAdopted,
            tag=TAG,
        ),
        directory_route(
            "POST",
            f"{_ALL}/forget",
            resource.forget,
            "End an organization's ownership of objects, which stay where they are.",
            parameters=(ORG,),
            body=NamedObjects,
            answer=ObjectsForgotten,
            tag=TAG,
        ),
    )


class _Objects:
    def __init__(self, book: DirectoryBook) -> None:
        self._book = book

    async def list(self, call: ApiCall) -> object:
        org = the_org(call)
        need_platform(call, "seeing stored objects")
        limit: int = call.values["limit"]
        question, cursor = question_of(_ALL, call.values), call.values["cursor"]
        after = None if cursor is None else _position(unseal("cursor", cursor, question))
        found = await self._book.objects.list(org, kind=call.values["kind"], after=after, limit=limit)
        more = json.dumps([found[-1].upstream, found[-1].kind, found[-1].id]) if len(found) == limit else None
        return {"objects": [object_shown(item) for item in found], "next_cursor": None if more is None else seal(more, question)}

    async def adopt(self, call: ApiCall) -> object:
        """Body: kind, ids (a list), upstream (default: `default`)."""
        org = the_org(call)
        need_platform(call, "adopting objects")
        named = await _named(call)
        return {"org": org, "adopted": await self._book.objects.adopt(call.access.actor, org, **named)}

    async def forget(self, call: ApiCall) -> object:
        """Body: like adopt's."""
        org = the_org(call)
        need_platform(call, "forgetting objects")
        named = await _named(call)
        return {"org": org, "forgotten": await self._book.objects.forget(call.access.actor, org, **named)}


async def _named(call: ApiCall) -> dict[str, Any]:
    fields = await read_object(call.request)
    for key in fields:
        if key not in _FIELDS:
            raise _invalid(key[:64], f"is not a known key; known: {', '.join(_FIELDS)}")
    kind, ids, upstream = fields.get("kind"), fields.get("ids"), fields.get("upstream", "default")
    if not isinstance(kind, str):
        raise _invalid("kind", "must be text")
    if not isinstance(upstream, str):
        raise _invalid("upstream", "must be text")
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise _invalid("ids", "must be a list of texts")
    return {"kind": kind, "ids": ids, "upstream": upstream}


def _position(text: str) -> tuple[str, str, str]:
    """Upstream, kind and id of an object. Raises ApiError."""
    try:
        upstream, kind, id_ = (str(part) for part in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise invalid_parameter("cursor", "is not a cursor that an earlier page gave") from None
    return upstream, kind, id_


def _invalid(param: str, text: str) -> ApiError:
    return ApiError(status=400, code="invalid_request", message=f"{param}: {text}", param=param)
