"""The limiter's mathematics in plain Python: what the scripts must equal, step by step, and the fast limiter of other tests.

One process, no I/O, no lock: each method runs to its end without awaiting. The numbers are the scripts' own, so a random trace over
both must agree in every answer and in all state (tests/limiter).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.domain.admission import (
    LEDGER_BACKLOG,
    Actual,
    AdmissionRequest,
    CalendarPeriod,
    Checkpoint,
    Decision,
    RateDemand,
    RateState,
    Settlement,
    SpendDemand,
    SpendState,
    Warned,
    WindowReading,
)
from proxy.domain.errors import LimiterWipedError
from proxy.domain.money import MONEY_MAX_NANO_USD
from proxy.domain.rate_limit import Quantity
from proxy.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from proxy.limiter.keys import partition_of
from proxy.limiter.port import ReservationEndedError
from proxy.limiter.redis_limiter import ENDED_MS, EXPIRED_MS, STREAM_MAX
from proxy.limiter.wire import check_actual, check_admission, check_spend, require_whole, threshold_amounts, window_buckets

DAY_MS: Final = 86_400_000
OTHERS_MS: Final = 1000  # only open reservations stand in the way: when one ends is unknown, but soon
NEVER_MS: Final = MONEY_MAX_NANO_USD
COLLECT_MAX: Final = 8


@dataclass(slots=True)
class Bucket:
    """A token bucket: level in units * window_ms, at the time at_ms."""

    level: int
    at_ms: int


@dataclass(slots=True)
class Window:
    """One spend window. at: newest bucket seen; period: of a calendar month; posted: spend by bucket, of a rolling window."""

    at: int = 0
    period: CalendarPeriod | None = None
    spent: int = 0
    held: int = 0
    warned: int = 0
    paused_ms: int = 0
    posted: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Hold:
    """An open or expired reservation. posted_to: of an expired one, the bucket or period of each spend demand."""

    admission: AdmissionRequest
    decision: Decision
    taken: tuple[int, ...]
    granted: int
    cost: int
    prompt: int
    completion: int
    at_ms: int
    event: bytes
    posted_to: tuple[int | str, ...] | None = None


@dataclass(slots=True)
class OrgState:
    """All that the limiter keeps of one organization. due: when to look at a reservation, a window (w|…) or a bucket (b|…)."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    holds: dict[str, Hold | Settlement] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One entry of a partition's event stream."""

    event_id: str
    kind: str
    event: bytes
    settled_at_ms: int
    cost_nano_usd: int
    posted_nano_usd: int
    prompt_tokens: int
    completion_tokens: int
    flags: str


@dataclass(slots=True)
class _RateView:
    demand: RateDemand
    fits: bool
    taken: int
    wait_ms: int
    bucket: Bucket | None  # None: open requests
    open: int = 0


@dataclass(slots=True)
class _SpendView:
    demand: SpendDemand
    window: Window
    fits: bool
    resume_ms: int
    wait_ms: int


class ReferenceLimiter:
    """Implements `Limiter` in memory. now_ms is the server's clock."""

    def __init__(
        self, now_ms: Callable[[], int], *, stream_max: int = STREAM_MAX, ended_ms: int = ENDED_MS, expired_ms: int = EXPIRED_MS
    ) -> None:
        self._now_ms = now_ms
        self._stream_max = stream_max
        self._ended_ms = ended_ms
        self._expired_ms = expired_ms
        self.orgs: dict[str, OrgState] = defaultdict(OrgState)
        self.events: dict[int, list[StreamEvent]] = defaultdict(list)
        self.wiped_partitions: set[int] = set()

    async def admit(self, request: AdmissionRequest) -> Decision:
        check_admission(request)
        now = self._now_ms()
        self._require_known_spend(request)
        state = self.orgs[request.org]
        known = state.holds.get(request.reservation_id)
        if known is not None:
            return _known_decision(request, known)
        self._collect(request.org, now, COLLECT_MAX)
        rates = [_rate_view(state, demand, now) for demand in request.rate]
        spends = [_spend_view(state, demand, request.hold_min_nano_usd, now) for demand in request.spend]

        refused_by, wait_ms = _refusal(rates, spends)
        if len(self.events[partition_of(request.org)]) >= self._stream_max:
            refused_by, wait_ms = LEDGER_BACKLOG, OTHERS_MS
        if refused_by is not None:
            for spend in spends:
                if not spend.demand.limit.shadow and spend.resume_ms > 0:
                    spend.window.paused_ms = spend.resume_ms
            return _decision(request, now, refused_by=refused_by, wait_ms=wait_ms, granted=0, rates=rates, spends=spends)

        granted = _grant(request, spends)
        for rate in rates:
            _take(state, rate)
        for spend in spends:
            _open_window(state, spend.demand, spend.window, now)
            spend.window.held += granted
            spend.window.paused_ms = 0
        decision = _decision(request, now, refused_by=None, wait_ms=0, granted=granted, rates=rates, spends=spends)
        state.holds[request.reservation_id] = Hold(
            admission=request,
            decision=decision,
            taken=tuple(rate.taken for rate in rates),
            granted=granted,
            cost=request.floor_nano_usd,
            prompt=request.floor_prompt_tokens,
            completion=0,
            at_ms=now + request.lease_ms,
            event=request.event,
        )
        state.due[request.reservation_id] = now + request.lease_ms
        return decision

    async def checkpoint(self, checkpoints: Sequence[Checkpoint]) -> None:
        now = self._now_ms()
        for checkpoint in checkpoints:
            require_whole("cost_nano_usd", checkpoint.cost_nano_usd)
            require_whole("prompt_tokens", checkpoint.prompt_tokens)
            require_whole("completion_tokens", checkpoint.completion_tokens)
            admission = checkpoint.admission
            state = self.orgs[admission.org]
            hold = state.holds.get(admission.reservation_id)
            if not isinstance(hold, Hold) or hold.posted_to is not None:
                continue
            hold.at_ms = max(hold.at_ms, now + admission.lease_ms)
            state.due[admission.reservation_id] = hold.at_ms
            if checkpoint.cost_nano_usd >= hold.cost:
                hold.cost, hold.prompt, hold.completion = (
                    checkpoint.cost_nano_usd,
                    checkpoint.prompt_tokens,
                    checkpoint.completion_tokens,
                )
                hold.event = checkpoint.event

    async def settle(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        return self._end(admission, actual, release=False)

    async def release(self, admission: AdmissionRequest, actual: Actual) -> Settlement:
        if actual.cost_nano_usd or actual.prompt_tokens or actual.completion_tokens:
            raise ValueError("a release owes nothing: cost and tokens must be 0")
        return self._end(admission, actual, release=True)

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowReading, ...]:
        check_spend(spend)
        now = self._now_ms()
        state = self.orgs[org]
        readings = []
        for demand in spend:
            window = _copy_of(state, demand)
            _move(window, demand, now)
            paused = window.paused_ms if window.paused_ms > now else 0
            limit = demand.limit.limit_nano_usd
            if window.spent >= limit > 0:
                paused = max(paused, _resume_at(window, demand, window.spent + 1 - limit, now))
            readings.append(
                WindowReading(key=demand.key, spent_nano_usd=window.spent, held_nano_usd=window.held, paused_until_ms=paused)
            )
        return tuple(readings)

    def sweep(self, org: str, most: int = 64) -> int:
        """Expire and forget what is due of one organization, at most so many entries; returns how many there were."""
        return self._collect(org, self._now_ms(), most)

    def wipe(self) -> None:
        """Lose everything, as an emptied Redis would: spend demands raise LimiterWipedError until `wiped_partitions` is empty."""
        self.orgs.clear()
        self.events.clear()
        self.wiped_partitions.update(range(64))

    def _require_known_spend(self, request: AdmissionRequest) -> None:
        if request.spend and partition_of(request.org) in self.wiped_partitions:
            raise LimiterWipedError(f"the limiter's store has lost the spend of {request.org}'s partition")

    def _end(self, admission: AdmissionRequest, actual: Actual, *, release: bool) -> Settlement:
        check_actual(actual)
        now = self._now_ms()
        self._require_known_spend(admission)
        state = self.orgs[admission.org]
        known = state.holds.get(admission.reservation_id)
        if isinstance(known, Settlement):
            return replace(known, repeated=True, warned=())
        late, unheld = known is not None and known.posted_to is not None, known is None
        demands = known.admission if known else admission
        before_cost, before_prompt, before_completion = (
            (known.cost, known.prompt, known.completion) if known and late else (0, 0, 0)
        )

        for i, rate in enumerate(demands.rate):
            taken = known.taken[i] if known and not late else 0
            tokens = before_prompt + before_completion - actual.prompt_tokens - actual.completion_tokens
            _return_units(state, rate, taken, taken + tokens, now)
        warned: list[Warned] = []
        for i, demand in enumerate(demands.spend):
            window = _moved(state, demand, now)
            if known and not late:
                window.held = max(0, window.held - known.granted)
            posted_to = known.posted_to[i] if known and known.posted_to is not None else None
            _post(state, demand, window, actual.cost_nano_usd - before_cost, now, posted_to=posted_to)
            reached = _crossed(demand, window)
            warned += [
                Warned(key=demand.key, permille=permille)
                for permille, _ in threshold_amounts(demand)
                if window.warned < permille <= reached
            ]
            window.warned = max(window.warned, reached)

        over = max(0, actual.cost_nano_usd - known.granted) if known else 0
        flags = ",".join(flag for flag, is_so in (("overrun", over > 0), ("late", late), ("unheld", unheld)) if is_so)
        kind = "late" if late else "unheld" if unheld else "released" if release else "settled"
        self.events[partition_of(admission.org)].append(
            StreamEvent(
                event_id=admission.reservation_id,
                kind=kind,
                event=actual.event,
                settled_at_ms=now,
                cost_nano_usd=actual.cost_nano_usd,
                posted_nano_usd=actual.cost_nano_usd - before_cost,
                prompt_tokens=actual.prompt_tokens,
                completion_tokens=actual.completion_tokens,
                flags=flags,
            )
        )
        prompt, completion = actual.prompt_tokens - before_prompt, actual.completion_tokens - before_completion
        cost = actual.cost_nano_usd - before_cost
        _count(
            state,
            demands,
            {
                f"requests.{actual.outcome}": int(not late),
                f"usage_source.{actual.usage_source}": int(not late),
                "prompt_tokens": max(0, prompt),
                "credited_prompt_tokens": max(0, -prompt),
                "completion_tokens": max(0, completion),
                "credited_completion_tokens": max(0, -completion),
                "cost_nano_usd": max(0, cost),
                "credited_nano_usd": max(0, -cost),
                "cached_tokens": actual.cached_tokens,
                "reasoning_tokens": actual.reasoning_tokens,
                "overruns": int(over > 0),
                "late_settlements": int(late),
                "unheld_settlements": int(unheld),
            },
        )
        settlement = Settlement(settled_at_ms=now, over_nano_usd=over, late=late, unheld=unheld, warned=tuple(warned))
        state.holds[admission.reservation_id] = settlement
        state.due[admission.reservation_id] = now + (self._expired_ms if late else self._ended_ms)
        return settlement

    def _collect(self, org: str, now: int, most: int) -> int:
        state = self.orgs[org]
        due = sorted((at, member) for member, at in state.due.items() if at <= now)[:most]
        for _, member in due:
            kind = member[:2]
            if kind == "w|":
                _drop_window_if_idle(state, member, now)
            elif kind == "b|":
                _drop_bucket_if_full(state, member, now)
            else:
                hold = state.holds.get(member)
                if isinstance(hold, Hold) and hold.posted_to is None:
                    self._expire(org, member, hold, now)
                else:
                    state.holds.pop(member, None)
                    del state.due[member]
        return len(due)

    def _expire(self, org: str, reservation_id: str, hold: Hold, now: int) -> None:
        state = self.orgs[org]
        for rate, taken in zip(hold.admission.rate, hold.taken, strict=True):
            _return_units(state, rate, taken, taken - hold.prompt - hold.completion, now)
        posted_to: list[int | str] = []
        for demand in hold.admission.spend:
            window = _moved(state, demand, now)
            window.held = max(0, window.held - hold.granted)
            _post(state, demand, window, hold.cost, now)
            posted_to.append(window.period.id if window.period else window.at)
        self.events[partition_of(org)].append(
            StreamEvent(
                event_id=reservation_id,
                kind="expired",
                event=hold.event,
                settled_at_ms=now,
                cost_nano_usd=hold.cost,
                posted_nano_usd=hold.cost,
                prompt_tokens=hold.prompt,
                completion_tokens=hold.completion,
                flags="expired",
            )
        )
        _count(
            state,
            hold.admission,
            {
                "requests.expired": 1,
                "expired_holds": 1,
                "usage_source.checkpoint": 1,
                "prompt_tokens": hold.prompt,
                "completion_tokens": hold.completion,
                "cost_nano_usd": hold.cost,
            },
        )
        hold.posted_to, hold.at_ms = tuple(posted_to), now
        state.due[reservation_id] = now + self._expired_ms


def _known_decision(request: AdmissionRequest, known: Hold | Settlement) -> Decision:
    if isinstance(known, Hold) and known.posted_to is None:
        return known.decision
    status = "expired" if isinstance(known, Hold) else "settled"
    raise ReservationEndedError(f"reservation {request.reservation_id} has ended: {status}")


# Token buckets


def _refilled(state: OrgState, demand: RateDemand, now: int) -> Bucket:
    """The bucket as it stands now; one never seen is full. Its clock never goes back."""
    limit = demand.limit
    full = limit.capacity * limit.window_ms
    stored = state.buckets.get(demand.key)
    if stored is None:
        return Bucket(full, now)
    level = max(min(stored.level, full), full - MONEY_MAX_NANO_USD)
    if now <= stored.at_ms:
        return Bucket(level, stored.at_ms)
    return Bucket(min(full, level + (now - stored.at_ms) * limit.refill_units), now)


def _rate_view(state: OrgState, demand: RateDemand, now: int) -> _RateView:
    limit = demand.limit
    units = min(demand.units, limit.capacity)
    if limit.quantity is Quantity.OPEN_REQUESTS:
        count = state.open.get(demand.key, 0)
        fits = count + units <= limit.capacity
        return _RateView(demand, fits, units, 0 if fits else OTHERS_MS, None, count)
    bucket = _refilled(state, demand, now)
    missing = units * limit.window_ms - bucket.level
    fits = units == 0 or missing <= 0
    taken = units if fits else max(0, bucket.level // limit.window_ms)
    wait = 0 if fits else -(-missing // limit.refill_units) + bucket.at_ms - now
    return _RateView(demand, fits, taken, wait, bucket)


def _save_bucket(state: OrgState, demand: RateDemand, bucket: Bucket) -> None:
    limit = demand.limit
    if demand.key not in state.buckets:
        state.due[f"b|{limit.refill_units}|{limit.capacity * limit.window_ms}|{demand.key}"] = bucket.at_ms + DAY_MS
    state.buckets[demand.key] = bucket


def _take(state: OrgState, rate: _RateView) -> None:
    if not rate.taken:
        return
    if rate.bucket is None:
        rate.open += rate.taken
        state.open[rate.demand.key] = rate.open
    else:
        rate.bucket.level -= rate.taken * rate.demand.limit.window_ms
        _save_bucket(state, rate.demand, rate.bucket)


def _return_units(state: OrgState, demand: RateDemand, taken: int, token_correction: int, now: int) -> None:
    """At the end of an exchange: open requests go back, token estimates become actuals, requests stay taken."""
    limit = demand.limit
    if limit.quantity is Quantity.OPEN_REQUESTS and taken:
        left = state.open.get(demand.key, 0) - taken
        state.open[demand.key] = left
        if left <= 0:
            del state.open[demand.key]
    elif limit.quantity is Quantity.TOKENS and token_correction:
        bucket = _refilled(state, demand, now)
        full = limit.capacity * limit.window_ms
        bucket.level = max(min(bucket.level + token_correction * limit.window_ms, full), full - MONEY_MAX_NANO_USD)
        _save_bucket(state, demand, bucket)


def _drop_bucket_if_full(state: OrgState, member: str, now: int) -> None:
    _, refill, full, key = member.split("|", 3)
    bucket = state.buckets[key]
    idle_ms = now - bucket.at_ms
    if idle_ms < DAY_MS or idle_ms * int(refill) < int(full) - bucket.level:
        state.due[member] = now + DAY_MS
        return
    del state.buckets[key]
    del state.due[member]


# Spend windows


def _copy_of(state: OrgState, demand: SpendDemand) -> Window:
    window = state.windows.get(demand.key)
    return replace(window, posted=dict(window.posted)) if window else Window(at=-1)


def _move(window: Window, demand: SpendDemand, now: int) -> None:
    """Brings a window to now: buckets at or below the cutoff leave, a later calendar period starts at nothing."""
    if demand.limit.kind is WindowKind.CALENDAR_MONTH:
        period = next((period for period in demand.periods if now < period.end_ms), demand.periods[-1])
        if window.period is None:
            window.period = period
        elif window.period.id != period.id and period.start_ms > window.period.start_ms:
            window.period, window.spent = period, 0
        return
    window.at = max(window.at, now // SPEND_BUCKET_MS)
    cutoff = window.at - window_buckets(demand)
    for index in [index for index in window.posted if index <= cutoff]:
        window.spent -= window.posted.pop(index)


def _moved(state: OrgState, demand: SpendDemand, now: int) -> Window:
    window = state.windows.get(demand.key) or Window(at=-1)
    _move(window, demand, now)
    return window


def _spend_view(state: OrgState, demand: SpendDemand, least: int, now: int) -> _SpendView:
    window = _moved(state, demand, now)
    limit = demand.limit.limit_nano_usd
    if least <= limit - window.spent - window.held:
        return _SpendView(demand, window, fits=True, resume_ms=0, wait_ms=0)
    if least > limit:
        return _SpendView(demand, window, fits=False, resume_ms=-1, wait_ms=NEVER_MS)
    alone = window.spent + least - limit
    resume_ms = _resume_at(window, demand, alone + window.held, now) if alone > 0 else -1
    return _SpendView(demand, window, fits=False, resume_ms=resume_ms, wait_ms=resume_ms - now if resume_ms > 0 else OTHERS_MS)


def _resume_at(window: Window, demand: SpendDemand, need: int, now: int) -> int:
    """The instant at which `need` of what is spent has left, to the bucket; -1 if all of it is not enough.

    Also -1 if the period's end is past and the next one unknown: a gateway's calendar is behind the store's clock.
    """
    if need > window.spent:
        return -1
    if window.period is not None:
        return window.period.end_ms if window.period.end_ms > now else -1
    freed = 0
    for index in sorted(window.posted):
        freed += window.posted[index]
        if freed >= need:
            return (index + window_buckets(demand)) * SPEND_BUCKET_MS
    return -1


def _open_window(state: OrgState, demand: SpendDemand, window: Window, now: int) -> None:
    if demand.key in state.windows:
        return
    state.windows[demand.key] = window
    if window.period is None:
        buckets = window_buckets(demand)
        state.due[f"w|{buckets}|{demand.key}"] = now + buckets * SPEND_BUCKET_MS
    else:
        state.due[f"w|0|{demand.key}"] = max(window.period.end_ms, now + DAY_MS)


def _crossed(demand: SpendDemand, window: Window) -> int:
    return max((permille for permille, amount in threshold_amounts(demand) if window.spent >= amount), default=0)


def _post(
    state: OrgState, demand: SpendDemand, window: Window, amount: int, now: int, *, posted_to: int | str | None = None
) -> None:
    """Adds to a window, or takes back from what an expiry posted if that still counts. Re-arms thresholds that spend fell below."""
    _open_window(state, demand, window, now)
    window.warned = min(window.warned, _crossed(demand, window))
    index = window.at
    if amount < 0:
        if window.period is not None:
            amount = max(amount, -window.spent) if posted_to == window.period.id else 0
        else:
            index = posted_to if isinstance(posted_to, int) else window.at
            amount = max(amount, -window.posted.get(index, 0))
    if amount == 0:
        return
    window.spent += amount
    if window.period is None:
        window.posted[index] = window.posted.get(index, 0) + amount
        if window.posted[index] == 0:
            del window.posted[index]


def _drop_window_if_idle(state: OrgState, member: str, now: int) -> None:
    _, buckets_text, key = member.split("|", 2)
    buckets, window = int(buckets_text), state.windows[key]
    if window.period is not None:
        spent_until = window.period.end_ms
    else:
        window.at = max(window.at, now // SPEND_BUCKET_MS)
        for index in [index for index in window.posted if index <= window.at - buckets]:
            window.spent -= window.posted.pop(index)
        spent_until = now + buckets * SPEND_BUCKET_MS if window.spent > 0 else 0
    if spent_until > now or window.held > 0:
        state.due[member] = max(spent_until, now + DAY_MS)
        return
    del state.windows[key]
    del state.due[member]


# Decisions


def _refusal(rates: Sequence[_RateView], spends: Sequence[_SpendView]) -> tuple[str | None, int]:
    """Of the demands that refuse, the one with the longest wait; the first of equals."""
    refused_by, wait_ms = None, 0
    views: list[_RateView | _SpendView] = [*rates, *spends]
    for view in views:
        if not view.fits and not view.demand.limit.shadow and view.wait_ms > wait_ms:
            refused_by, wait_ms = view.demand.key, view.wait_ms
    return refused_by, 0 if wait_ms == NEVER_MS else wait_ms


def _grant(request: AdmissionRequest, spends: Sequence[_SpendView]) -> int:
    room = [s.demand.limit.limit_nano_usd - s.window.spent - s.window.held for s in spends if not s.demand.limit.shadow]
    return min([request.hold_nano_usd, *room])


def _rate_state(rate: _RateView, now: int) -> RateState:
    limit = rate.demand.limit
    if rate.bucket is None:
        remaining, reset_ms = limit.capacity - rate.open, 0
    else:
        missing = limit.capacity * limit.window_ms - rate.bucket.level
        remaining = rate.bucket.level // limit.window_ms
        reset_ms = -(-missing // limit.refill_units) + rate.bucket.at_ms - now if missing > 0 else 0
    return RateState(key=rate.demand.key, remaining=max(0, remaining), reset_ms=reset_ms, retry_after_ms=rate.wait_ms)


def _spend_state(spend: _SpendView) -> SpendState:
    return SpendState(
        key=spend.demand.key,
        spent_nano_usd=spend.window.spent,
        held_nano_usd=spend.window.held,
        limit_nano_usd=spend.demand.limit.limit_nano_usd,
        resume_at_ms=spend.resume_ms,
        warned_permille=_crossed(spend.demand, spend.window),
    )


def _decision(
    request: AdmissionRequest,
    now: int,
    *,
    refused_by: str | None,
    wait_ms: int,
    granted: int,
    rates: Sequence[_RateView],
    spends: Sequence[_SpendView],
) -> Decision:
    views: list[_RateView | _SpendView] = [*rates, *spends]
    return Decision(
        reservation_id=request.reservation_id,
        admitted=refused_by is None,
        refused_by=refused_by,
        shadow_refused_by=tuple(view.demand.key for view in views if not view.fits and view.demand.limit.shadow),
        retry_after_ms=wait_ms,
        held_nano_usd=granted,
        now_ms=now,
        rate=tuple(_rate_state(rate, now) for rate in rates),
        spend=tuple(_spend_state(spend) for spend in spends),
    )


def _count(state: OrgState, demands: AdmissionRequest, amounts: dict[str, int]) -> None:
    credential, capability = demands.totals
    for name, amount in amounts.items():
        if amount:
            state.totals[f"{credential}|{capability}|{name}"] += amount
