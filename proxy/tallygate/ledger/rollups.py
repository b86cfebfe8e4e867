"""The levels of the table `rollups`: sums of the entries by some or all labels, in buckets of several lengths.

A query reads the coarsest rows that can answer it: whole organizations and kinds (series without their credential) have far fewer
rows than series.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.schema import ROLLUP_AMOUNTS, ROLLUPS
from tallygate.ledger.series import Numbering, Series
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS


class Detail(StrEnum):
    """Labels that the rows of a level keep."""

    SERIES = "series"  # all
    KIND = "kind"  # all but the credential: series_id is that of the series whose credential is empty
    ORG = "org"  # none but the organization: series_id is 0


# Half hours are for zones that are half an hour off. The few that are a quarter off read the quarters of series instead of kinds.
# Four hours are for the edges of days, which in some zones begin up to 12 hours from those of UTC.
LENGTHS_MS: Final[Mapping[Detail, tuple[int, ...]]] = {
    Detail.SERIES: (QUARTER_MS, HOUR_MS, DAY_MS),
    Detail.KIND: (HOUR_MS // 2, HOUR_MS, 4 * HOUR_MS, DAY_MS),
    Detail.ORG: (QUARTER_MS, HOUR_MS // 2, HOUR_MS, DAY_MS),
}


class Level(NamedTuple):
    """Rows of one detail and one length. Each level has every request once."""

    detail: Detail
    length_ms: int

    @property
    def name(self) -> str:
        return f"rollups.{self.detail}.{self.length_ms // 60_000}m"

    def rows(self) -> ColumnElement[bool]:
        return and_(ROLLUPS.c.detail == self.detail.value, ROLLUPS.c.length_ms == self.length_ms)


LEVELS: Final = tuple(Level(detail, length_ms) for detail, lengths_ms in LENGTHS_MS.items() for length_ms in lengths_ms)
FINEST, *_, COARSEST = LEVELS
DAYS_OF_SERIES: Final = Level(Detail.SERIES, DAY_MS)


def coarsest(labels: Collection[str]) -> Mapping[int, Level]:
    """The coarsest levels that keep these columns of `series`, by length, descending: each length a multiple of the next."""
    kept = Detail.SERIES if "credential" in labels else Detail.KIND if {*labels} - {"org"} else Detail.ORG
    found = {length_ms: Level(detail, length_ms) for detail in (Detail.SERIES, kept) for length_ms in LENGTHS_MS[detail]}
    return dict(sorted(found.items(), reverse=True))


async def add_to_rollups(
    database: Database, connection: AsyncConnection, sums: Mapping[tuple[int, Series], list[int]], numbering: Numbering
) -> None:
    """Add ROLLUP_AMOUNTS by (instant, series) to their rows of every level, within the connection's transaction."""
    rows: dict[tuple[int, str, str, int, int], list[int]] = {}
    for (at_ms, series), amounts in sums.items():
        numbers = {Detail.SERIES: numbering.of(series), Detail.KIND: numbering.of_kind(series), Detail.ORG: 0}
        for detail, length_ms in LEVELS:
            key = (length_ms, detail.value, series.org, at_ms - at_ms % length_ms, numbers[detail])
            row = rows.setdefault(key, [0] * len(ROLLUP_AMOUNTS))
            row[:] = map(int.__add__, row, amounts)
    names = [column.name for column in ROLLUPS.columns]
    values = [dict(zip(names, (*key, *amounts), strict=True)) for key, amounts in sorted(rows.items())]
    await database.add_to_rows(connection, ROLLUPS, ROLLUP_AMOUNTS, values)
