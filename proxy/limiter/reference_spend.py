"""Spend windows of the reference limiter: the arithmetic of the scripts' second half."""

from dataclasses import dataclass, replace

from proxy.domain.admission import SpendDemand, SpendState
from proxy.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from proxy.limiter.reference_state import DAY_MS, NEVER_MS, OTHERS_MS, OrgState, Window
from proxy.limiter.wire import threshold_amounts, window_buckets


@dataclass(slots=True)
class SpendView:
    """A spend demand against its window as it stands."""

    demand: SpendDemand
    window: Window
    fits: bool
    resume_ms: int
    wait_ms: int


def copy_of(state: OrgState, demand: SpendDemand) -> Window:
    window = state.windows.get(demand.key)
    return replace(window, posted=dict(window.posted)) if window else Window(at=-1)


def move(window: Window, demand: SpendDemand, now: int) -> None:
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


def moved(state: OrgState, demand: SpendDemand, now: int) -> Window:
    window = state.windows.get(demand.key) or Window(at=-1)
    move(window, demand, now)
    return window


def spend_view(state: OrgState, demand: SpendDemand, least: int, now: int) -> SpendView:
    window = moved(state, demand, now)
    limit = demand.limit.limit_nano_usd
    if least <= limit - window.spent - window.held:
        return SpendView(demand, window, fits=True, resume_ms=0, wait_ms=0)
    if least > limit:
        return SpendView(demand, window, fits=False, resume_ms=-1, wait_ms=NEVER_MS)
    alone = window.spent + least - limit
    resume_ms = resume_at(window, demand, alone + window.held, now) if alone > 0 else -1
    return SpendView(demand, window, fits=False, resume_ms=resume_ms, wait_ms=resume_ms - now if resume_ms > 0 else OTHERS_MS)


def resume_at(window: Window, demand: SpendDemand, need: int, now: int) -> int:
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


def open_window(state: OrgState, demand: SpendDemand, window: Window, now: int) -> None:
    if demand.key in state.windows:
        return
    state.windows[demand.key] = window
    if window.period is None:
        buckets = window_buckets(demand)
        state.due[f"w|{buckets}|{demand.key}"] = now + buckets * SPEND_BUCKET_MS
    else:
        state.due[f"w|0|{demand.key}"] = max(window.period.end_ms, now + DAY_MS)


def crossed(demand: SpendDemand, window: Window) -> int:
    return max((permille for permille, amount in threshold_amounts(demand) if window.spent >= amount), default=0)


def post(
    state: OrgState, demand: SpendDemand, window: Window, amount: int, now: int, *, posted_to: int | str | None = None
) -> None:
    """Adds to a window, or takes back from what an expiry posted if that still counts. Re-arms thresholds that spend fell below."""
    open_window(state, demand, window, now)
    window.warned = min(window.warned, crossed(demand, window))
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


def move_at_rest(window: Window, buckets: int, now: int) -> None:
    """As `move`, of a rolling window that nobody demands at the moment."""
    if window.period is None:
        window.at = max(window.at, now // SPEND_BUCKET_MS)
        for index in [index for index in window.posted if index <= window.at - buckets]:
            window.spent -= window.posted.pop(index)


def drop_window_if_idle(state: OrgState, member: str, now: int) -> None:
    _, buckets_text, key = member.split("|", 2)
    buckets, window = int(buckets_text), state.windows[key]
    move_at_rest(window, buckets, now)
    spent_until = now + buckets * SPEND_BUCKET_MS if window.spent > 0 else 0
    if window.period is not None:
        spent_until = window.period.end_ms
    if spent_until > now or window.held > 0 or window.mark is not None:
        state.due[member] = max(spent_until, now + DAY_MS)
        return
    del state.windows[key]
    del state.due[member]


def spend_state(spend: SpendView) -> SpendState:
    return SpendState(
        key=spend.demand.key,
        spent_nano_usd=spend.window.spent,
        held_nano_usd=spend.window.held,
        limit_nano_usd=spend.demand.limit.limit_nano_usd,
        resume_at_ms=spend.resume_ms,
        warned_permille=crossed(spend.demand, spend.window),
    )
