"""Token buckets and open requests of the reference limiter: the arithmetic of the scripts' first half."""

from dataclasses import dataclass

from tallygate.domain.admission import RateDemand, RateState
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.rate_limit import Taken
from tallygate.limiter.reference_state import DAY_MS, OTHERS_MS, Bucket, OrgState


@dataclass(slots=True)
class RateView:
    """A rate demand against its bucket as it stands. wait_ms: 0 if it fits; others: only units that others hold prevent it."""

    demand: RateDemand
    fits: bool
    taken: int
    wait_ms: int
    bucket: Bucket | None  # None: open requests
    open: int = 0
    others: bool = False


def _refilled(state: OrgState, demand: RateDemand, now: int, *, writes: bool = True) -> Bucket:
    """The bucket refilled to now; a new one is full. One that is ahead by more than its window restarts from now.

    writes   also if nothing is taken of it
    """
    limit = demand.limit
    full = limit.capacity * limit.window_ms
    stored = state.buckets.get(demand.key)
    if stored is None:
        return Bucket(full, now)
    level = max(min(stored.level, full), full - MONEY_MAX_NANO_USD)
    at_ms = now if stored.at_ms - now > limit.window_ms else stored.at_ms
    if writes:
        stored.at_ms = at_ms
    if now <= at_ms:
        return Bucket(level, at_ms, stored.held)
    return Bucket(min(full, level + (now - at_ms) * limit.refill_units), now, stored.held)


def rate_view(state: OrgState, demand: RateDemand, now: int, *, writes: bool = True) -> RateView:
    limit = demand.limit
    units = min(demand.units, limit.capacity)
    if limit.quantity.taken is Taken.WHILE_OPEN:
        count = state.open.get(demand.key, 0)
        fits = count + units <= limit.capacity
        return RateView(demand, fits, units, 0 if fits else OTHERS_MS, None, count, others=not fits)
    bucket = _refilled(state, demand, now, writes=writes)
    missing = units * limit.window_ms - bucket.level
    fits = units == 0 or missing <= 0
    taken = units if fits else max(0, bucket.level // limit.window_ms)
    wait = 0 if fits else -(-missing // limit.refill_units) + bucket.at_ms - now
    others = wait > OTHERS_MS and missing <= bucket.held * limit.window_ms
    return RateView(demand, fits, taken, OTHERS_MS if others else wait, bucket, others=others)


def _save_bucket(state: OrgState, demand: RateDemand, bucket: Bucket) -> None:
    limit = demand.limit
    if demand.key not in state.buckets:
        state.due[f"b|{limit.refill_units}|{limit.capacity * limit.window_ms}|{demand.key}"] = bucket.at_ms + DAY_MS
    state.buckets[demand.key] = bucket


def take(state: OrgState, rate: RateView) -> None:
    if not rate.taken:
        return
    if rate.bucket is None:
        rate.open += rate.taken
        state.open[rate.demand.key] = rate.open
    else:
        rate.bucket.level -= rate.taken * rate.demand.limit.window_ms
        if rate.demand.limit.quantity.taken is Taken.UNTIL_KNOWN:
            rate.bucket.held += rate.taken
        _save_bucket(state, rate.demand, rate.bucket)


def return_units(state: OrgState, demand: RateDemand, taken: int, token_correction: int, now: int) -> None:
    """Return units at the end of an exchange: slots of open requests and unused estimated tokens. Requests stay taken."""
    if demand.limit.quantity.taken is Taken.WHILE_OPEN:
        give_back(state, demand, taken, taken, now)
    elif demand.limit.quantity.taken is Taken.UNTIL_KNOWN:
        give_back(state, demand, token_correction, taken, now)


def give_back(state: OrgState, demand: RateDemand, units: int, ended: int, now: int) -> None:
    """Return units of a limit, or take them if negative. ended: units that are no longer held."""
    limit = demand.limit
    if not units and not ended:
        return
    if limit.quantity.taken is Taken.WHILE_OPEN:
        left = state.open.get(demand.key, 0) - units
        state.open[demand.key] = left
        if left <= 0:
            del state.open[demand.key]
        return
    bucket = _refilled(state, demand, now)
    full = limit.capacity * limit.window_ms
    bucket.level = max(min(bucket.level + units * limit.window_ms, full), full - MONEY_MAX_NANO_USD)
    bucket.held = max(0, bucket.held - ended)
    _save_bucket(state, demand, bucket)


def drop_bucket_if_full(state: OrgState, member: str, now: int) -> None:
    _, refill, full, key = member.split("|", 3)
    bucket = state.buckets[key]
    idle_ms = now - bucket.at_ms
    if idle_ms < DAY_MS or idle_ms * int(refill) < int(full) - bucket.level:
        state.due[member] = now + DAY_MS
        return
    del state.buckets[key]
    del state.due[member]


def rate_state(rate: RateView, now: int) -> RateState:
    limit = rate.demand.limit
    if rate.bucket is None:
        remaining, reset_ms = limit.capacity - rate.open, 0
    else:
        missing = limit.capacity * limit.window_ms - rate.bucket.level
        remaining = rate.bucket.level // limit.window_ms
        reset_ms = -(-missing // limit.refill_units) + rate.bucket.at_ms - now if missing > 0 else 0
    return RateState(
        remaining=max(0, remaining),
        reset_ms=reset_ms,
        retry_after_ms=rate.wait_ms,
        waits_for_others=rate.others,
    )
