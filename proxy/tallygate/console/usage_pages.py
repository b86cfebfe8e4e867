"""Usage, read bucket by bucket in slices small enough not to burden the database or the event loop."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec.structs import astuple

from tallygate.ledger.history import Dimension, OrgScope, QueryTooLargeError, Usage, UsageHistory, UsageQuery, UsageRow
from tallygate.ledger.time_buckets import Bucket, bucket_edges

ORGS_AT_ONCE: Final = 250  # in one statement; with ten years of days in a zone with summer time it has 25,000 parameters
BUCKET_ROWS_MAX: Final = 5_000
ORG_BUCKETS_MAX: Final = 12_500  # buckets of an hour or less, times organizations, that one page reads by labels: then it ends
WHOLE_ROWS_MAX: Final = 10_000  # that are kept to be summed and folded, instead of asking for sums and rows one after the other
FIRST_SLICE: Final = 8  # buckets
SLICE_GROWTH: Final = 4  # while slices come back with few rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketUsage:
    """[start_ms, end_ms), cut to the range, and its rows in the order of their groups, unless they were folded."""

    start_ms: int
    end_ms: int
    rows: tuple[UsageRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePage:
    """Buckets in order, including those without usage. next_ms: the start of the next page, None after the last."""

    buckets: tuple[BucketUsage, ...]
    next_ms: int | None

    def groups(self) -> list[UsageRow]:
        """The sums of each group over all buckets."""
        rows: defaultdict[tuple[str, ...], list[UsageRow]] = defaultdict(list)
        for bucket in self.buckets:
            for row in bucket.rows:
                rows[row.group].append(row)
        start_ms, end_ms = self.buckets[0].start_ms, self.buckets[-1].end_ms
        sums = {group: total_of(of_group) for group, of_group in sorted(rows.items())}
        return [
            UsageRow(start_ms=start_ms, end_ms=end_ms, group=group, usage=usage)
            for group, usage in sums.items()
            if any(astuple(usage))
        ]

    def folded(self, fold: Callable[[Sequence[UsageRow]], Sequence[UsageRow]], rows_max: int) -> "UsagePage":
        """The same with folded rows, as many whole buckets as fit into rows_max of them, and at least one."""
        found: list[BucketUsage] = []
        rows_found = 0
        for bucket in self.buckets:
            rows = tuple(fold(bucket.rows))
            rows_found += len(rows)
            if found and rows_found > rows_max:
                return UsagePage(buckets=tuple(found), next_ms=bucket.start_ms)
            found.append(replace(bucket, rows=rows))
        return UsagePage(buckets=tuple(found), next_ms=self.next_ms)


class UsagePages:
    """Pages of a history."""

    def __init__(self, history: UsageHistory) -> None:
        self._history = history

    async def total(self, query: UsageQuery) -> Usage:
        """The sum over the range. Raises LedgerUnavailableError."""
        rows = await self.groups(replace(query, group_by=()))
        return rows[0].usage if rows else Usage()

    async def groups(self, query: UsageQuery) -> list[UsageRow]:
        """The sums of each group over the range. Raises QueryTooLargeError, LedgerUnavailableError."""
        return await self._usage(replace(query, bucket=None))

    async def whole(self, query: UsageQuery, edges: Sequence[int]) -> UsagePage | None:
        """All buckets, None if they have too many rows to be kept at once. Raises LedgerUnavailableError."""
        if _last_read(query, edges) < len(edges) - 1:
            return None
        try:
            page = await self.page(query, edges, buckets_max=len(edges), rows_max=WHOLE_ROWS_MAX)
        except QueryTooLargeError:
            return None
        return page if page.next_ms is None else None

    async def page(
        self,
        query: UsageQuery,
        edges: Sequence[int],
        *,
        buckets_max: int,
        rows_max: int,
        fold: Callable[[Sequence[UsageRow]], Sequence[UsageRow]] | None = None,
    ) -> UsagePage:
        """Read as many whole buckets, from the first edge on, as fit into rows_max rows and are read quickly; at least one.

        fold   what is made of the rows of whole buckets before they are counted

        Raises QueryTooLargeError if one bucket alone has more than BUCKET_ROWS_MAX, and LedgerUnavailableError.
        """
        found: list[BucketUsage] = []
        rows_found, at, step = 0, 0, FIRST_SLICE
        last = min(_last_read(query, edges), buckets_max)
        while at < last:
            stop = min(at + step, last)
            rows: Sequence[UsageRow] = await self._usage(replace(query, from_ms=edges[at], to_ms=edges[stop]))
            if fold is not None:
                rows = fold(rows)
            by_start: defaultdict[int, list[UsageRow]] = defaultdict(list)
            for row in rows:
                by_start[row.start_ms].append(row)
            for index in range(at, stop):
                of_bucket = by_start[edges[index]]
                if len(of_bucket) > BUCKET_ROWS_MAX:
                    raise QueryTooLargeError(f"one bucket has more than {BUCKET_ROWS_MAX} rows: ask for fewer groups")
                if found and rows_found + len(of_bucket) > rows_max:
                    return UsagePage(buckets=tuple(found), next_ms=edges[index])
                rows_found += len(of_bucket)
                found.append(BucketUsage(start_ms=edges[index], end_ms=edges[index + 1], rows=tuple(of_bucket)))
            per_bucket = max(1, -(-len(rows) // (stop - at)))
            at, step = stop, max(1, min(step * SLICE_GROWTH, (rows_max - rows_found) // per_bucket + 1))
        return UsagePage(buckets=tuple(found), next_ms=edges[last] if last < len(edges) - 1 else None)

    async def _usage(self, query: UsageQuery) -> list[UsageRow]:
        """The ledger's answer, for any number of organizations."""
        if len(query.scopes) <= ORGS_AT_ONCE:
            return await self._history.usage(query)
        sums: dict[tuple[int, tuple[str, ...]], UsageRow] = {}
        for part in _parts(query.scopes):
            for row in await self._history.usage(replace(query, scopes=part)):
                key = row.start_ms, row.group
                before = sums.get(key)
                sums[key] = row if before is None else replace(row, usage=added(before.usage, row.usage))
        return [row for _, row in sorted(sums.items())]


def _last_read(query: UsageQuery, edges: Sequence[int]) -> int:
    """The edge up to which one page reads: short buckets have a row for every label of every organization, days and sums few."""
    last = len(edges) - 1
    is_by_label = bool({*query.group_by, *query.filters} - {Dimension.ORG})
    if is_by_label and query.bucket in {Bucket.QUARTER_HOUR, Bucket.HOUR}:
        return min(last, max(FIRST_SLICE, ORG_BUCKETS_MAX // max(1, len(query.scopes))))
    return last


def edges_of(query: UsageQuery) -> list[int]:
    """The edges of the buckets in a range of whole quarters; the first and the last bucket are cut to it."""
    if query.bucket is None:
        return [query.from_ms, query.to_ms]
    edges = bucket_edges(query.from_ms, query.to_ms, query.bucket, query.time_zone, query.billing_day)
    return cut_edges(edges, query.from_ms, query.to_ms)


def cut_edges(edges: Sequence[int], from_ms: int, to_ms: int) -> list[int]:
    """Cut the edges to a range, each once: in a zone that skipped a whole day (Samoa, 2011-12-30), a day begins where it ends."""
    return sorted({from_ms, to_ms, *(edge for edge in edges if from_ms < edge < to_ms)})


def buckets_at_most(from_ms: int, to_ms: int, bucket: Bucket | None) -> int:
    """The most buckets that a range can have, without consulting the calendar."""
    lengths = {Bucket.QUARTER_HOUR: 900_000, Bucket.HOUR: 3_600_000, Bucket.DAY: 82_800_000, Bucket.WEEK: 601_200_000}
    return (to_ms - from_ms) // lengths.get(bucket, 2_415_600_000) + 2 if bucket is not None else 1


def added(one: Usage, other: Usage) -> Usage:
    return Usage(*map(int.__add__, astuple(one), astuple(other)))


def total_of(rows: Iterable[UsageRow]) -> Usage:
    amounts = [astuple(row.usage) for row in rows]
    return Usage(*map(sum, zip(*amounts, strict=True)))


def _parts(scopes: Sequence[OrgScope]) -> list[tuple[OrgScope, ...]]:
    """Group organizations by history, since each history has its own part of a statement."""
    ordered = sorted(scopes, key=lambda scope: (scope.visible_from_ms, scope.org))
    return [tuple(ordered[start : start + ORGS_AT_ONCE]) for start in range(0, len(ordered), ORGS_AT_ONCE)]
