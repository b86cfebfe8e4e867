"""Spend windows of the reference limiter: the arithmetic of the scripts' second half."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallygate.domain.admission import CalendarPeriod, SpendDemand, SpendState
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from tallygate.limiter.reference_state import (
    AHEAD_MS,
    AHEAD_PART_MS,
    ANNOUNCED_EVERY_MS,
    DAY_MS,
    NEVER_MS,
    OTHERS_MS,
    OrgState,
    Window,
)
from tallygate.limiter.wire import threshold_amounts, window_buckets


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
    """Move a window to now: buckets at or below the cutoff leave, a later calendar period starts at zero."""
    if demand.limit.kind is WindowKind.CALENDAR_MONTH:
        period = _period_at(demand, now)
        if window.period is None:
            window.period = period
        elif window.period.id != period.id and window.period.end_ms <= period.start_ms <= now:
            window.period, window.spent, window.idle_ms = period, 0, None
        return
    window.at = max(window.at, now // SPEND_BUCKET_MS)
    cutoff = window.at - window_buckets(demand)
    for index in [index for index in window.posted if index <= cutoff]:
        window.spent -= window.posted.pop(index)


def _period_at(demand: SpendDemand, now: int) -> CalendarPeriod:
    """The period that holds now; outside all of them, the nearest."""
    return next((period for period in demand.periods if now < period.end_ms), demand.periods[-1])


def moved(state: OrgState, demand: SpendDemand, now: int) -> Window:
    window = state.windows.get(demand.key) or Window(at=-1)
    move(window, demand, now)
    return window


def is_ahead(state: OrgState, demand: SpendDemand, window: Window, now: int) -> bool:
    """Return whether a window was moved by a clock that was ahead and has been corrected since."""
    if window.period is None:
        return window.at * SPEND_BUCKET_MS - now > min(AHEAD_MS, window_buckets(demand) * AHEAD_PART_MS)
    return demand.key in state.windows and now < window.period.start_ms


def spend_view(state: OrgState, demand: SpendDemand, least: int, now: int) -> SpendView:
    window = moved(state, demand, now)
    limit = demand.limit.limit_nano_usd
    if least <= limit - window.spent - window.held:
        return SpendView(demand, window, fits=True, resume_ms=0, wait_ms=0)
    if least > limit:
        return SpendView(demand, window, fits=False, resume_ms=-1, wait_ms=NEVER_MS)
    alone = window.spent + least - limit
    resume_ms = resume_at(window, demand, min(alone + window.held, window.spent), now) if alone > 0 else -1
    return SpendView(demand, window, fits=False, resume_ms=resume_ms, wait_ms=resume_ms - now if resume_ms > 0 else OTHERS_MS)


def resume_at(window: Window, demand: SpendDemand, need: int, now: int) -> int:
    """The time when `need` of the spend will have left the window, to the bucket; -1 if all of it is not enough.

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


def post(state: OrgState, demand: SpendDemand, window: Window, amount: int, now: int, *, time_ms: int) -> None:
    """Add spend to a window as of a time, or subtract it; what has left does not count. Re-arm thresholds above the new sum."""
    open_window(state, demand, window, now)
    window.warned = min(window.warned, crossed(demand, window))
    if window.period is not None:
        if time_ms >= window.period.start_ms:
            window.spent += max(amount, -window.spent)
        return
    index = min(time_ms // SPEND_BUCKET_MS, window.at)
    if index <= window.at - window_buckets(demand):
        return
    amount = max(amount, -window.posted.get(index, 0))
    window.spent += amount
    window.posted[index] = window.posted.get(index, 0) + amount
    if window.posted[index] == 0:
        del window.posted[index]


def restore(state: OrgState, demand: SpendDemand, posted: Sequence[tuple[int, int]], now: int) -> int:
    """Replace a window's spend, set its time to now, and return how much counts."""
    window = moved(state, demand, now)
    window.at = now // SPEND_BUCKET_MS
    window.posted.clear()
    if window.period is not None:
        window.period, window.idle_ms = _period_at(demand, now), None
        window.spent = sum(amount for at, amount in posted if window.period.start_ms <= at < window.period.end_ms)
    else:
        for at, amount in posted:
            if at // SPEND_BUCKET_MS > window.at - window_buckets(demand):
                index = min(at // SPEND_BUCKET_MS, window.at)
                window.posted[index] = window.posted.get(index, 0) + amount
        window.spent = sum(window.posted.values())
    open_window(state, demand, window, now)
    window.warned = crossed(demand, window)
    window.announced_ms = min(window.announced_ms, now)
    mark = window.mark
    if mark is not None and mark.refused_ms > now:
        announce_ms = min(mark.announce_ms, now + ANNOUNCED_EVERY_MS)
        window.mark = replace(mark, resume_ms=now, refused_ms=now, announce_ms=announce_ms)
        state.due[f"p|{window_buckets(demand)}|{demand.key}"] = now
    return window.spent


def move_at_rest(window: Window, buckets: int, now: int) -> None:
    """Move a rolling window that no request demands at the moment."""
    if window.period is None:
        window.at = max(window.at, now // SPEND_BUCKET_MS)
        for index in [index for index in window.posted if index <= window.at - buckets]:
            window.spent -= window.posted.pop(index)


def drop_window_if_idle(state: OrgState, member: str, now: int) -> None:
    _, buckets_text, key = member.split("|", 2)
    buckets, window = int(buckets_text), state.windows[key]
    spent_before, at_before = window.spent, window.at
    move_at_rest(window, buckets, now)
    spent_until = now + buckets * SPEND_BUCKET_MS if window.spent > 0 else 0
    if window.period is not None:
        spent_until = window.period.end_ms
    if spent_until > now or window.held > 0 or window.mark is not None:
        state.due[member] = max(spent_until, now + DAY_MS)
        return
    if window.period is not None:
        is_first_look = window.idle_ms is None
        window.idle_ms = now if window.idle_ms is None else window.idle_ms
        is_first_look = is_first_look or now - window.idle_ms < DAY_MS
    else:
        is_first_look = spent_before > 0 or now - at_before * SPEND_BUCKET_MS < DAY_MS
    if is_first_look:
        state.due[member] = now + DAY_MS
        return
    del state.windows[key]
    del state.due[member]


def spend_state(spend: SpendView) -> SpendState:
    return SpendState(
        spent_nano_usd=spend.window.spent,
        held_nano_usd=spend.window.held,
        limit_nano_usd=spend.demand.limit.limit_nano_usd,
        resume_at_ms=spend.resume_ms,
    )
