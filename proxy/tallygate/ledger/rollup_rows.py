"""The rollup rows that answer a query about a range and its buckets: as few as possible, in runs that one SELECT reads.

Days, weeks and months of a zone seldom begin at midnight UTC, but except for their edges they consist of whole UTC days.
So each edge is moved to the nearest UTC midnight, and the time between the two is read once, from finer rows, as a
correction: New York's 4th of March is the UTC day, minus its first five hours, plus the first five hours of the next.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket, bucket_of, cover, stretches

WEEK_MS: Final = 7 * DAY_MS
MONTHS_APART_MAX: Final = 24  # months that are added up by SQL, each by itself; more are by day
Shares = Sequence[tuple[int, int]]  # (index of a bucket, 1 or -1): where rows are added, or taken away again


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupRows:
    """Rollup rows of one length.

    starts     of the rows: a run, or single ones
    divided    (shift_ms, step_ms): rows are added up by (start + shift) // step; None: all of them
    shares_of  the buckets that rows count for, by the start of any of those that are added up together
    """

    length_ms: int
    starts: range | tuple[int, ...]
    divided: tuple[int, int] | None
    shares_of: Callable[[int], Shares]


def rollup_rows(edges: Sequence[int], bucket: Bucket | None, time_zone: str, lengths_ms: Sequence[int]) -> Iterator[RollupRows]:
    """The rows that add up to each bucket between two edges.

    edges        ascending, in whole quarters of an hour, the first and the last where the range begins and ends
    lengths_ms   of the rows that there are, descending, each a multiple of the next, from a day to a quarter of an hour
    """
    if bucket in {Bucket.QUARTER_HOUR, Bucket.HOUR}:
        yield from _within_days(edges, bucket, time_zone, lengths_ms)
        return
    moved = [(edge + DAY_MS // 2) // DAY_MS * DAY_MS for edge in edges]
    yield from _whole_days(moved, bucket)
    for layer in _layers(edges, moved):
        yield from _between(layer, lengths_ms)


def recent_rows(edges: Sequence[int]) -> RollupRows:
    """Those that no other level has yet, which are by the quarter of an hour: each is in one bucket between two edges."""

    def shares_of(at_ms: int) -> Shares:
        return ((bucket_of(edges, at_ms), 1),)

    return RollupRows(
        length_ms=QUARTER_MS, starts=range(edges[0], edges[-1], QUARTER_MS), divided=(0, QUARTER_MS), shares_of=shares_of
    )


def _within_days(edges: Sequence[int], bucket: Bucket | None, time_zone: str, lengths_ms: Sequence[int]) -> Iterator[RollupRows]:
    step = QUARTER_MS if bucket is Bucket.QUARTER_HOUR else HOUR_MS

    def shares_of(at_ms: int) -> Shares:
        return ((bucket_of(edges, at_ms), 1),)

    for stretch in stretches(edges[0], edges[-1], time_zone):
        fitting = [length for length in lengths_ms if length <= step and stretch.offset_ms % length == 0]
        for length, low, high in cover(stretch.start_ms, stretch.end_ms, fitting):
            yield RollupRows(
                length_ms=length, starts=range(low, high, length), divided=(stretch.offset_ms, step), shares_of=shares_of
            )


def _whole_days(moved: Sequence[int], bucket: Bucket | None) -> Iterator[RollupRows]:
    def shares_of(at_ms: int) -> Shares:
        return ((bucket_of(moved, at_ms), 1),)

    def days(low: int, high: int, divided: tuple[int, int] | None) -> RollupRows:
        return RollupRows(length_ms=DAY_MS, starts=range(low, high, DAY_MS), divided=divided, shares_of=shares_of)

    if moved[0] == moved[-1]:
        return
    inner = moved[1:-1]
    if bucket is None:
        yield days(moved[0], moved[-1], None)
    elif bucket is Bucket.WEEK and all(later - earlier == WEEK_MS for earlier, later in pairwise(inner)):
        yield days(moved[0], moved[-1], (-moved[1] % WEEK_MS, WEEK_MS))
    elif bucket is Bucket.MONTH and len(moved) <= MONTHS_APART_MAX:
        yield from (days(low, high, None) for low, high in pairwise(moved) if low < high)
    else:
        yield days(moved[0], moved[-1], (0, DAY_MS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _MovedEdge:
    """[low_ms, high_ms) lies between an edge and where it was moved to. shares: of the rows in it."""

    low_ms: int
    high_ms: int
    shares: Shares


def _layers(edges: Sequence[int], moved: Sequence[int]) -> list[dict[int, _MovedEdge]]:
    """Edges by the start of the UTC day that they fall into. There may be two in a day: each is in a layer of its own."""
    layers: list[dict[int, _MovedEdge]] = []
    for index, (edge, midnight) in enumerate(zip(edges, moved, strict=True)):
        if edge == midnight:
            continue
        # What comes before the edge belongs to the bucket before it, but was counted with the one after it; or the reverse.
        sign = 1 if midnight < edge else -1
        shares = [(index - 1, sign), (index, -sign)]
        found = _MovedEdge(
            low_ms=min(edge, midnight),
            high_ms=max(edge, midnight),
            shares=[(bucket, share) for bucket, share in shares if 0 <= bucket < len(edges) - 1],
        )
        day = edge // DAY_MS * DAY_MS
        layer = next((layer for layer in layers if day not in layer), None)
        if layer is None:
            layers.append(layer := {})
        layer[day] = found
    return layers


def _between(layer: dict[int, _MovedEdge], lengths_ms: Sequence[int]) -> Iterator[RollupRows]:
    starts: dict[int, list[int]] = {}
    for edge in layer.values():
        for length, low, high in cover(edge.low_ms, edge.high_ms, lengths_ms):
            starts.setdefault(length, []).extend(range(low, high, length))

    def shares_of(at_ms: int) -> Shares:
        return layer[at_ms // DAY_MS * DAY_MS].shares

    for length, found in sorted(starts.items()):
        yield RollupRows(length_ms=length, starts=tuple(sorted(found)), divided=(0, DAY_MS), shares_of=shares_of)
