"""The levels of the table `rollups`: sums of the entries by some or all labels, in buckets of several lengths.

A query reads the coarsest rows that can answer it: whole organizations, and kinds (series without their credential), have far fewer
rows than series. The transaction of an entry moves one row, of RECENT. Now and then its rows are added to those of every level and
removed (`fold_recent`), so each sum is in RECENT or in all of the others, and a query adds both.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, select, tuple_

from tallygate.ledger.database import Database
from tallygate.ledger.schema import ROLLUP_AMOUNTS, ROLLUPS, SERIES
from tallygate.ledger.series import KEPT, Detail, Numbering, Series, SeriesNumbers
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
RECENT: Final = Level(Detail.RECENT, FINEST.length_ms)
FOLDED_AT_ONCE: Final = 1_000  # rows of RECENT in one transaction


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
    """Add ROLLUP_AMOUNTS by (start of a quarter of an hour, series), within the connection's transaction."""
    numbers, detail = numbering.numbers, Detail.SERIES
    numbered = [(series.org, at_ms, numbers[series][detail], amounts) for (at_ms, series), amounts in sums.items()]
    _add(connection, database, RECENT, numbered)


def fold_recent(connection: Connection, database: Database, numbers: SeriesNumbers) -> tuple[int, Numbering]:
    """Add up to FOLDED_AT_ONCE rows of RECENT to every level; return how many, and what is to be kept after the commit."""
    key = ROLLUPS.primary_key.columns
    oldest = select(*key).where(RECENT.rows()).order_by(*key).limit(FOLDED_AT_ONCE).with_for_update()  # in a writer's order
    rows = connection.execute(delete(ROLLUPS).where(tuple_(*key).in_(oldest)).returning(*_FOLDED)).all()
    series = _series_of(connection, {number for number, *_ in rows})
    numbering = numbers.numbers(connection, series.values())
    recent = [(series[number].org, at_ms, numbering.numbers[series[number]], amounts) for number, at_ms, *amounts in rows]
    for length_ms, _, detail in _IN_ORDER:
        numbered = [(org, at_ms - at_ms % length_ms, in_detail[detail], amounts) for org, at_ms, in_detail, amounts in recent]
        _add(connection, database, Level(detail, length_ms), numbered)
    return len(rows), numbering


_FOLDED: Final = (ROLLUPS.c.series, ROLLUPS.c.bucket_ms, *(ROLLUPS.c[name] for name in ROLLUP_AMOUNTS))


def _series_of(connection: Connection, numbers: Collection[int]) -> dict[int, Series]:
    labels = (SERIES.c[name] for name in Series._fields)
    rows = connection.execute(select(SERIES.c.id, *labels).where(SERIES.c.id.in_(numbers)))
    return {number: Series(*values) for number, *values in rows}


def _add(connection: Connection, database: Database, level: Level, numbered: Iterable[tuple[str, int, int, Sequence[int]]]) -> None:
    """Add amounts to rows of a level, given by (organization, start of its bucket, number), more than once for some."""
    sums: dict[tuple[str, int, int], Sequence[int]] = {}
    for org, at_ms, number, amounts in numbered:
        key = org, at_ms, number
        before = sums.get(key)
        sums[key] = amounts if before is None else list(map(int.__add__, before, amounts))
    length_ms, detail = level.length_ms, level.detail.value  # read once: the value of an enum takes a call to look up
    rows = [(length_ms, detail, *key, *sums[key]) for key in sorted(sums)]
    database.add_to_rows(connection, ROLLUPS, ROLLUP_AMOUNTS, rows)
