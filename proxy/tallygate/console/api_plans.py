"""GET /api/plans: what plans allow. A token of some organizations sees the plans that those are on."""

from typing import Final

from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.directory_access import directory_route
from tallygate.console.directory_shapes import PlanList
from tallygate.domain.organization import Plan
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.shown import plan_shown

TAG: Final = "organizations"
_PAGE: Final = 1_000


def plan_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    async def show_plans(call: ApiCall) -> object:
        plans = book.config().plans
        seen = plans.keys() if call.access.orgs is None else await _plans_of(book, call.access.orgs)
        return {"plans": [_shown(plans[name]) for name in plans if name in seen]}

    def _shown(plan: Plan) -> object:
        return {"id": plan.id, **plan_shown(plan)}

    return (directory_route("GET", "/api/plans", show_plans, "What plans allow.", answer=PlanList, tag=TAG),)


async def _plans_of(book: DirectoryBook, orgs: frozenset[str]) -> set[str]:
    in_file = {organization.id: organization.plan.id for organization in book.config().organizations if organization.id in orgs}
    stored = {found.id: found.plan for found, _ in await book.organizations.list(ids=orgs, after="", limit=_PAGE)}
    return {*(stored | in_file).values()}
