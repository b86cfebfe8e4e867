"""Which labels the ledger has seen: a credential that was removed since is still worth asking about."""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import select

from tallygate.ledger.database import Database
from tallygate.ledger.schema import SERIES
from tallygate.ledger.usage_queries import Dimension

_ORGS_AT_ONCE: Final = 500  # in one IN (...)


class SeriesLabels:
    """Reads one ledger. Raises LedgerUnavailableError if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def seen(self, orgs: Sequence[str], dimension: Dimension, labels: Collection[str]) -> frozenset[str]:
        """Those of `labels` under which these organizations have usage or refusals, however old."""
        column = SERIES.c[dimension.value]
        found: set[str] = set()
        async with self._database.read() as connection:
            for start in range(0, len(orgs), _ORGS_AT_ONCE):
                part = orgs[start : start + _ORGS_AT_ONCE]
                statement = select(column).where(SERIES.c.org.in_(part), column.in_(sorted(labels))).distinct()
                found.update((await connection.execute(statement)).scalars())
        return frozenset(found)
