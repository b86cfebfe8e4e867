"""Reading notices, page after page, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_

from tallygate.ledger.database import Database
from tallygate.ledger.notices.digest import DigestNotice
from tallygate.ledger.notices.notice import Notice
from tallygate.ledger.notices.notice_rows import notice_of_row
from tallygate.ledger.notices.schema import NOTICES


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesQuery:
    """A query for notices in [from_ms, to_ms). orgs: ids. types: empty for all. after: (at_ms, event_id) of the previous page."""

    orgs: Sequence[str]
    types: Sequence[str] = ()
    from_ms: int
    to_ms: int
    after: tuple[int, str] | None = None
    limit: int


class NoticePages:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: NoticesQuery) -> list[Notice | DigestNotice]:
        """Up to `limit` notices. Raises LedgerUnavailableError."""
        columns = NOTICES.c
        statement = select(NOTICES).where(
            columns.org.in_(list(query.orgs)), columns.at_ms >= query.from_ms, columns.at_ms < query.to_ms
        )
        if query.types:
            statement = statement.where(columns.type.in_(list(query.types)))
        if query.after is not None:
            statement = statement.where(tuple_(columns.at_ms, columns.event_id) < tuple_(*query.after))
        statement = statement.order_by(columns.at_ms.desc(), columns.event_id.desc()).limit(query.limit)
        async with self._database.read() as connection:
            return [notice_of_row(row) for row in (await connection.execute(statement)).mappings()]
