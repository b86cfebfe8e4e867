"""GET /api/audit: the log of changes. A token sees the changes of its organizations."""

from typing import Final

from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import invalid_parameter, unknown_id
from tallygate.console.api_parameters import integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_usage import CURSOR
from tallygate.console.directory_access import directory_route
from tallygate.console.directory_shapes import ChangePage
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.changes import PAGE_MAX, read_audit_log

ORG: Final = text("org", "Id of an organization: only its changes.")
SUBJECT: Final = text("subject", "Id of an organization, credential or admin token: only its changes.")
ID_DIGITS_MAX: Final = 16
LIMIT: Final = integer("limit", "Entries of a page.", least=1, most=PAGE_MAX, default=100)


def audit_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    async def show_changes(call: ApiCall) -> object:
        limit, org, cursor = call.values["limit"], call.values["org"], call.values["cursor"]
        question = question_of("/api/audit", call.values)
        if org is not None and not call.access.sees(org):
            raise unknown_id("org", "organization")
        entries = await read_audit_log(
            book.database,
            orgs=call.access.orgs if org is None else (org,),
            subject=call.values["subject"],
            before_id=None if cursor is None else _position(unseal("cursor", cursor, question)),
            limit=limit,
        )
        return {
            "entries": [entry.shown() for entry in entries],
            "next_cursor": seal(str(entries[-1].id), question) if len(entries) == limit else None,
        }

    return (
        directory_route(
            "GET",
            "/api/audit",
            show_changes,
            "The log of changes, newest first.",
            parameters=(ORG, SUBJECT, LIMIT, CURSOR),
            answer=ChangePage,
            tag="audit",
        ),
    )


def _position(text: str) -> int:
    """The number of an entry. Raises ApiError."""
    if not (text.isascii() and text.isdigit() and len(text) <= ID_DIGITS_MAX):
        raise invalid_parameter("cursor", "is not a cursor that an earlier page gave")
    return int(text)
