"""The reference model of the limiter in plain Python, which the scripts must equal. Other tests use it as a fast limiter.

One process, no I/O, no lock: no method awaits. A random trace over scripts and model must agree in every answer and in all state.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from tallygate.domain.admission import (
    LEDGER_BACKLOG,
    Account,
    AdmissionRequest,
    Decision,
    LimitStates,
    RateDemand,
    Settlement,
    SpendDemand,
    Warned,
    WindowState,
)
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.rate_limit import Taken
from tallygate.limiter.keys import PARTITIONS, partition_of
from tallygate.limiter.port import ReservationEndedError
from tallygate.limiter.redis_limiter import ENDED_MS, EXPIRED_MS, PART_ENDED_MS, withdrawn
from tallygate.limiter.reference_pauses import WindowNotices
from tallygate.limiter.reference_rates import RateView, drop_bucket_if_full, give_back, rate_state, rate_view, return_units, take
from tallygate.limiter.reference_spend import (
    SpendView,
    copy_of,
    drop_window_if_idle,
    is_ahead,
    move,
    moved,
    open_window,
    post,
    restore,
    resume_at,
    spend_state,
    spend_view,
)
from tallygate.limiter.reference_state import AHEAD_MS, NEVER_MS, OTHERS_MS, Hold, OrgState, StreamEvent, StreamNotice
from tallygate.limiter.wire import DemandWords, check_account, check_admission, check_spend, require_whole

TIDIES_ONE_OF: Final = 8
COLLECT_MAX: Final = 32


class ReferenceLimiter:
    """Implements `Limiter` in memory. now_ms is the server's clock."""

    def __init__(self, now_ms: Callable[[], int], *, ended_ms: int = ENDED_MS, expired_ms: int = EXPIRED_MS) -> None:
        self._now_ms = now_ms
        self._is_full = False
        self._ended_ms = ended_ms
        self._expired_ms = expired_ms
        self.orgs: dict[str, OrgState] = defaultdict(OrgState)
        self.events: dict[int, list[StreamEvent | StreamNotice]] = defaultdict(list)
        self.wiped_partitions: set[int] = set()

    def close_for_backlog(self, is_full: bool) -> None:  # noqa: FBT001 - as `RedisLimiter` has it
        self._is_full = is_full

    async def admit(self, request: AdmissionRequest, words: DemandWords | None = None) -> Decision:
        del words
        return self._decide(request, takes=True)

    async def preview(self, request: AdmissionRequest) -> Decision:
        return self._decide(request, takes=False)

    def _decide(self, request: AdmissionRequest, *, takes: bool) -> Decision:
        check_admission(request)
        now = self._now_ms()
        self._require_known_spend(request)
        state = self.orgs[request.org]
        known = state.holds.get(request.reservation_id)
        if known is not None:
            return _known_decision(request, known)
        tidies = request.reservation_id.encode()[-1] % TIDIES_ONE_OF == 0
        if tidies:
            self._collect(request.org, now, COLLECT_MAX)
        rates, spends = self._views(request, now)
        if not tidies and not _has_room(request, rates, spends):
            self._collect(request.org, now, COLLECT_MAX)
            rates, spends = self._views(request, now)

        notices = self._notices(request.org, now)
        refused_by, wait_ms = _refusal(rates, spends)
        if self._is_full:
            refused_by, wait_ms = LEDGER_BACKLOG, OTHERS_MS
        if refused_by is not None:
            for spend in spends:
                if refused_by != LEDGER_BACKLOG and not spend.demand.limit.shadow and spend.resume_ms > 0:
                    notices.refused(spend, request.hold_min_nano_usd)
            return _decision(request, now, refused_by=refused_by, wait_ms=wait_ms, granted=0, rates=rates, spends=spends)

        if not takes:
            return _decision(request, now, refused_by=None, wait_ms=0, granted=0, rates=rates, spends=spends)
        granted = _grant(request, spends)
        for rate in rates:
            take(state, rate)
        for spend in spends:
            open_window(state, spend.demand, spend.window, now)
            spend.window.held += granted
            notices.admitted(spend, granted)
        decision = _decision(request, now, refused_by=None, wait_ms=0, granted=granted, rates=rates, spends=spends)
        state.holds[request.reservation_id] = Hold(
            admission=request,
            decision=decision,
            taken=tuple(rate.taken for rate in rates),
            granted=granted,
            cost=min(request.floor_nano_usd, granted),
            prompt=request.floor_prompt_tokens,
            completion=request.floor_completion_tokens,
            at_ms=now + request.lease_ms,
            event=request.event,
        )
        state.due[request.reservation_id] = now + request.lease_ms
        return decision

    def _views(self, request: AdmissionRequest, now: int) -> tuple[list[RateView], list[SpendView]]:
        """Every demand against its bucket or window as it stands."""
        self._require_none_ahead(request, now)
        state = self.orgs[request.org]
        return (
            [rate_view(state, demand, now) for demand in request.rate],
            [spend_view(state, demand, request.hold_min_nano_usd, now) for demand in request.spend],
        )

    async def checkpoint(self, accounts: Sequence[Account]) -> None:
        now = self._now_ms()
        for account in accounts:
            require_whole("cost_nano_usd", account.cost_nano_usd)
            require_whole("prompt_tokens", account.prompt_tokens)
            require_whole("completion_tokens", account.completion_tokens)
            admission = account.admission
            state = self.orgs[admission.org]
            hold = state.holds.get(admission.reservation_id)
            if not isinstance(hold, Hold) or hold.is_expired:
                continue
            was_ahead = hold.at_ms - now > admission.lease_ms + AHEAD_MS
            hold.at_ms = max(0 if was_ahead else hold.at_ms, now + admission.lease_ms)
            state.due[admission.reservation_id] = hold.at_ms
            if account.cost_nano_usd >= hold.cost:
                hold.cost, hold.prompt, hold.completion = (
                    account.cost_nano_usd,
                    account.prompt_tokens,
                    account.completion_tokens,
                )
                hold.event = account.event

    async def settle(self, account: Account) -> Settlement:
        return self._end(account)

    async def defer(self, account: Account) -> Settlement:
        check_account(account)
        admission, now = account.admission, self._now_ms()
        self._require_known_spend(admission)
        state = self.orgs[admission.org]
        known = state.holds.get(admission.reservation_id)
        if isinstance(known, Settlement):
            return replace(known, repeated=True, warned=(), sent_once=False)
        unheld, late = known is None, known is not None and known.is_expired
        if known is None:
            known = self._hold_again(state, account, now)
        if not late:
            taken = list(known.taken)
            for i, rate in enumerate(known.admission.rate):
                if rate.limit.quantity.taken is Taken.WHILE_OPEN:
                    give_back(state, rate, taken[i], taken[i], now)
                    taken[i] = 0
            known.taken, known.is_deferred, known.event = tuple(taken), True, account.event
            known.cost = min(account.cost_nano_usd, known.granted)
            known.prompt, known.completion = account.prompt_tokens, account.completion_tokens
            known.at_ms = state.due[admission.reservation_id] = now + admission.lease_ms
        self.events[partition_of(admission.org)].append(
            StreamEvent(
                event_id=admission.reservation_id,
                kind="deferred",
                event=account.job,
                settled_at_ms=now,
                cost_nano_usd=0,
                posted_nano_usd=0,
                prompt_tokens=0,
                completion_tokens=0,
                flags="",
            )
        )
        return Settlement(settled_at_ms=now, late=late, unheld=unheld)

    def _hold_again(self, state: OrgState, account: Account, now: int) -> Hold:
        admission = account.admission
        self._require_none_ahead(admission, now)
        for demand in admission.spend:
            window = moved(state, demand, now)
            open_window(state, demand, window, now)
            window.held += admission.hold_nano_usd
        hold = state.holds[admission.reservation_id] = Hold(
            admission=admission,
            decision=None,
            taken=(0,) * len(admission.rate),
            granted=admission.hold_nano_usd,
            cost=0,
            prompt=0,
            completion=0,
            at_ms=now,
            event=b"",
        )
        return hold

    async def withdraw(self, admission: AdmissionRequest) -> None:
        now = self._now_ms()
        state = self.orgs[admission.org]
        known = state.holds.get(admission.reservation_id)
        if isinstance(known, Settlement):
            return
        if known is not None and known.is_expired:
            await self.settle(withdrawn(admission))
            return
        if known is not None:
            for rate, taken in zip(known.admission.rate, known.taken, strict=True):
                give_back(state, rate, taken, taken, now)
            for demand in known.admission.spend:
                window = moved(state, demand, now)
                window.held = max(0, window.held - known.granted)
        state.holds[admission.reservation_id] = Settlement(settled_at_ms=now)
        state.due[admission.reservation_id] = now + self._ended_ms

    async def forget(self, settled: Sequence[tuple[str, Sequence[str]]]) -> None:
        for org, ids in settled:
            state = self.orgs[org]
            for each in ids:
                if isinstance(state.holds.get(each), Settlement):
                    del state.holds[each], state.due[each]

    async def read_limits(self, org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> LimitStates:
        check_spend(spend)
        now = self._now_ms()
        state = self.orgs[org]
        return LimitStates(
            now_ms=now,
            knows_spend=partition_of(org) not in self.wiped_partitions,
            rate=tuple(rate_state(rate_view(state, demand, now, writes=False), now) for demand in rate),
            spend=self._window_states(state, spend, now),
        )

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowState, ...]:
        return (await self.read_limits(org, (), spend)).spend

    def _window_states(self, state: OrgState, spend: Sequence[SpendDemand], now: int) -> tuple[WindowState, ...]:
        found = []
        for demand in spend:
            window = copy_of(state, demand)
            move(window, demand, now)
            paused = window.mark.resume_ms if window.mark is not None and window.mark.resume_ms > now else 0
            limit = demand.limit.limit_nano_usd
            if window.spent >= limit > 0:
                paused = max(paused, resume_at(window, demand, window.spent + 1 - limit, now))
            found.append(
                WindowState(key=demand.key, spent_nano_usd=window.spent, held_nano_usd=window.held, paused_until_ms=paused)
            )
        return tuple(found)

    def sweep(self, org: str, most: int = 64) -> tuple[int, int]:
        """Expire and drop due entries of one organization, at most so many. Return their number, and the holds among them."""
        return self._collect(org, self._now_ms(), most)

    def wipe(self) -> None:
        """Lose everything, as an emptied Redis would: spend demands raise LimiterWipedError until `wiped_partitions` is empty."""
        self.orgs.clear()
        self.events.clear()
        self.wiped_partitions.update(range(PARTITIONS))

    def restore(self, org: str, demand: SpendDemand, posted: Sequence[tuple[int, int]]) -> int:
        """Set a window to the ledger's spend, and return how much of it counts now."""
        return restore(self.orgs[org], demand, posted, self._now_ms())

    def reanchor(self, org: str, lease_ms: int, lease_max_ms: int) -> int:
        """Move back times that a clock ahead had set: leases, and the retention of ended reservations. Return how many."""
        now, state, moved_back = self._now_ms(), self.orgs[org], 0
        for member, at in state.due.items():
            hold = state.holds.get(member)
            if hold is None or at <= now + lease_max_ms:
                continue
            if isinstance(hold, Hold) and not hold.is_expired:
                if hold.is_deferred:
                    continue
                hold.at_ms = state.due[member] = now + lease_ms
            elif at > now + self._expired_ms:
                state.due[member] = now + self._expired_ms
                if isinstance(hold, Hold):
                    hold.at_ms = min(hold.at_ms, now)
            else:
                continue
            moved_back += 1
        return moved_back

    def _require_none_ahead(self, request: AdmissionRequest, now: int) -> None:
        """Close the partition of a window that is ahead of the clock."""
        state = self.orgs[request.org]
        windows = [(demand, moved(state, demand, now)) for demand in request.spend]
        if any(is_ahead(state, demand, window, now) for demand, window in windows):
            self.wiped_partitions.add(partition_of(request.org))
            self._require_known_spend(request)

    def _require_known_spend(self, request: AdmissionRequest) -> None:
        if request.spend and partition_of(request.org) in self.wiped_partitions:
            raise LimiterWipedError(f"the limiter's store has lost the spend of {request.org}'s partition")

    def _end(self, account: Account) -> Settlement:
        check_account(account)
        admission = account.admission
        now = self._now_ms()
        self._require_known_spend(admission)
        state = self.orgs[admission.org]
        known = state.holds.get(admission.reservation_id)
        if isinstance(known, Settlement):
            return replace(known, repeated=True, warned=(), sent_once=False)
        demands = known.admission if known else admission
        self._require_none_ahead(demands, now)
        known = known or _part_of(state, account)
        late, unheld = known is not None and known.is_expired, known is None
        expired_at_ms = known.at_ms if known and late else None
        before_cost, before_prompt, before_completion = (
            (known.cost, known.prompt, known.completion) if known and late else (0, 0, 0)
        )

        for i, rate in enumerate(demands.rate):
            taken = known.taken[i] if known and not late else 0
            tokens = before_prompt + before_completion - account.prompt_tokens - account.completion_tokens
            return_units(state, rate, taken, taken + tokens, now)
        warned, notices = list[Warned](), self._notices(admission.org, now)
        for demand in demands.spend:
            window = moved(state, demand, now)
            if known and not late:
                window.held = max(0, window.held - known.granted)
            time_ms = now if expired_at_ms is None else expired_at_ms
            post(state, demand, window, account.cost_nano_usd - before_cost, now, time_ms=time_ms)
            warned += [Warned(key=demand.key, permille=permille) for permille in notices.crossed(demand, window)]

        over = max(0, account.cost_nano_usd - known.granted) if known else 0
        flags = ",".join(flag for flag, is_so in (("overrun", over > 0), ("late", late), ("unheld", unheld)) if is_so)
        kind = "late" if late else "unheld" if unheld else "settled" if account.is_owed else "released"
        self.events[partition_of(admission.org)].append(
            StreamEvent(
                event_id=admission.reservation_id,
                kind=kind,
                event=account.event,
                settled_at_ms=now,
                cost_nano_usd=account.cost_nano_usd,
                posted_nano_usd=account.cost_nano_usd - before_cost,
                prompt_tokens=account.prompt_tokens,
                completion_tokens=account.completion_tokens,
                flags=flags,
                expired_at_ms=expired_at_ms,
            )
        )
        settlement = Settlement(
            settled_at_ms=now, over_nano_usd=over, late=late, unheld=unheld, warned=tuple(warned), sent_once=True
        )
        state.holds[admission.reservation_id] = settlement
        ended_ms = min(self._ended_ms, PART_ENDED_MS) if account.part_of else self._ended_ms
        state.due[admission.reservation_id] = now + (self._expired_ms if late else ended_ms)
        return settlement

    def _collect(self, org: str, now: int, most: int) -> tuple[int, int]:
        state, expired = self.orgs[org], 0
        due = sorted((at, member) for member, at in state.due.items() if at <= now)[:most]
        for _, member in due:
            kind = member[:2]
            if kind == "w|":
                drop_window_if_idle(state, member, now)
            elif kind == "b|":
                drop_bucket_if_full(state, member, now)
            elif kind == "p|":
                self._notices(org, now).end_if_over(member)
            else:
                hold = state.holds.get(member)
                if isinstance(hold, Hold) and not hold.is_expired:
                    self._expire(org, member, hold, now)
                    expired += 1
                else:
                    state.holds.pop(member, None)
                    del state.due[member]
        return len(due), expired

    def _notices(self, org: str, now: int) -> WindowNotices:
        return WindowNotices(self.events[partition_of(org)], self.orgs[org], org, now)

    def _expire(self, org: str, reservation_id: str, hold: Hold, now: int) -> None:
        state = self.orgs[org]
        for rate, taken in zip(hold.admission.rate, hold.taken, strict=True):
            return_units(state, rate, taken, taken - hold.prompt - hold.completion, now)
        for demand in hold.admission.spend:
            window = moved(state, demand, now)
            window.held = max(0, window.held - hold.granted)
            post(state, demand, window, hold.cost, now, time_ms=now)
            self._notices(org, now).crossed(demand, window)
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
        hold.is_expired, hold.at_ms = True, now
        state.due[reservation_id] = now + self._expired_ms


def _part_of(state: OrgState, account: Account) -> Hold | None:
    """Take a part's cost out of the hold of the deferred reservation that it belongs to."""
    whole = state.holds.get(account.part_of)
    if not isinstance(whole, Hold) or whole.is_expired:
        return None
    taken = min(account.cost_nano_usd, whole.granted)
    whole.granted -= taken
    whole.cost = min(whole.cost, whole.granted)
    return Hold(
        admission=account.admission,
        decision=None,
        taken=(0,) * len(account.admission.rate),
        granted=taken,
        cost=0,
        prompt=0,
        completion=0,
        at_ms=0,
        event=b"",
    )


def _known_decision(request: AdmissionRequest, known: Hold | Settlement) -> Decision:
    if isinstance(known, Hold) and not known.is_expired and known.decision is not None and not known.is_deferred:
        return replace(known.decision, sent_once=False)
    status = ("expired" if known.is_expired else "deferred") if isinstance(known, Hold) else "settled"
    raise ReservationEndedError(f"reservation {request.reservation_id} has ended: {status}")


def _refusal(rates: Sequence[RateView], spends: Sequence[SpendView]) -> tuple[str | None, int]:
    """Find the refusing demand with the longest wait; the first of equals."""
    refused_by, wait_ms = None, 0
    views: list[RateView | SpendView] = [*rates, *spends]
    for view in views:
        if not view.fits and not view.demand.limit.shadow and view.wait_ms > wait_ms:
            refused_by, wait_ms = view.demand.key, view.wait_ms
    return refused_by, 0 if wait_ms == NEVER_MS else wait_ms


def _has_room(request: AdmissionRequest, rates: Sequence[RateView], spends: Sequence[SpendView]) -> bool:
    """Whether every demand fits whole, shadow or not."""
    rooms = [s.demand.limit.limit_nano_usd - s.window.spent - s.window.held for s in spends]
    return all(rate.fits for rate in rates) and all(request.hold_nano_usd <= room for room in rooms)


def _grant(request: AdmissionRequest, spends: Sequence[SpendView]) -> int:
    room = [s.demand.limit.limit_nano_usd - s.window.spent - s.window.held for s in spends if not s.demand.limit.shadow]
    return min([request.hold_nano_usd, *room])


def _decision(
    request: AdmissionRequest,
    now: int,
    *,
    refused_by: str | None,
    wait_ms: int,
    granted: int,
    rates: Sequence[RateView],
    spends: Sequence[SpendView],
) -> Decision:
    views: list[RateView | SpendView] = [*rates, *spends]
    return Decision(
        reservation_id=request.reservation_id,
        admitted=refused_by is None,
        refused_by=refused_by,
        shadow_refused_by=tuple(view.demand.key for view in views if not view.fits and view.demand.limit.shadow),
        retry_after_ms=wait_ms,
        held_nano_usd=granted,
        now_ms=now,
        rate=tuple(rate_state(rate, now) for rate in rates),
        spend=tuple(spend_state(spend) for spend in spends),
        sent_once=True,
    )
