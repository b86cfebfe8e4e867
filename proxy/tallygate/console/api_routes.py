"""Endpoints of the console's API as tables of routes: each resource has its own file with its own table.

A route declares its access, its parameters and body, and its answer (a msgspec Struct). This declaration drives the checks
before the handler runs, and the OpenAPI document.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tallygate.console.api_access import Access, AdminAccess, AdminTokens, Sessions, authorize
from tallygate.console.api_errors import ApiError, json_answer, unavailable
from tallygate.console.api_parameters import Parameter, Place, read_parameters
from tallygate.console.packed import packed
from tallygate.domain.errors import StoreError
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.read_replica import ReplicaLostError

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """An authorized call with parameters as declared. values: by name; () or None for one that was not given."""

    request: web.Request
    access: AdminAccess
    values: Mapping[str, Any] = field(default_factory=dict)


Handler = Callable[[ApiCall], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute:
    """One endpoint.

    path       in the notation of both aiohttp and OpenAPI: "/api/organizations/{org}"
    handler    returns an `answer`, sent as JSON with `status`, or a response of its own; raises ApiError
    answer     the Struct or TypedDict that it returns; None: a response of its own, of one of the types in `media`
    body       the shape of a request's body, for the document; the handler checks it; None: no body
    is_public  needs no token
    admits     is public, and its handler decides whom it answers: signing in
    """

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access = Access.READ
    parameters: tuple[Parameter, ...] = ()
    answer: type | None = None
    body: type | None = None
    status: int = 200
    media: tuple[str, ...] = ("application/json",)
    is_public: bool = False
    admits: bool = False
    tag: str = "usage"


_ANYONE: Final = AdminAccess(actor="anyone", access=Access.READ, orgs=frozenset())


class Api:
    """All routes over one store of admin tokens. sessions: of browsers; None: no cookie is read."""

    def __init__(self, routes: Iterable[ApiRoute], tokens: AdminTokens, sessions: Sessions | None = None) -> None:
        self.routes = tuple(routes)
        self.sessions = sessions
        self._tokens = tokens
        self._asked: Sequence[Callable[[], None]] = ()

    def add_to(self, app: web.Application, asked: Sequence[Callable[[], None]] = ()) -> None:
        """asked: called for each authorized call, before it is answered."""
        self._asked = asked
        for route in self.routes:
            app.router.add_route(route.method, route.path, self._endpoint(route))

    def _endpoint(self, route: ApiRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def endpoint(request: web.Request) -> web.StreamResponse:
            try:
                answer = await self._answer(route, request)
            except ApiError as error:
                return error.answer()
            except LedgerUnavailableError as error:
                _LOG.warning("the ledger did not answer the API", extra={"fields": {"path": route.path, "reason": str(error)}})
                return unavailable("ledger_unavailable", "the ledger does not answer; nothing was changed").answer()
            except StoreError as error:
                _LOG.warning("the store did not answer the API", extra={"fields": {"path": route.path, "reason": str(error)}})
                return unavailable("limiter_unavailable", "the limiter's store does not answer, or has lost its data").answer()
            if isinstance(answer, web.StreamResponse):
                return answer
            return await packed(request, json_answer(answer, status=route.status))

        return endpoint

    async def _answer(self, route: ApiRoute, request: web.Request) -> object:
        is_open = route.is_public or route.admits
        access = _ANYONE if is_open else await authorize(request, self._tokens, route.access, self.sessions)
        for asked in self._asked:
            asked()
        values = read_parameters(route.parameters, {Place.QUERY: request.query, Place.PATH: request.match_info})
        call = ApiCall(request=request, access=access, values=values)
        try:
            return await route.handler(call)
        except ReplicaLostError:  # a question, which may be asked twice
            return await route.handler(call)
