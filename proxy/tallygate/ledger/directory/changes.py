"""One change of the directory: a transaction that increments the version, makes the change, and logs it; and the log, read."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import AuditEntry
from tallygate.ledger.directory.schema import AUDIT_LOG, DIRECTORY_VERSION

ACTOR_CHARS_MAX: Final = 128
PAGE_MAX: Final = 1_000  # entries of the log


class Change:
    """The open transaction. at_ms: its time, the same for everything that it writes."""

    def __init__(self, connection: AsyncConnection, *, version: int, at_ms: int, actor: str) -> None:
        self.connection = connection
        self.at_ms = at_ms
        self._version = version
        self._actor = actor

    async def log(
        self,
        action: str,
        subject: str,
        *,
        org: str | None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an entry to the audit log. before, after: as shown to people, without secrets."""
        await self.connection.execute(
            AUDIT_LOG.insert().values(
                version=self._version,
                at_ms=self.at_ms,
                actor=self._actor,
                action=action,
                org=org,
                subject=subject,
                before=None if before is None else json.dumps(before),
                after=None if after is None else json.dumps(after),
            )
        )


class Changes:
    """Begins changes, one at a time across all processes, and announces each commit.

    on_committed   wakes processes with copies; it must not raise, since the change is committed
    """

    def __init__(self, database: Database, *, now_ms: Callable[[], int], on_committed: Callable[[], Awaitable[None]]) -> None:
        self.database = database
        self.now_ms = now_ms
        self._on_committed = on_committed

    @asynccontextmanager
    async def begin(self, actor: str) -> AsyncIterator[Change]:
        """Begin a change. actor: its author, for the log. Raises LedgerUnavailableError if the database cannot commit it."""
        if not actor or len(actor) > ACTOR_CHARS_MAX or not actor.isprintable():
            raise InvalidChangeError(f"the actor must be 1 to {ACTOR_CHARS_MAX} printable characters")
        async with self.database.write() as connection:
            moved = update(DIRECTORY_VERSION).values(version=DIRECTORY_VERSION.c.version + 1)
            version = (await connection.execute(moved.returning(DIRECTORY_VERSION.c.version))).scalar_one()
            yield Change(connection, version=version, at_ms=self.now_ms(), actor=actor)
        await self._on_committed()


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
