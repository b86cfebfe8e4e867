"""Decisions of a worker by itself while Redis is unreachable. The caller counts every such decision."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.limiter.local_rates import LocalRates

LIMITER_UNAVAILABLE: Final = "limiter_unavailable"  # refused_by of a spend demand beyond the grace
RETRY_MS: Final = 1000
GRACE_WINDOW_MS: Final = 3_600_000
ORGS_MAX: Final = 100_000  # organizations with grace in use; past it none is given to others until the hour ends


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """The treatment of each class of limit without Redis.

    workers                 of the deployment: each enforces its share of every rate limit
    grace_nano_usd          holds that a worker admits per organization and hour without knowing its spend; 0 refuses all spending
    """

    workers: int = 1
    grace_nano_usd: int = 0


class LocalFallback:
    """One per worker. now_ms is monotonic; a Decision's now_ms is this clock's and means nothing elsewhere.

    An exchange admitted here is settled as any other once Redis is back, where it has no hold: its cost is posted and flagged.
    """

    def __init__(self, policy: FailurePolicy, now_ms: Callable[[], int]) -> None:
        self._policy = policy
        self._now_ms = now_ms
        self._rates = LocalRates(policy.workers)
        self._grace_hour = 0
        self._grace_used: dict[str, int] = {}

    def admit(self, request: AdmissionRequest) -> Decision:
        """Rate demands against this worker's share, spend demands against the grace. Spend states are unknown: there are none."""
        now_ms = self._now_ms()
        if not self._grace_covers(request, now_ms):
            return Decision(
                reservation_id=request.reservation_id,
                admitted=False,
                refused_by=LIMITER_UNAVAILABLE,
                shadow_refused_by=(),
                retry_after_ms=RETRY_MS,
                held_nano_usd=0,
                now_ms=now_ms,
                rate=(),
                spend=(),
            )
        fits, states = self._rates.admit(request.org, request.rate, now_ms)
        short = [(state, demand) for state, demand in zip(states, request.rate, strict=True) if state.retry_after_ms]
        refusing = [(state.retry_after_ms, demand.key) for state, demand in short if not demand.limit.shadow]
        wait_ms, slowest = max(refusing, key=itemgetter(0), default=(0, None))
        if fits and request.spend:
            self._grace_used[request.org] = self._grace_used.get(request.org, 0) + request.hold_nano_usd
        return Decision(
            reservation_id=request.reservation_id,
            admitted=fits,
            refused_by=slowest,
            shadow_refused_by=tuple(demand.key for _, demand in short if demand.limit.shadow),
            retry_after_ms=wait_ms,
            held_nano_usd=request.hold_nano_usd if fits else 0,
            now_ms=now_ms,
            rate=states,
            spend=(),
        )

    def release(self, request: AdmissionRequest) -> None:
        """Release the open-request slots of an exchange admitted here, however it ended."""
        self._rates.release(request.org, request.rate)

    def _grace_covers(self, request: AdmissionRequest, now_ms: int) -> bool:
        if all(demand.limit.shadow for demand in request.spend):
            return True
        hour = now_ms // GRACE_WINDOW_MS
        if hour != self._grace_hour:
            self._grace_hour = hour
            self._grace_used.clear()
        if request.org not in self._grace_used and len(self._grace_used) >= ORGS_MAX:
            return False
        return 0 < self._policy.grace_nano_usd >= self._grace_used.get(request.org, 0) + request.hold_nano_usd
