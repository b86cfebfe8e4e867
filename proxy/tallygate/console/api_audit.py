"""GET /api/audit: the log of changes. A token sees the changes of its organizations."""

from typing import Final

from tallygate.console.api_errors import unknown_id
from tallygate.console.api_parameters import integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.directory_access import directory_route
from tallygate.console.directory_shapes import ChangePage
from tallygate.ledger.directory.audit_log import PAGE_MAX, read_audit_log
from tallygate.ledger.directory.book import DirectoryBook

ORG: Final = text("org", "Id of an organization: only its changes.")
SUBJECT: Final = text("subject", "Id of an organization, credential or admin token: only its changes.")
BEFORE: Final = integer("before", "`next_before` of the page before: only older entries.", least=1, most=2**53)
LIMIT: Final = integer("limit", "Entries of a page.", least=1, most=PAGE_MAX, default=100)


def audit_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    async def show_changes(call: ApiCall) -> object:
        limit, org = call.values["limit"], call.values["org"]
        if org is not None and not call.access.sees(org):
            raise unknown_id("org", "organization")
        entries = await read_audit_log(
            book.database,
            orgs=call.access.orgs if org is None else (org,),
            subject=call.values["subject"],
            before_id=call.values["before"],
            limit=limit,
        )
        return {
            "entries": [entry.shown() for entry in entries],
            "next_before": entries[-1].id if len(entries) == limit else None,
        }

    return (
        directory_route(
            "GET",
            "/api/audit",
            show_changes,
            "The log of changes, newest first.",
            parameters=(ORG, SUBJECT, BEFORE, LIMIT),
            answer=ChangePage,
            tag="audit",
        ),
    )
