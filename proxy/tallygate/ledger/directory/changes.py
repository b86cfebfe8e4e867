"""One change of the directory: a transaction that increments the version, makes the change, and logs it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.schema import AUDIT_LOG, DIRECTORY_VERSION

ACTOR_CHARS_MAX: Final = 128


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
