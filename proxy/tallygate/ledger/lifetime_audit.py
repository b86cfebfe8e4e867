"""Audit of the lifetime totals: they must equal the days' rollups plus those that retention removed."""

from typing import Any

from sqlalchemy import Select, case, func, select

from tallygate.domain.usage_event import Outcome
from tallygate.ledger.audit import Drift
from tallygate.ledger.database import Database
from tallygate.ledger.rollups import DAYS_OF_SERIES
from tallygate.ledger.schema import LIFETIME_SUMS, LIFETIME_TOTALS, PURGED_AMOUNTS, PURGED_TOTALS, ROLLUPS, SERIES


async def lifetime_drifts(database: Database, org: str) -> list[Drift]:
    """Sums of one organization that differ, by credential and capability, in one snapshot. Raises LedgerUnavailableError."""
    async with database.read() as connection:
        expected: dict[tuple[str, str], list[int]] = {}
        for statement in _whole_life(org):
            for credential, capability, *amounts in await connection.execute(statement):
                sums = expected.setdefault((credential, capability), [0] * len(PURGED_AMOUNTS))
                sums[:] = [before + int(amount) for before, amount in zip(sums, amounts, strict=True)]
        rows = await connection.execute(_counted_life(org))
        found = {(credential, capability): list(map(int, amounts)) for credential, capability, *amounts in rows}
    nothing = [0] * len(PURGED_AMOUNTS)
    return [
        Drift(what="lifetime_totals", where=" ".join((org, *key)), amount=name, expected=right, found=wrong)
        for key in sorted(expected.keys() | found.keys())
        for name, right, wrong in zip(PURGED_AMOUNTS, expected.get(key, nothing), found.get(key, nothing), strict=True)
        if right != wrong
    ]


def _whole_life(org: str) -> tuple[Select[Any], Select[Any]]:
    """(credential, capability, PURGED_AMOUNTS ...) of remaining and removed rollups."""
    exchange = (SERIES.c.credential, SERIES.c.capability)
    left = (
        select(*exchange, *(func.sum(ROLLUPS.c[name]) for name in PURGED_AMOUNTS))
        .join(SERIES, SERIES.c.id == ROLLUPS.c.series_id)
        .where(DAYS_OF_SERIES.rows(), ROLLUPS.c.org == org)
        .group_by(*exchange)
    )
    gone = PURGED_TOTALS.c
    return left, select(gone.credential, gone.capability, *(gone[name] for name in PURGED_AMOUNTS)).where(gone.org == org)


def _counted_life(org: str) -> Select[Any]:
    """The same from the lifetime totals, without credits."""
    columns = LIFETIME_TOTALS.c
    is_refused = columns.outcome == Outcome.REFUSED.value
    sums = (
        func.sum(case((is_refused, 0), else_=columns.requests)),
        *(func.sum(columns[name] - columns[f"credited_{name}"]) for name in LIFETIME_SUMS),
        func.sum(case((is_refused, columns.requests), else_=0)),
    )
    return (
        select(columns.credential, columns.capability, *sums)
        .where(columns.org == org)
        .group_by(columns.credential, columns.capability)
    )
