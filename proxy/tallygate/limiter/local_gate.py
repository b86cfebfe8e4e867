"""The rate limits that a worker checks by itself, before it reads a body or asks the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import msgspec

from tallygate.domain.rate_limit import RateLimit, Taken

BUCKETS_MAX: Final = 100_000  # then the one created first is dropped, which makes it full again
CALLERS_MAX: Final = 20_000  # whose places and buckets are at hand; then all are found anew
OTHERS_MS: Final = 1_000  # until one of the open requests ends: unknown, but soon
# By as much the store's clock and the way to it may differ between two requests.
TOLERANCE_MS: Final = 2_000
_FOR_GOOD, _WHILE_OPEN = Taken.FOR_GOOD, Taken.WHILE_OPEN  # read once: a member of an enum takes a call to look up


@dataclass(slots=True, eq=False)
class _Bucket:
    """one, full, level: in units * window_ms, of a request of weight 1 and as it stood at at_ms."""

    key: str
    limit: RateLimit
    one: int
    full: int
    level: int
    at_ms: int

    def amount(self, weight: int) -> int:
        """What a request of that weight takes."""
        return min(weight, self.limit.capacity) * self.one

    def refill(self, now_ms: int) -> None:
        """Bring it to now. Where the clock steps back, it goes on from there."""
        if now_ms > self.at_ms:
            level = self.level + (now_ms - self.at_ms) * self.limit.refill_units
            self.level = level if level < self.full else self.full
        self.at_ms = now_ms


class _Caller(msgspec.Struct, frozen=True, eq=False):
    """What a caller's limits bound here. slots: place and number of each limit on open requests; buckets: of those on requests."""

    limits: Sequence[tuple[str, RateLimit]]
    slots: tuple[tuple[tuple[str, str], int], ...]
    buckets: tuple[_Bucket, ...]


class Entry(msgspec.Struct, frozen=True, eq=False):
    """An exchange that entered."""

    caller: _Caller
    weight: int


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
        # by organization and identity of the limits, which are kept with it
        self._callers: dict[tuple[str, int], _Caller] = {}

    def enter(self, org: str, limits: Sequence[tuple[str, RateLimit]], weight: int = 1) -> Entry | Closed:
        """Take a slot of each limit on open requests and `weight` of each on requests, or nothing. `leave` must follow.

        As at the limiter, a request for more than a bucket's capacity needs a full one.
        """
        now_ms = self._now_ms()
        caller = self._callers.get((org, id(limits)))
        if caller is None:
            caller = self._caller_of(org, limits, now_ms)
        closed: list[Closed] = []
        for bucket in caller.buckets:
            bucket.refill(now_ms)
            bucket.level -= bucket.one if weight == 1 else bucket.amount(weight)
            if bucket.level < 0:
                closed.append(Closed(bucket.key, -((bucket.level - _more(bucket.limit)) // bucket.limit.refill_units)))
        opened = self._open
        for place, most in caller.slots:
            count = opened[place] = opened.get(place, 0) + 1
            if count > most:
                closed.append(Closed(place[1], OTHERS_MS))
        entry = Entry(caller, weight)
        if not closed:
            return entry
        self.refund(entry)
        self.leave(entry)
        return max(closed, key=attrgetter("retry_after_ms"))

    def leave(self, entry: Entry) -> None:
        """Return the slots of an exchange that has ended."""
        for place, _ in entry.caller.slots:
            left = self._open[place] - 1
            if left:
                self._open[place] = left
            else:
                del self._open[place]

    def refund(self, entry: Entry) -> None:
        """Return the units of an exchange that the limiter refused, which took none there."""
        now_ms = self._now_ms()
        for bucket in entry.caller.buckets:
            bucket.refill(now_ms)
            bucket.level = min(bucket.level + bucket.amount(entry.weight), bucket.full)

    def _caller_of(self, org: str, limits: Sequence[tuple[str, RateLimit]], now_ms: int) -> _Caller:
        binding = [(key, limit) for key, limit in limits if not limit.shadow]
        slots = [((org, key), limit.capacity) for key, limit in binding if limit.quantity.taken is _WHILE_OPEN]
        buckets = [self._bucket_of((org, key), limit, now_ms) for key, limit in binding if limit.quantity.taken is _FOR_GOOD]
        if len(self._callers) >= CALLERS_MAX:
            self._callers.clear()
        caller = self._callers[org, id(limits)] = _Caller(limits, tuple(slots), tuple(buckets))
        return caller

    def _bucket_of(self, place: tuple[str, str], limit: RateLimit, now_ms: int) -> _Bucket:
        """The bucket of this limit. One never seen, or whose limit has changed, is full."""
        bucket = self._buckets.get(place)
        if bucket is not None and bucket.limit == limit:
            return bucket
        while bucket is None and len(self._buckets) >= BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
            self._callers.clear()  # they may have it
        full = limit.capacity * limit.window_ms + _more(limit)
        bucket = self._buckets[place] = _Bucket(place[1], limit, limit.window_ms, full, full, now_ms)
        return bucket


def _more(limit: RateLimit) -> int:
    """The level by which a bucket is fuller here than the limiter's: what refills in the tolerance, and a unit at least.

    So a caller at its limit is refused by the limiter, whose answer is exact.
    """
    return max(TOLERANCE_MS * limit.refill_units, limit.window_ms)
