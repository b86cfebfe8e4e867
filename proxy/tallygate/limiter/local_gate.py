"""The rate limits that a worker checks by itself, before it reads a body or asks the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tallygate.domain.rate_limit import RateLimit, Taken

BUCKETS_MAX: Final = 100_000  # then the one created first is dropped, which makes it full again
OTHERS_MS: Final = 1_000  # until one of the open requests ends: unknown, but soon
# By as much the store's clock and the way to it may differ between two requests.
TOLERANCE_MS: Final = 2_000
_FOR_GOOD, _WHILE_OPEN = Taken.FOR_GOOD, Taken.WHILE_OPEN  # read once: a member of an enum takes a call to look up


@dataclass(slots=True, eq=False)
class _Bucket:
    """level, full: in units * window_ms; the level as it stood at at_ms."""

    limit: RateLimit
    full: int
    level: int
    at_ms: int

    def refill(self, now_ms: int) -> None:
        """Bring it to now. Where the clock steps back, it goes on from there."""
        if now_ms > self.at_ms:
            level = self.level + (now_ms - self.at_ms) * self.limit.refill_units
            self.level = level if level < self.full else self.full
        self.at_ms = now_ms


class Entry(msgspec.Struct, eq=False):
    """An exchange that entered. slots: of the limits on open requests; taken: out of the bucket of each limit on requests."""

    slots: list[tuple[str, str]]
    taken: list[tuple[_Bucket, int]]


@dataclass(frozen=True, slots=True)
class Closed:
    """Why an exchange may not enter: the key of the limit, and the time until it may."""

    key: str
    retry_after_ms: int


class LocalGate:
    """Counts this worker's requests against the full limits on requests and open requests, from the head of a request on.

    The limiter counts all workers, so that every request that it would admit also passes here. The gate bounds what never reaches
    the limiter: requests that are refused for their form, and bodies under way. Limits in shadow refuse nothing.

    now_ms   Unix time; where it steps back, buckets continue from there
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        # by organization and key of the limit
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._open: dict[tuple[str, str], int] = {}

    def enter(self, org: str, limits: Sequence[tuple[str, RateLimit]], weight: int = 1) -> Entry | Closed:
        """Take a slot of each limit on open requests and `weight` of each on requests, or nothing. `leave` must follow.

        As at the limiter, a request for more than a bucket's capacity needs a full one.
        """
        now_ms = self._now_ms()
        closed: Closed | None = None
        slots: list[tuple[str, str]] = []
        drawn: list[tuple[_Bucket, int]] = []
        for key, limit in limits:
            if limit.shadow:
                continue
            wait_ms, place, taken_for = 0, (org, key), limit.quantity.taken
            if taken_for is _WHILE_OPEN:
                slots.append(place)
                if self._open.get(place, 0) >= limit.capacity:
                    wait_ms = OTHERS_MS
            elif taken_for is _FOR_GOOD:
                bucket = self._buckets.get(place)
                if bucket is None or bucket.limit is not limit:
                    bucket = self._bucket_of(place, limit, now_ms)
                bucket.refill(now_ms)
                taken = (weight if weight < limit.capacity else limit.capacity) * limit.window_ms
                drawn.append((bucket, taken))
                if taken > bucket.level:
                    wait_ms = -(-(taken - bucket.level + _more(limit)) // limit.refill_units)
            if wait_ms and (closed is None or wait_ms > closed.retry_after_ms):
                closed = Closed(key, wait_ms)
        if closed is not None:
            return closed
        for place in slots:
            self._open[place] = self._open.get(place, 0) + 1
        for bucket, taken in drawn:
            bucket.level -= taken
        return Entry(slots, drawn)

    def leave(self, entry: Entry) -> None:
        """Return the slots of an exchange that has ended."""
        for place in entry.slots:
            left = self._open[place] - 1
            if left:
                self._open[place] = left
            else:
                del self._open[place]

    def refund(self, entry: Entry) -> None:
        """Return the units of an exchange that the limiter refused, which took none there."""
        now_ms = self._now_ms()
        for bucket, taken in entry.taken:
            bucket.refill(now_ms)
            bucket.level = min(bucket.level + taken, bucket.full)

    def _bucket_of(self, place: tuple[str, str], limit: RateLimit, now_ms: int) -> _Bucket:
        """The bucket of this limit. One never seen, or whose limit has changed, is full."""
        bucket = self._buckets.get(place)
        if bucket is not None and bucket.limit == limit:
            return bucket
        while bucket is None and len(self._buckets) >= BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        full = limit.capacity * limit.window_ms + _more(limit)
        bucket = self._buckets[place] = _Bucket(limit, full, full, now_ms)
        return bucket


def _more(limit: RateLimit) -> int:
    """The level by which a bucket is fuller here than the limiter's: what refills in the tolerance, and a unit at least.

    So a caller at its limit is refused by the limiter, whose answer is exact.
    """
    return max(TOLERANCE_MS * limit.refill_units, limit.window_ms)
