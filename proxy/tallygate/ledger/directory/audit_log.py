"""Reading the log of changes."""

import json
from collections.abc import Collection
from typing import Final

from sqlalchemy import select

from tallygate.ledger.database import Database
from tallygate.ledger.directory.records import AuditEntry
from tallygate.ledger.directory.schema import AUDIT_LOG

PAGE_MAX: Final = 1_000


async def read_audit_log(
    database: Database,
    *,
    orgs: Collection[str] | None = None,
    subject: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """Read entries, newest first. orgs: only of these organizations; None: all, and those of none. before_id: for paging."""
    query = select(AUDIT_LOG).order_by(AUDIT_LOG.c.id.desc()).limit(min(limit, PAGE_MAX))
    if orgs is not None:
        query = query.where(AUDIT_LOG.c.org.in_(list(orgs)))
    if subject is not None:
        query = query.where(AUDIT_LOG.c.subject == subject)
    if before_id is not None:
        query = query.where(AUDIT_LOG.c.id < before_id)
    async with database.read() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [
        AuditEntry(
            id=row["id"],
            at_ms=row["at_ms"],
            actor=row["actor"],
            action=row["action"],
            org=row["org"],
            subject=row["subject"],
            before=None if row["before"] is None else json.loads(row["before"]),
            after=None if row["after"] is None else json.loads(row["after"]),
        )
        for row in rows
    ]
