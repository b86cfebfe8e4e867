"""Lifetime totals as the counters of /metrics need them: row by row of an organization, and summed over all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, bindparam, cast, func, select

from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.schema import LIFETIME_AMOUNTS, LIFETIME_ODDITIES, LIFETIME_SPEND, LIFETIME_TOTALS

ORGS_AT_ONCE: Final = 250  # of one query: adding their rows to a scrape keeps the event loop for a few milliseconds
SUMS: Final = tuple(name for name in LIFETIME_AMOUNTS if name != "requests" and name not in LIFETIME_ODDITIES)


class OrganizationTotals(NamedTuple):
    """The totals of one organization, in the order of their labels.

    exchanges   (organization, credential, capability, model, outcome, requests, amounts in the order of SUMS), more than once for
                some labels; refused requests included
    spend       (organization, credential, capability, kind of `SPENT_ON`, nano-USD, credited nano-USD)
    """

    exchanges: Sequence[tuple[Any, ...]]
    spend: Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverallTotals:
    """The totals of everything in the ledger. sources: requests by usage source; oddities: in the order of LIFETIME_ODDITIES."""

    sources: Sequence[tuple[Any, ...]]
    oddities: tuple[int, ...]


class LifetimeQueries:
    """Reads one ledger, within `Database.ask`: in one snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of_sources, self._of_oddities = map(database.question, (_OF_SOURCES, _OF_ODDITIES))
        self._of_organizations = tuple(map(database.question, _of_organizations(database)))

    def overall(self, connection: Connection) -> OverallTotals:
        [oddities] = self._of_oddities(connection, {})
        return OverallTotals(sources=self._of_sources(connection, {}), oddities=oddities)

    def of_organizations(
        self, connection: Connection, orgs: Sequence[str], *, rows_max: int
    ) -> tuple[list[Mapping[str, OrganizationTotals]], int]:
        """The totals of ORGS_AT_ONCE organizations at a time, by name, of those that have any, until they have rows_max rows.

        And of how many organizations, by name, these are all.
        """
        by_name = sorted(orgs)
        parts: list[Mapping[str, OrganizationTotals]] = []
        rows = 0
        for start in range(0, len(by_name), ORGS_AT_ONCE):
            part, more = self._read(connection, by_name[start : start + ORGS_AT_ONCE])
            rows += more
            if rows > rows_max:
                return parts, start
            parts.append(part)
        return parts, len(by_name)

    def _read(self, connection: Connection, orgs: Sequence[str]) -> tuple[Mapping[str, OrganizationTotals], int]:
        """By organization, and the number of rows."""
        among = {"first": orgs[0], "last": orgs[-1], "orgs": self._database.as_list(orgs)}
        rows = [question(connection, among) for question in self._of_organizations]
        exchanges, spend = ({org: list(own) for org, own in groupby(kind, itemgetter(0))} for kind in rows)
        found = {org: OrganizationTotals(exchanges.get(org, ()), spend.get(org, ())) for org in exchanges | spend}
        return found, sum(map(len, rows))


_C: Final = LIFETIME_TOTALS.c
_SPEND: Final = LIFETIME_SPEND.c


def _sum(name: str) -> ColumnElement[int]:
    # PostgreSQL sums bigints to numerics, each of which would become a Decimal.
    return cast(func.coalesce(func.sum(_C[name]), 0), BigInteger)


# Statements are made once: making them takes as long as running them.
_OF_SOURCES: Final = select(_C.usage_source, _sum("requests")).where(_C.outcome != Outcome.REFUSED.value).group_by(_C.usage_source)
_OF_ODDITIES: Final = select(*map(_sum, LIFETIME_ODDITIES))


def _of_organizations(database: Database) -> tuple[Select[Any], ...]:
    """The statements of the two kinds of rows in OrganizationTotals, of the organizations `orgs` from `first` to `last`."""

    def are_asked(column: ColumnElement[str]) -> ColumnElement[bool]:
        # With a range PostgreSQL uses the index, whatever its statistics.
        return and_(column >= bindparam("first"), column <= bindparam("last"), database.among(column, "orgs"))

    labels = (_C.org, _C.credential, _C.capability, _C.model, _C.outcome)
    exchanges = select(*labels, _C.requests, *(_C[name] for name in SUMS)).where(are_asked(_C.org))
    spent_on = (_SPEND.org, _SPEND.credential, _SPEND.capability, _SPEND.kind)
    spent = select(*spent_on, _SPEND.nano_usd, _SPEND.credited_nano_usd).where(are_asked(_SPEND.org))
    return exchanges.order_by(*LIFETIME_TOTALS.primary_key.columns), spent.order_by(*spent_on)
