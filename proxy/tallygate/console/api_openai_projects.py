"""GET /v1/organization/projects, in OpenAI's shape: the organizations that a token sees.

Source: OpenAI's OpenAPI description, /organization/projects; pages go on after the last id.
"""

from typing import Final, Literal

import msgspec

from tallygate.console.api_parameters import Place, choice, integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.domain.organization import Organization

PROJECTS_MAX: Final = 100
_AFTER: Final = text("after", "The id after which the page begins: `last_id` of the page before.")
_LIMIT: Final = integer("limit", "Projects of a page.", least=1, most=PROJECTS_MAX, default=20)
_ARCHIVED: Final = choice("include_archived", "Nothing is archived here: either answer is the same.", ["true", "false"])
_PROJECT_ID: Final = text("project_id", "An organization's id.", place=Place.PATH)


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """An organization. created_at: 0, since files do not say when they were written."""

    object: Literal["organization.project"] = "organization.project"
    id: str
    name: str
    created_at: int = 0
    archived_at: int | None = None
    status: Literal["active"] = "active"


class ProjectsPage(msgspec.Struct, frozen=True, kw_only=True):
    """first_id, last_id: null on an empty page."""

    object: Literal["list"] = "list"
    data: list[Project]
    first_id: str | None
    last_id: str | None
    has_more: bool


class OpenAiProjectsApi:
    def __init__(self, *, scopes: Scopes) -> None:
        self._scopes = scopes

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/v1/organization/projects",
                handler=self._projects,
                summary="Organizations, in the shape of OpenAI's projects",
                parameters=(_AFTER, _LIMIT, _ARCHIVED),
                answer=ProjectsPage,
                tag="openai",
            ),
            ApiRoute(
                method="GET",
                path="/v1/organization/projects/{project_id}",
                handler=self._project,
                summary="An organization, in the shape of OpenAI's projects",
                parameters=(_PROJECT_ID,),
                answer=Project,
                tag="openai",
            ),
        )

    async def _projects(self, call: ApiCall) -> ProjectsPage:
        after, limit = call.values["after"] or "", call.values["limit"]
        ids = [org for org in self._scopes.visible(call.access) if org > after]
        data = [_shown(self._scopes.organization(call.access, org)) for org in ids[:limit]]
        return ProjectsPage(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=len(ids) > limit,
        )

    async def _project(self, call: ApiCall) -> Project:
        return _shown(self._scopes.organization(call.access, call.values["project_id"], param=_PROJECT_ID.name))


def _shown(organization: Organization) -> Project:
    return Project(id=organization.id, name=organization.name)
