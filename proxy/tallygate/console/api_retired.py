"""GET /api/retired-organizations: those that left the configuration, while their usage stays in the ledger."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_parameters import integer
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.api_usage import CURSOR
from tallygate.console.directory_access import need_platform

_LIMIT: Final = integer("limit", "Organizations of a page.", least=1, most=1_000, default=100)


class RetiredOrganization(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    retired: bool = True


class RetiredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    organizations: list[RetiredOrganization]
    next_cursor: str | None


class RetiredApi:
    """The endpoint. orgs_besides: of the ledger, in order, without the given ones: after a name, at most so many."""

    def __init__(self, *, scopes: Scopes, orgs_besides: Callable[[Collection[str], str, int], Awaitable[list[str]]]) -> None:
        self._scopes = scopes
        self._orgs_besides = orgs_besides

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/retired-organizations",
                handler=self._retired,
                summary="Organizations that are configured no longer, and have usage",
                parameters=(_LIMIT, CURSOR),
                answer=RetiredAnswer,
                tag="directory",
            ),
        )

    async def _retired(self, call: ApiCall) -> RetiredAnswer:
        need_platform(call, "seeing retired organizations")
        limit, question = call.values["limit"], question_of("/api/retired-organizations", call.values)
        after = "" if call.values["cursor"] is None else unseal("cursor", call.values["cursor"], question)
        found = await self._orgs_besides(self._scopes.visible(call.access), after, limit + 1)
        page = found[:limit]
        return RetiredAnswer(
            organizations=[RetiredOrganization(id=org) for org in page],
            next_cursor=seal(page[-1], question) if len(found) > limit else None,
        )
