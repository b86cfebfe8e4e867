"""Usage by the minute: finer than the rollups, so it is summed from the entries themselves."""

from typing import Final

from sqlalchemy import func, select

from tallygate.ledger.history import Dimension, QueryTooLargeError, Usage, UsageQuery, UsageRow
from tallygate.ledger.readable import Readable
from tallygate.ledger.schema import AMOUNTS, ENTRIES, ENTRY_MODEL
from tallygate.ledger.usage_queries import ROWS_MAX, wanted_values

MINUTE_MS: Final = 60_000
MINUTES_MAX: Final = 1_440  # of one query: every entry of that time is read


class MinuteQueries:
    """Reads one ledger. Raises LedgerUnavailableError if the database does not answer."""

    def __init__(self, database: Readable) -> None:
        self._database = database

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Usage like UsageQueries.usage, by minutes of [from_ms, to_ms), which are whole minutes. Refusals have no entries.

        Filters and groups: organization, credential, model, endpoint, capability. Raises QueryTooLargeError, ValueError.
        """
        if query.to_ms - query.from_ms > MINUTES_MAX * MINUTE_MS:
            raise ValueError(f"at most {MINUTES_MAX} minutes")
        columns = ENTRIES.c
        of_dimension = {
            Dimension.ORG: columns.org,
            Dimension.CREDENTIAL: columns.credential,
            Dimension.MODEL: ENTRY_MODEL,
            Dimension.ENDPOINT: columns.endpoint,
            Dimension.CAPABILITY: columns.capability,
        }
        minute = columns.settled_at_ms // MINUTE_MS
        group = [of_dimension[name] for name in query.group_by]
        rows: list[UsageRow] = []
        async with self._database.read() as connection:
            for scope in query.scopes:
                conditions = [
                    columns.org == scope.org,
                    columns.settled_at_ms >= max(query.from_ms, scope.visible_from_ms),
                    columns.settled_at_ms < query.to_ms,
                    *(of_dimension[name].in_(wanted_values(name, wanted)) for name, wanted in query.filters.items()),
                ]
                statement = select(minute, *group, *(func.sum(columns[name]) for name in AMOUNTS)).where(*conditions)
                for at, *rest in await connection.execute(statement.group_by(minute, *group).limit(ROWS_MAX + 1)):
                    labels, sums = rest[: len(group)], rest[len(group) :]
                    if any(sums):
                        rows.append(
                            UsageRow(
                                start_ms=at * MINUTE_MS,
                                end_ms=(at + 1) * MINUTE_MS,
                                group=tuple(map(str, labels)),
                                usage=Usage(**dict(zip(AMOUNTS, map(int, sums), strict=True))),
                            )
                        )
                if len(rows) > ROWS_MAX:
                    raise QueryTooLargeError(f"more than {ROWS_MAX} rows: ask for a shorter range, or fewer groups")
        return rows
