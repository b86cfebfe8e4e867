"""Calendar buckets of a time zone as instants, and the cheapest rollup rows that cover a range."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from tallygate.domain.calendar_months import day_start_ms, start_day

QUARTER_MS: Final = 900_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class Bucket(StrEnum):
    """The division of a range, in the organization's time zone: weeks begin on Monday, months on its billing day."""

    QUARTER_HOUR = "15m"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch [start_ms, end_ms) during which the zone is offset_ms ahead of UTC."""

    start_ms: int
    end_ms: int
    offset_ms: int


def stretches(start_ms: int, end_ms: int, time_zone: str) -> list[Stretch]:
    """The range cut where the zone's offset changes."""
    zone = ZoneInfo(time_zone)
    found: list[Stretch] = []
    at = start_ms
    while at < end_ms:
        offset = _offset_ms(zone, at)
        # Zones change their offset at most every few weeks: a step of a day never jumps over two changes.
        stop = at
        while stop < end_ms and _offset_ms(zone, stop) == offset:
            stop += DAY_MS
        if stop >= end_ms and _offset_ms(zone, end_ms - 1) == offset:
            stop = end_ms
        else:
            stop = _change_between(zone, max(at, min(stop, end_ms) - DAY_MS), min(stop, end_ms), offset)
        found.append(Stretch(at, stop, offset))
        at = stop
    return found


def bucket_edges(start_ms: int, end_ms: int, bucket: Bucket, time_zone: str, billing_day: int = 1) -> list[int]:
    """Starts of every bucket that the range touches, and the end of the last: the first and last may extend beyond the range."""
    zone = ZoneInfo(time_zone)
    if bucket in {Bucket.QUARTER_HOUR, Bucket.HOUR}:
        # An hour that is repeated when the clock goes back is two buckets.
        step = QUARTER_MS if bucket is Bucket.QUARTER_HOUR else HOUR_MS
        edges: list[int] = []
        for stretch in stretches(start_ms, end_ms, time_zone):
            first = (stretch.start_ms + stretch.offset_ms) // step * step - stretch.offset_ms
            edges.append(max(first, stretch.start_ms) if edges else first)  # a change within the hour cuts it in two
            edges += range(first + step, stretch.end_ms, step)
        return [*edges, end_ms] if edges else []
    day = _bucket_start(datetime.fromtimestamp(start_ms / 1000, zone).date(), bucket, billing_day)
    edges = [_midnight_ms(day, time_zone)]
    while edges[-1] < end_ms:
        day = _following(day, bucket, billing_day)
        edges.append(_midnight_ms(day, time_zone))
    return edges


def bucket_of(edges: Sequence[int], at_ms: int) -> int:
    """Index of the bucket that an instant falls into."""
    return bisect_right(edges, at_ms) - 1


def cover(start_ms: int, end_ms: int, lengths_ms: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(length, start, end): the range as runs of whole rollup rows, the longest that fit.

    lengths_ms: descending, each a multiple of the next; the range consists of whole rows of the last.
    """
    if start_ms >= end_ms:
        return
    length, *shorter = lengths_ms
    first, last = -(-start_ms // length) * length, end_ms // length * length
    if first >= last:
        yield from cover(start_ms, end_ms, shorter)
        return
    yield from cover(start_ms, first, shorter)
    yield length, first, last
    yield from cover(last, end_ms, shorter)


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000, zone).utcoffset() or timedelta()
    return round(offset.total_seconds() * 1000)


def _change_between(zone: ZoneInfo, low: int, high: int, offset: int) -> int:
    """The first instant after `low`, to the quarter of an hour, at which the offset is no longer `offset`."""
    quarters_low, quarters_high = low // QUARTER_MS, -(-high // QUARTER_MS)
    while quarters_high - quarters_low > 1:
        middle = (quarters_low + quarters_high) // 2
        if _offset_ms(zone, middle * QUARTER_MS) == offset:
            quarters_low = middle
        else:
            quarters_high = middle
    return quarters_high * QUARTER_MS


def _midnight_ms(day: date, time_zone: str) -> int:
    """The first instant of a local day.

    Rounded down to the quarter of an hour, the grain of the rollups; every zone in use today changes on such an instant.
    """
    instant = day_start_ms(day, time_zone)
    return instant - instant % QUARTER_MS


def _bucket_start(day: date, bucket: Bucket, billing_day: int) -> date:
    if bucket is Bucket.WEEK:
        return day - timedelta(days=day.weekday())
    if bucket is not Bucket.MONTH:
        return day
    start = day.replace(day=start_day(day.year, day.month, billing_day))
    before = day.replace(day=1) - timedelta(days=1)
    return start if start <= day else before.replace(day=start_day(before.year, before.month, billing_day))


def _following(day: date, bucket: Bucket, billing_day: int) -> date:
    if bucket is Bucket.MONTH:
        year, month = day.year + day.month // 12, day.month % 12 + 1
        return date(year, month, start_day(year, month, billing_day))
    return day + timedelta(days=7 if bucket is Bucket.WEEK else 1)
