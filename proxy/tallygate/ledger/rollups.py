"""The levels of the table `rollups`: sums of the entries by some or all labels, in buckets of several lengths.

A query reads the coarsest rows that can answer it: whole organizations, and kinds (series without their credential), have far fewer
rows than series.
"""

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_

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
_IN_ORDER: Final = tuple(sorted((level.length_ms, level.detail.value, level.detail) for level in LEVELS))  # of their rows
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


def add_to_rollups(
    connection: Connection, database: Database, sums: Mapping[tuple[int, Series], Sequence[int]], numbering: Numbering
) -> None:
    """Add ROLLUP_AMOUNTS by (instant, series) to their rows of every level, within the connection's transaction."""
    rows: list[tuple[Any, ...]] = []
    ordered = [(series.org, at_ms, numbering.numbers[series], amounts) for (at_ms, series), amounts in sums.items()]
    ordered.sort(key=itemgetter(0, 1))  # nearly the order of each level's rows
    for length_ms, name, detail in _IN_ORDER:
        of_level: dict[tuple[str, int, int], Sequence[int]] = {}
        for org, at_ms, numbers, amounts in ordered:
            key = (org, at_ms - at_ms % length_ms, numbers[detail])
            before = of_level.get(key)
            of_level[key] = amounts if before is None else list(map(int.__add__, before, amounts))
        rows += [(length_ms, name, *key, *of_level[key]) for key in sorted(of_level)]
    database.add_to_rows(connection, ROLLUPS, ROLLUP_AMOUNTS, rows)
