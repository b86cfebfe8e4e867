"""/api/organizations: created, changed and listed by the same functions as on the command line."""

from functools import partial
from typing import Any, Final

from tallygate.console.api_body import read_object
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import Place, integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_usage import CURSOR
from tallygate.console.directory_access import directory_route, need_platform, the_org
from tallygate.console.directory_shapes import (
    NewOrganization,
    OrganizationChange,
    OrganizationDeleted,
    OrganizationPage,
    OrganizationShown,
)
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.organizations import OrganizationState
from tallygate.ledger.directory.shown import effective_shown, file_shown, stored_shown

TAG: Final = "organizations"
ORG: Final = text("org", "The organization's id.", place=Place.PATH, is_required=True)
LIMIT: Final = integer("limit", "Organizations of a page.", least=1, most=1_000, default=100)
# By a token of the organization, which can lower its spend limit and set its warnings. All else is the platform's.
CHANGED_BY_ITSELF: Final = frozenset({"name", "spend_limit"})


def organization_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    resource = _Organizations(book)

    route = partial(directory_route, tag=TAG, answer=OrganizationShown, parameters=(ORG,))
    return (
        route(
            "GET",
            "/api/organizations",
            resource.list,
            "The organizations that the token sees.",
            answer=OrganizationPage,
            parameters=(LIMIT, CURSOR),
        ),
        route(
            "POST",
            "/api/organizations",
            resource.create,
            "Make an organization.",
            body=NewOrganization,
            status=201,
            parameters=(),
        ),
        route("GET", "/api/organizations/{org}", resource.get, "One organization, with its limits in effect."),
        route(
            "PATCH",
            "/api/organizations/{org}",
            resource.change,
            "Change what the body names; null takes it away.",
            body=OrganizationChange,
        ),
        route(
            "DELETE",
            "/api/organizations/{org}",
            resource.delete,
            "Forget an organization and its credentials.",
            answer=OrganizationDeleted,
        ),
    )


class _Organizations:
    def __init__(self, book: DirectoryBook) -> None:
        self._book = book

    async def list(self, call: ApiCall) -> object:
        """List the organizations of the file and of the database, in the order of their ids."""
        limit, question = call.values["limit"], question_of("/api/organizations", call.values)
        after = "" if call.values["cursor"] is None else unseal("cursor", call.values["cursor"], question)
        in_file = {organization.id: organization for organization in self._book.config().organizations}
        rows = await self._book.organizations.list(ids=call.access.orgs, after=after, limit=limit + 1)
        shown = {stored.id: stored_shown(stored, credentials=len(theirs)) for stored, theirs in rows}
        seen = {org: file_shown(item) for org, item in in_file.items() if org > after and call.access.sees(org)}
        found = [item for _, item in sorted({**shown, **seen}.items())]
        page = found[:limit]
        return {"organizations": page, "next_cursor": seal(page[-1]["id"], question) if len(found) > limit else None}

    async def create(self, call: ApiCall) -> object:
        need_platform(call, "making an organization")
        return _shown(await self._book.organizations.create(call.access.actor, await read_object(call.request)))

    async def get(self, call: ApiCall) -> object:
        org = the_org(call)
        in_file = self._book.rules.in_file(org)
        if in_file is not None:
            return file_shown(in_file) | {"effective": effective_shown(in_file)}
        return _shown(await self._book.organizations.get(org))

    async def change(self, call: ApiCall) -> object:
        org, fields = the_org(call), await read_object(call.request)
        is_own = call.access.orgs is not None
        if is_own and not fields.keys() <= CHANGED_BY_ITSELF:
            raise ApiError(
                status=403,
                code="platform_token_needed",
                message="a token of some organizations may change the name and lower the spend limit; all else takes one for all",
                param=min(fields.keys() - CHANGED_BY_ITSELF),
            )
        return _shown(await self._book.organizations.change(call.access.actor, org, fields, may_raise=not is_own))

    async def delete(self, call: ApiCall) -> object:
        org = the_org(call)
        need_platform(call, "deleting an organization")
        await self._book.organizations.delete(call.access.actor, org)
        return {"id": org, "deleted": True}


def _shown(state: OrganizationState) -> dict[str, Any]:
    return stored_shown(state.stored, credentials=len(state.credentials)) | {"effective": effective_shown(state.effective)}
