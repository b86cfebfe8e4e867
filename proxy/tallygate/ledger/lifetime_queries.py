"""Lifetime totals in the form of the counters of /metrics: summed over the labels that a counter lacks."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, and_, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.schema import LIFETIME_AMOUNTS, LIFETIME_ODDITIES, LIFETIME_SPEND, LIFETIME_TOTALS

ORGS_AT_ONCE: Final = 50  # in one IN (...): adding their rows to a scrape keeps the event loop for a few milliseconds
SUMS: Final = tuple(name for name in LIFETIME_AMOUNTS if name != "requests" and name not in LIFETIME_ODDITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationTotals:
    """The totals of some organizations, each of which is complete.

    exchanges   (organization, credential, capability, amounts in the order of SUMS), of served requests
    outcomes    (organization, credential, capability, outcome, requests), refused ones included
    models      (organization, model, requests, amounts in the order of SUMS), of served requests
    spend       (organization, credential, capability, kind of `SPENT_ON`, nano-USD, credited nano-USD)
    """

    organizations: Sequence[str]
    exchanges: Sequence[tuple[Any, ...]]
    outcomes: Sequence[tuple[Any, ...]]
    models: Sequence[tuple[Any, ...]]
    spend: Sequence[tuple[Any, ...]]

    @property
    def rows(self) -> int:
        return len(self.exchanges) + len(self.outcomes) + len(self.models) + len(self.spend)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverallTotals:
    """The totals of everything in the ledger. sources: requests by usage source; oddities: in the order of LIFETIME_ODDITIES."""

    sources: Sequence[tuple[str, int]]
    oddities: tuple[int, ...]


class LifetimeQueries:
    """Reads one ledger in one snapshot. Raises LedgerUnavailableError if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, orgs: Sequence[str]) -> AsyncGenerator[OverallTotals | OrganizationTotals, None]:
        """Yield the common totals, then ORGS_AT_ONCE organizations at a time, by name. Close the iterator to stop early."""
        by_name = sorted(orgs)
        async with self._database.read() as connection:
            yield await _overall(connection)
            for start in range(0, len(by_name), ORGS_AT_ONCE):
                yield await _of_organizations(connection, by_name[start : start + ORGS_AT_ONCE])


_C: Final = LIFETIME_TOTALS.c
_SPEND: Final = LIFETIME_SPEND.c
_IS_SERVED: Final = _C.outcome != Outcome.REFUSED.value


def _sum(name: str) -> ColumnElement[int]:
    # PostgreSQL sums bigints to numerics, each of which would become a Decimal.
    return cast(func.coalesce(func.sum(_C[name]), 0), BigInteger)


async def _overall(connection: AsyncConnection) -> OverallTotals:
    sources = await _rows(connection, select(_C.usage_source, _sum("requests")).where(_IS_SERVED), _C.usage_source)
    oddities = (await connection.execute(select(*map(_sum, LIFETIME_ODDITIES)))).one()
    return OverallTotals(sources=[(source, requests) for source, requests in sources], oddities=tuple(oddities))


async def _of_organizations(connection: AsyncConnection, orgs: Sequence[str]) -> OrganizationTotals:
    exchange = (_C.org, _C.credential, _C.capability)
    wanted = _among(_C.org, orgs)
    sums = [_sum(name) for name in SUMS]
    of_exchange = select(*exchange, *sums).where(wanted, _IS_SERVED)
    of_outcome = select(*exchange, _C.outcome, _sum("requests")).where(wanted)
    of_model = select(_C.org, _C.model, _sum("requests"), *sums).where(wanted, _IS_SERVED)
    labels = (_SPEND.org, _SPEND.credential, _SPEND.capability, _SPEND.kind)
    of_spend = select(*labels, _SPEND.nano_usd, _SPEND.credited_nano_usd).where(_among(_SPEND.org, orgs)).order_by(*labels)
    return OrganizationTotals(
        organizations=orgs,
        exchanges=await _rows(connection, of_exchange, *exchange),
        outcomes=await _rows(connection, of_outcome, *exchange, _C.outcome),
        models=await _rows(connection, of_model, _C.org, _C.model),
        spend=list(map(tuple, (await connection.execute(of_spend)).all())),
    )


def _among(column: ColumnElement[str], orgs: Sequence[str]) -> ColumnElement[bool]:
    # With a range PostgreSQL uses the index, whatever its statistics.
    return and_(column >= orgs[0], column <= orgs[-1], column.in_(orgs))


async def _rows(connection: AsyncConnection, statement: Select[Any], *group: ColumnElement[Any]) -> list[tuple[Any, ...]]:
    return list(map(tuple, (await connection.execute(statement.group_by(*group).order_by(*group))).all()))
