"""The OpenAPI document, derived from the tables that calls are checked by, so that it cannot differ."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from tallygate.console.api_access import Access
from tallygate.console.api_errors import ErrorAnswer
from tallygate.console.api_parameters import VALUES_MAX, Parameter, Place
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.document_page import document_page
from tallygate.console.page_files import page_answer

_REFERENCE: Final = "#/components/schemas/{name}"
_BODY_ERRORS: Final = {
    "409": "It cannot be done as things are: the id is taken, or a file manages the organization",
    "413": "The body is too large",
    "415": "With a session: the body is not sent as JSON",
}
_ERRORS: Final = {
    "400": "A parameter or field is wrong; `param` names it",
    "401": "No valid admin token or session",
    "403": "The token may not do this, or another site than the console may have asked for it",
    "404": "There is no such thing within the token's scope",
    "503": "A store does not answer; `Retry-After` says when to ask again",
}


class DocumentApi:
    """GET /api/openapi.json, and the same as a page at /docs. Both are public: they reveal nothing that the source does not."""

    def __init__(self, routes: Iterable[ApiRoute], *, version: str) -> None:
        self._route = ApiRoute(
            method="GET",
            path="/api/openapi.json",
            handler=self._document,
            summary="This document",
            is_public=True,
            answer=dict[str, Any],
            tag="document",
        )
        self._page_route = ApiRoute(
            method="GET",
            path="/docs",
            handler=self._page,
            summary="This document as a page",
            is_public=True,
            media=("text/html",),
            tag="document",
        )
        self._text = document((*routes, *self.routes()), version=version)
        self._html = document_page(self._text).encode()

    def routes(self) -> tuple[ApiRoute, ...]:
        return self._route, self._page_route

    async def _page(self, _call: ApiCall) -> web.Response:
        return page_answer(self._html)

    async def _document(self, _call: ApiCall) -> dict[str, Any]:
        return self._text


def document(routes: Iterable[ApiRoute], *, version: str) -> dict[str, Any]:
    """Make the OpenAPI 3.1 document."""
    listed = tuple(routes)
    types = [*dict.fromkeys(kind for route in listed for kind in (route.answer, route.body) if kind is not None), ErrorAnswer]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tallygate",
            "version": version,
            "description": "Usage, spend and administration. Every endpoint asks for an admin token and shows its scope alone.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"admin_token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: ApiRoute, schema_of: dict[Any, Any]) -> dict[str, Any]:
    failures = {
        status: {"description": text, "content": {"application/json": {"schema": schema_of[ErrorAnswer]}}}
        for status, text in (_ERRORS | (_BODY_ERRORS if route.access is Access.WRITE else {})).items()
        if not (route.is_public and status != "400")
    }
    schema = {} if route.answer is None else schema_of[route.answer]
    success = {"description": "Success", "content": {media: {"schema": schema} for media in route.media}}
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '').replace('.', '_')}",
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": {str(route.status): success, **failures},
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema_of[route.body]}}}
    if route.is_public or route.admits:
        operation["security"] = []
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.schema)
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.is_list:
        schema = {"type": "array", "items": schema, "maxItems": VALUES_MAX}
        if parameter.is_set:
            schema["uniqueItems"] = True
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place.value,
        "required": parameter.is_required or parameter.place is Place.PATH,
        "description": parameter.description,
        "schema": schema,
    }
    if parameter.is_list:
        described |= {"style": "form", "explode": True}
    return described
