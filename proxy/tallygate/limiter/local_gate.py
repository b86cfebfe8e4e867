"""The rate limits that a worker checks by itself, before it reads a body or asks the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.domain.rate_limit import RateLimit, Taken

BUCKETS_MAX: Final = 100_000  # then the one created first is dropped, which makes it full again
OTHERS_MS: Final = 1_000  # until one of the open requests ends: unknown, but soon
# By as much the store's clock and the way to it may differ between two requests.
TOLERANCE_MS: Final = 2_000


@dataclass(slots=True, eq=False)
class Entry:
    """An exchange that entered. slots: keys of the limits on open requests; units: what it takes of each limit on requests."""

    org: str
    slots: tuple[str, ...]
    units: tuple[tuple[str, RateLimit, int], ...]


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
        # units * window_ms, as they stood at a time in ms, under a limit, beside those of a full bucket
        self._levels: dict[tuple[str, str], tuple[int, int, RateLimit, int]] = {}
        self._open: dict[tuple[str, str], int] = {}

    def enter(self, org: str, limits: Sequence[tuple[str, RateLimit]], weight: int = 1) -> Entry | Closed:
        """Take a slot of each limit on open requests and `weight` of each on requests, or nothing. `leave` must follow.

        As at the limiter, a request for more than a bucket's capacity needs a full one.
        """
        now_ms = self._now_ms()
        closed: Closed | None = None
        slots: list[str] = []
        units: list[tuple[str, RateLimit, int]] = []
        levels: list[tuple[int, int]] = []
        for key, limit in limits:
            if limit.shadow or limit.quantity.taken is Taken.UNTIL_KNOWN:
                continue
            if limit.quantity.taken is Taken.WHILE_OPEN:
                slots.append(key)
                wait_ms = OTHERS_MS if self._open.get((org, key), 0) >= limit.capacity else 0
            else:
                taken = min(weight, limit.capacity)
                units.append((key, limit, taken))
                level, full = self._refilled(org, key, limit, now_ms)
                levels.append((level, full))
                missing = taken * limit.window_ms - level
                wait_ms = -(-(missing + _more(limit)) // limit.refill_units) if missing > 0 else 0
            if wait_ms > (0 if closed is None else closed.retry_after_ms):
                closed = Closed(key, wait_ms)
        if closed is not None:
            return closed
        for key in slots:
            self._open[org, key] = self._open.get((org, key), 0) + 1
        for (key, limit, taken), (level, full) in zip(units, levels, strict=True):
            self._levels[org, key] = level - taken * limit.window_ms, now_ms, limit, full
        return Entry(org, tuple(slots), tuple(units))

    def leave(self, entry: Entry) -> None:
        """Return the slots of an exchange that has ended."""
        for key in entry.slots:
            left = self._open[entry.org, key] - 1
            if left:
                self._open[entry.org, key] = left
            else:
                del self._open[entry.org, key]

    def refund(self, entry: Entry) -> None:
        """Return the units of an exchange that the limiter refused, which took none there."""
        now_ms = self._now_ms()
        for key, limit, taken in entry.units:
            level, full = self._refilled(entry.org, key, limit, now_ms)
            self._levels[entry.org, key] = min(level + taken * limit.window_ms, full), now_ms, limit, full

    def _refilled(self, org: str, key: str, limit: RateLimit, now_ms: int) -> tuple[int, int]:
        """The bucket's level, brought to now, and that of a full one. One never seen, or whose limit has changed, is full."""
        known = self._levels.get((org, key))
        if known is not None and (known[2] is limit or known[2] == limit):
            full = known[3]
            level = min(full, known[0] + max(0, now_ms - known[1]) * limit.refill_units)
        else:
            level = full = _full(limit)
            while known is None and len(self._levels) >= BUCKETS_MAX:
                del self._levels[next(iter(self._levels))]
        self._levels[org, key] = level, now_ms, limit, full
        return level, full


def _full(limit: RateLimit) -> int:
    return limit.capacity * limit.window_ms + _more(limit)


def _more(limit: RateLimit) -> int:
    """The level by which a bucket is fuller here than the limiter's: what refills in the tolerance, and a unit at least.

    So a caller at its limit is refused by the limiter, whose answer is exact.
    """
    return max(TOLERANCE_MS * limit.refill_units, limit.window_ms)
