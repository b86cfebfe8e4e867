"""The order in which the running audit compares spend windows, if there are too many for one round."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from sqlalchemy import select

from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.limiter_windows import count_windows
from tallygate.ledger.schema import SPEND_BUCKETS

WINDOWS_MAX: Final = 250  # of one round: about 0.2 ms of CPU time each
LATELY_MS: Final = 900_000  # two buckets of five minutes, and the time between two audits
_ORGS_AT_ONCE: Final = 500  # in one IN (...)


class AuditTurns:
    """All organizations in each round if their windows are few. Otherwise first those that differed, until they are healed; then,
    up to half of WINDOWS_MAX, those that spent recently, in turn; then all, in turn: 100,000 with a window each take 7 to 14
    hours at one round a minute.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._place = 0
        self._place_of_active = 0

    async def next(self, organizations: Sequence[Organization], now_ms: int, *, differing: Collection[str]) -> list[Organization]:
        """The organizations of the next round. differing: ids. Raises LedgerUnavailableError."""
        whole = list(_within(WINDOWS_MAX, organizations))
        if len(whole) == len(organizations):
            return whole
        again = [organization for organization in organizations if organization.id in differing] if differing else []
        lately = await self._spent_since(now_ms - LATELY_MS, [organization.id for organization in organizations])
        active = [organization for organization in organizations if organization.id in lately]
        taken_active = list(_within(WINDOWS_MAX // 2, _from(active, self._place_of_active)))
        self._place_of_active = _moved(self._place_of_active, len(taken_active), len(active))
        taken = list(_within(WINDOWS_MAX - WINDOWS_MAX // 2, _from(organizations, self._place)))
        self._place = _moved(self._place, len(taken), len(organizations))
        chosen = (*_within(WINDOWS_MAX, again), *taken_active, *taken)
        return list({organization.id: organization for organization in chosen}.values())

    async def _spent_since(self, since_ms: int, orgs: Sequence[str]) -> set[str]:
        """Organizations with spend since then. Buckets are ordered by organization, so their number does not matter."""
        columns, found = SPEND_BUCKETS.c, set[str]()
        async with self._database.read() as connection:
            for start in range(0, len(orgs), _ORGS_AT_ONCE):
                some = columns.org.in_(orgs[start : start + _ORGS_AT_ONCE])
                found.update((await connection.execute(select(columns.org).where(some, columns.bucket_ms >= since_ms))).scalars())
        return found


def _from(organizations: Sequence[Organization], place: int) -> Iterator[Organization]:
    """All of them once, starting at a position."""
    start = place % len(organizations) if organizations else 0
    for index in range(len(organizations)):
        yield organizations[(start + index) % len(organizations)]


def _moved(place: int, by: int, count: int) -> int:
    return (place + by) % count if count else 0


def _within(windows_max: int, organizations: Sequence[Organization] | Iterator[Organization]) -> Iterator[Organization]:
    """The first organizations whose windows together do not exceed the maximum; at least one."""
    windows = 0
    for index, organization in enumerate(organizations):
        windows += count_windows(organization)
        if index and windows > windows_max:
            return
        yield organization
