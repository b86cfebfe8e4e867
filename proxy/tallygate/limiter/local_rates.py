"""Token buckets in one worker's memory, each a worker's share of the real limit. For use while Redis is unreachable."""

from collections.abc import Sequence

from tallygate.domain.admission import RateDemand, RateState
from tallygate.domain.rate_limit import Taken

BUCKETS_MAX = 100_000  # then the one created first is dropped, which makes it full again
OTHERS_MS = 1000


class LocalRates:
    """Rate limits at 1/workers of every limit, all demands or none, on the caller's clock (monotonic, milliseconds).

    A level counts units * window_ms * workers, so a share is exact: capacity 10 over 4 workers is two and a half units each.
    A demand that the share of a bucket can never hold needs the whole share instead.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._levels: dict[tuple[str, str], tuple[int, int]] = {}
        self._open: dict[tuple[str, str], int] = {}

    def admit(self, org: str, demands: Sequence[RateDemand], now_ms: int) -> tuple[bool, tuple[RateState, ...]]:
        """Take every demand, or none if one that is not in shadow does not fit. Return whether they were, and the states."""
        needs = [(demand, *self._level_and_need(org, demand, now_ms)) for demand in demands]
        fits = all(level >= need or demand.limit.shadow for demand, level, need in needs)
        states = []
        for demand, level, need in needs:
            left = level - min(need, level) if fits else level
            if fits:
                self._save(org, demand, left, now_ms)
            states.append(self._state(demand, left, 0 if level >= need else need - level))
        return fits, tuple(states)

    def release(self, org: str, demands: Sequence[RateDemand]) -> None:
        """Release the open-request slots of an ended exchange."""
        for demand in demands:
            if demand.limit.quantity.taken is Taken.WHILE_OPEN:
                left = self._open.get((org, demand.key), 0) - demand.units
                if left > 0:
                    self._open[org, demand.key] = left
                else:
                    self._open.pop((org, demand.key), None)

    def _level_and_need(self, org: str, demand: RateDemand, now_ms: int) -> tuple[int, int]:
        limit = demand.limit
        if limit.quantity.taken is Taken.WHILE_OPEN:
            return max(1, limit.capacity // self._workers) - self._open.get((org, demand.key), 0), demand.units
        full = limit.capacity * limit.window_ms
        level, at_ms = self._levels.get((org, demand.key), (full, now_ms))
        level = min(full, level + max(0, now_ms - at_ms) * limit.refill_units)
        return level, min(full, demand.units * limit.window_ms * self._workers)

    def _save(self, org: str, demand: RateDemand, left: int, now_ms: int) -> None:
        if demand.limit.quantity.taken is Taken.WHILE_OPEN:
            self._open[org, demand.key] = self._open.get((org, demand.key), 0) + demand.units
            return
        if (org, demand.key) not in self._levels and len(self._levels) >= BUCKETS_MAX:
            del self._levels[next(iter(self._levels))]
        self._levels[org, demand.key] = left, now_ms

    def _state(self, demand: RateDemand, left: int, missing: int) -> RateState:
        limit = demand.limit
        if limit.quantity.taken is Taken.WHILE_OPEN:
            return RateState(remaining=max(0, left), reset_ms=0, retry_after_ms=OTHERS_MS if missing else 0)
        full = limit.capacity * limit.window_ms
        return RateState(
            remaining=left // (limit.window_ms * self._workers),
            reset_ms=-(-(full - left) // limit.refill_units),
            retry_after_ms=-(-missing // limit.refill_units),
        )
