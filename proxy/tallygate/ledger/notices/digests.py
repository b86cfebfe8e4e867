"""Makes the digests that are due: one for each organization and week, however many ledgers there are, and whenever they end.

A turn of the week makes work for every organization at once. It is done in pieces, and no faster than receivers take it.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from typing import Final

from sqlalchemy import select

from tallygate.config.webhook_endpoint import DIGEST, WebhookEndpoint
from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.ledger.notices.digest import DigestNotice, Week, digest_notice, due_week
from tallygate.ledger.notices.digest_figures import DigestFigures
from tallygate.ledger.notices.record import record_notices
from tallygate.ledger.notices.schema import DIGEST_WEEKS

PIECE_MAX: Final = 50  # organizations of one call
LOOK_EVERY_MS: Final = 60_000  # once nothing is due
ROOM_EVERY_MS: Final = 5_000  # while all that is due waits for receivers
ROOM: Final = 50  # deliveries that are due at a receiver and not sent yet: with more, digests wait, so that a pause does not
PATIENCE_MS: Final = 12 * 3_600_000  # after the end of the week: then they wait for nobody any more
_AT_ONCE: Final = 500  # organizations in one IN (...), and without a turn for others


class Digests:
    """The digests of one ledger process.

    organizations, endpoints   those of the configuration in force
    """

    def __init__(
        self,
        database: Database,
        figures: DigestFigures,
        *,
        organizations: Callable[[], Sequence[Organization]],
        endpoints: Callable[[], Sequence[WebhookEndpoint]],
    ) -> None:
        self._database = database
        self._deliveries = Deliveries(database)
        self._figures = figures
        self._organizations = organizations
        self._endpoints = endpoints
        self._done: dict[str, str] = {}  # by organization: first day of the last week that needs no look any more
        self._place = 0
        self._rests_until_ms = 0

    async def make_due(self, now_ms: int, *, lacks_usage: bool = False) -> int:
        """Make up to PIECE_MAX that are due; return how many organizations were looked at. Raises LedgerUnavailableError.

        lacks_usage   the ledger has still to store what is older
        """
        receivers = [one for one in self._endpoints() if one.is_enabled and DIGEST in one.events]
        if not receivers or 0 < self._rests_until_ms - now_ms <= LOOK_EVERY_MS:
            return 0
        full = frozenset(one.name for one in receivers) if lacks_usage else await self._full(receivers, now_ms)
        chosen = await self._next(receivers, full, now_ms)
        for time_zone, some in groupby(sorted(chosen, key=_zone_of), key=_zone_of):
            await self._make(list(some), due_week(now_ms, time_zone), receivers, now_ms)
        if not chosen:
            self._rests_until_ms = now_ms + (ROOM_EVERY_MS if full else LOOK_EVERY_MS)
        return len(chosen)

    async def _next(self, receivers: Sequence[WebhookEndpoint], full: Collection[str], now_ms: int) -> list[Organization]:
        """The next organizations whose week is due, in turn, beginning where the call before ended.

        full   names of receivers whose organizations wait
        """
        organizations, weeks = self._organizations(), dict[str, Week]()
        chosen: list[Organization] = []
        start = self._place % len(organizations) if organizations else 0
        in_turn = [*organizations[start:], *organizations[:start]]
        for at in range(0, len(in_turn), _AT_ONCE):
            some = in_turn[at : at + _AT_ONCE]
            due = []
            for organization in some:
                week = weeks.get(organization.time_zone)
                if week is None:
                    week = weeks[organization.time_zone] = due_week(now_ms, organization.time_zone)
                if self._done.get(organization.id, "") < week.first_day and _has_room(
                    organization.id, receivers, full if now_ms < week.to_ms + PATIENCE_MS else ()
                ):
                    due.append(organization)
            if due:
                self._done |= await self._done_of(due)
                chosen += [one for one in due if self._done.get(one.id, "") < weeks[one.time_zone].first_day]
            if len(chosen) >= PIECE_MAX:
                self._place = start + at
                return chosen[:PIECE_MAX]
            await asyncio.sleep(0)
        if len(self._done) > len(organizations):  # some have left the configuration
            self._done = {one.id: self._done[one.id] for one in organizations if one.id in self._done}
        return chosen

    async def _full(self, receivers: Sequence[WebhookEndpoint], now_ms: int) -> frozenset[str]:
        """Names of the receivers that are still busy with what is due."""
        counts = {one.name: await self._deliveries.due_count(one.name, now_ms, most=ROOM) for one in receivers}
        return frozenset(name for name, count in counts.items() if count >= ROOM)

    async def _done_of(self, organizations: Sequence[Organization]) -> Mapping[str, str]:
        columns = DIGEST_WEEKS.c
        query = select(columns.org, columns.first_day).where(columns.org.in_([one.id for one in organizations]))
        async with self._database.read() as connection:
            return {row.org: row.first_day for row in await connection.execute(query)}

    async def _make(
        self, organizations: Sequence[Organization], week: Week, receivers: Sequence[WebhookEndpoint], now_ms: int
    ) -> None:
        """Store the digests with their deliveries, in the transaction that marks the week as done."""
        digests = await self._figures.of(organizations, week, now_ms=now_ms)
        statement = self._database.insert(DIGEST_WEEKS)
        statement = statement.on_conflict_do_update(
            index_elements=[DIGEST_WEEKS.c.org],
            set_={"first_day": statement.excluded.first_day},
            where=DIGEST_WEEKS.c.first_day < statement.excluded.first_day,
        ).returning(DIGEST_WEEKS.c.org)
        rows = [{"org": org, "first_day": week.first_day} for org in sorted(one.id for one in organizations)]

        def endpoints_of(notice: DigestNotice) -> list[str]:
            return [one.name for one in receivers if one.wants(DIGEST, notice.org)]

        async with self._database.write() as connection:
            ours = (await connection.execute(statement, rows)).scalars().all()  # another ledger may have been faster
            notices = [digest_notice(org, digests[org], now_ms=now_ms) for org in ours if org in digests]
            await connection.run_sync(record_notices, self._database, notices, endpoints_of, now_ms=now_ms)
        self._done |= {one.id: week.first_day for one in organizations}


def _zone_of(organization: Organization) -> str:
    return organization.time_zone


def _has_room(org: str, receivers: Sequence[WebhookEndpoint], full: Collection[str]) -> bool:
    """Return whether somebody wants its digest, and all who do have room for it."""
    wanting = [one.name for one in receivers if one.wants(DIGEST, org)]
    return bool(wanting) and not any(name in full for name in wanting)
