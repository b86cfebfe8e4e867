"""Small builders of what the limiter is asked, with readable defaults."""

from typing import Any

from msgspec.structs import replace

from tallygate.domain.admission import Account, AdmissionRequest, CalendarPeriod, RateDemand, SpendDemand
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, SpendLimit

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, a multiple of a bucket
BUCKET_MS = SPEND_BUCKET_MS
WEEK_BUCKETS = 2016
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Clock:
    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def a_rate(
    units: int = 1,
    *,
    capacity: int = 10,
    refill: int | None = None,
    window_ms: int = MINUTE_MS,
    quantity: Quantity = Quantity.REQUESTS,
    key: str | None = None,
    shadow: bool = False,
) -> RateDemand:
    is_open = quantity is Quantity.OPEN_REQUESTS
    limit = RateLimit(
        name=f"{quantity}_limit",
        quantity=quantity,
        capacity=capacity,
        refill_units=0 if is_open else refill or capacity,
        window_ms=0 if is_open else window_ms,
        shadow=shadow,
    )
    return RateDemand(key=key or f"org:{limit.name}", limit=limit, units=units)


def a_spend(limit_nano_usd: int = 1000, *, key: str = "org:spend_7d", **changes: Any) -> SpendDemand:
    return SpendDemand(key=key, limit=SpendLimit(name="spend_7d", limit_nano_usd=limit_nano_usd, **changes))


def a_month(
    limit_nano_usd: int = 1000, *, key: str = "org:spend_month", months: int = 3, length_ms: int = 31 * DAY_MS
) -> SpendDemand:
    """Periods "m0", "m1" ... from the start on, each of length_ms."""
    limit = SpendLimit(name="spend_month", limit_nano_usd=limit_nano_usd, window_ms=0)
    periods = tuple(
        CalendarPeriod(id=f"m{i}", start_ms=START_MS + i * length_ms, end_ms=START_MS + (i + 1) * length_ms) for i in range(months)
    )
    return SpendDemand(key=key, limit=limit, periods=periods)


def a_request(reservation_id: str, hold: int = 100, **changes: Any) -> AdmissionRequest:
    base = AdmissionRequest(
        reservation_id=reservation_id,
        org="acme",
        rate=(),
        spend=(a_spend(),),
        hold_nano_usd=hold,
        hold_min_nano_usd=hold,
        floor_nano_usd=0,
        lease_ms=MINUTE_MS,
        event=b'{"event_id":"%s"}' % reservation_id.encode(),
    )
    return replace(base, **changes)


def an_account(admission: AdmissionRequest, cost: int = 0, prompt: int = 0, completion: int = 0, **changes: Any) -> Account:
    event = b'{"final":true}'
    base = Account(admission=admission, cost_nano_usd=cost, prompt_tokens=prompt, completion_tokens=completion, event=event)
    return replace(base, **changes)
