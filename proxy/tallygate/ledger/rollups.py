"""The levels of the table `rollups`: sums of the entries by some or all labels, in buckets of several lengths.

A query reads the coarsest rows that can answer it: whole organizations, and kinds (series without their credential), have far fewer
rows than series.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.database import Database
from tallygate.ledger.schema import ROLLUP_AMOUNTS, ROLLUPS
from tallygate.ledger.series import KEPT, Detail, Numbering, Series
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS

# Half hours are for zones that are half an hour off. The few that are a quarter off read the quarters of series instead of kinds.
# Four hours are for the edges of days, which in some zones begin up to 12 hours from those of UTC.
LENGTHS_MS: Final[Mapping[Detail, tuple[int, ...]]] = {
    Detail.SERIES: (QUARTER_MS, HOUR_MS, DAY_MS),
    Detail.KIND: (HOUR_MS // 2, HOUR_MS, 4 * HOUR_MS, DAY_MS),
    Detail.CREDENTIAL: (HOUR_MS, DAY_MS),
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
_NAMED: Final = tuple((level, level.detail.value) for level in LEVELS)
DAYS_OF_SERIES: Final = Level(Detail.SERIES, DAY_MS)


def coarsest(labels: Collection[str]) -> Mapping[int, Level]:
    """The levels to read for what keeps these columns of `series`, by length, descending: each length a multiple of the next.

    Of the detail with the fewest rows; of one with more only what is shorter than any of its rows.
    """
    found: dict[int, Level] = {}
    for detail, kept in KEPT.items():
        if kept >= {*labels} - {"org"}:
            shortest = min(found, default=2 * DAY_MS)
            found |= {length_ms: Level(detail, length_ms) for length_ms in LENGTHS_MS[detail] if length_ms < shortest}
    return dict(sorted(found.items(), reverse=True))


async def add_to_rollups(
    database: Database, connection: AsyncConnection, sums: Mapping[tuple[int, Series], list[int]], numbering: Numbering
) -> None:
    """Add ROLLUP_AMOUNTS by (instant, series) to their rows of every level, within the connection's transaction."""
    rows: dict[tuple[int, str, str, int, int], Sequence[int]] = {}
    for (at_ms, series), amounts in sums.items():
        numbers = numbering.numbers[series]
        for (detail, length_ms), name in _NAMED:
            key = (length_ms, name, series.org, at_ms - at_ms % length_ms, numbers[detail])
            before = rows.get(key)
            rows[key] = amounts if before is None else list(map(int.__add__, before, amounts))
    await database.add_to_rows(connection, ROLLUPS, ROLLUP_AMOUNTS, [(*key, *rows[key]) for key in sorted(rows)])
