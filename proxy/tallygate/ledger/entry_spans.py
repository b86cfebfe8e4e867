"""The spans of time that can have entries matching a filter, found by the rollups, so that no month is read in vain.

From days over hours to quarters of an hour, the first buckets that together have enough.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.rollups import RECENT, Level
from tallygate.ledger.schema import ROLLUPS, SERIES
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS

FIRST_DAYS: Final = 8  # searched before the rest
GROWTH: Final = 4
SPANS_AT_ONCE: Final = 100  # in one statement; SQLite takes 500


class Span(NamedTuple):
    """[low_ms, high_ms) of an organization."""

    org: str
    low_ms: int
    high_ms: int


class EntrySpans:
    """The first spans of a query, in the order of time, with `enough` matching entries; if there are fewer, all with any.

    levels      of rollups by the length of their rows, which keep every label in `conditions`
    within      each organization's range
    after_ms    the time of the last entry before, if this is no first page: of its bucket it is not known how much is left
    """

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        levels: Mapping[int, Level],
        conditions: Sequence[ColumnElement[bool]],
        within: Iterable[Span],
        enough: int,
        newest_first: bool,
        after_ms: int | None = None,
    ) -> None:
        self._connection = connection
        self._levels = levels
        self._conditions = conditions
        self._within = {span.org: span for span in within if span.low_ms < span.high_ms}
        self._enough = enough
        self._newest_first = newest_first
        self._after_ms = after_ms

    async def find(self) -> list[Span]:
        """Find the spans. Raises like the connection."""
        if not self._within:
            return []
        found: list[tuple[Span, int]] = []
        for low, high in self._windows():
            found = self._first([*found, *await self._read(DAY_MS, [(list(self._within), low, high)])])
            if self._is_enough(found):
                break
        for length in (HOUR_MS, QUARTER_MS):
            runs = _runs(span for span, _ in found)
            found = self._first(await self._read(length, [([run.org], run.low_ms, run.high_ms) for run in runs]))
        whole = (self._within[span.org] for span, _ in found)
        return [
            Span(span.org, max(span.low_ms, limit.low_ms), min(span.high_ms, limit.high_ms))
            for (span, _), limit in zip(found, whole, strict=True)
        ]

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Spans of whole days, in the order of the search, each longer than the one before."""
        low = min(span.low_ms for span in self._within.values()) // DAY_MS
        high = -(-max(span.high_ms for span in self._within.values()) // DAY_MS)
        days = FIRST_DAYS
        while low < high:
            if self._newest_first:
                yield max(low, high - days) * DAY_MS, high * DAY_MS
                high -= days
            else:
                yield low * DAY_MS, min(high, low + days) * DAY_MS
                low += days
            days *= GROWTH

    def _rows(self, level: Level, length_ms: int, orgs: Sequence[str], low_ms: int, high_ms: int) -> Select[Any]:
        """(organization, start of a bucket of this length, requests ...) of a level."""
        columns = ROLLUPS.c
        start = columns.bucket_ms - columns.bucket_ms % length_ms
        # Refusals have series of their own, but no entries.
        conditions = [columns.org.in_(orgs), columns.bucket_ms >= low_ms, columns.bucket_ms < high_ms, columns.refused == 0]
        return (
            select(columns.org, start, func.sum(columns.requests))
            .join(SERIES, SERIES.c.id == columns.series)
            .where(level.rows(), *conditions, *self._conditions)
            .group_by(columns.org, start)
        )

    async def _read(self, length_ms: int, wanted: Sequence[tuple[Sequence[str], int, int]]) -> list[tuple[Span, int]]:
        """Buckets with matching entries and their least number: entries that were not cancelled.

        wanted   (organizations, low_ms, high_ms): all that has matching entries between the first and the last of them
        """
        parts = [self._rows(self._levels[length_ms], length_ms, *each) for each in wanted]
        if wanted:
            low_ms, high_ms = min(low for _, low, _ in wanted), max(high for _, _, high in wanted)
            parts.append(self._rows(RECENT, length_ms, sorted({org for orgs, _, _ in wanted for org in orgs}), low_ms, high_ms))
        counts: defaultdict[Span, int] = defaultdict(int)
        for at in range(0, len(parts), SPANS_AT_ONCE):
            for org, start, requests in await self._connection.execute(union_all(*parts[at : at + SPANS_AT_ONCE])):
                counts[Span(org, start, start + length_ms)] += int(requests)
        found: list[tuple[Span, int]] = []
        for span, requests in counts.items():
            whole = self._within[span.org]
            if span.low_ms < whole.high_ms and whole.low_ms < span.high_ms:
                is_begun = self._after_ms is not None and span.low_ms <= self._after_ms < span.high_ms
                is_whole = whole.low_ms <= span.low_ms and span.high_ms <= whole.high_ms and not is_begun
                found.append((span, requests if is_whole else 0))
        return found

    def _first(self, found: Iterable[tuple[Span, int]]) -> list[tuple[Span, int]]:
        """The first buckets with enough entries, in the order of time. Buckets of one time stay together."""
        taken: list[tuple[Span, int]] = []
        entries = 0
        for span, count in sorted(found, key=lambda item: (item[0].low_ms, item[0].org), reverse=self._newest_first):
            if entries >= self._enough and taken[-1][0].low_ms != span.low_ms:
                break
            taken.append((span, count))
            entries += count
        return taken

    def _is_enough(self, found: Iterable[tuple[Span, int]]) -> bool:
        return sum(count for _, count in found) >= self._enough


def _runs(spans: Iterable[Span]) -> list[Span]:
    """Join adjacent spans of an organization."""
    runs: list[Span] = []
    for span in sorted(spans):
        if runs and runs[-1].org == span.org and runs[-1].high_ms == span.low_ms:
            runs[-1] = Span(span.org, runs[-1].low_ms, span.high_ms)
        else:
            runs.append(span)
    return runs
