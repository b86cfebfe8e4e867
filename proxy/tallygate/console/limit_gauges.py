"""The gauges of limits: what is spent, held and left of each limit of an organization and of its credentials, as enforced now.

However many organizations and credentials there are, one scrape shows a bounded number of limits, fair by organization: where all
of them are too many, each organization shows the same number at most, its own before those of its credentials. The spend limits of
an organization itself are always shown.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import is_
from typing import Final

from tallygate.console.ports import LimitReading, Store
from tallygate.domain.admission import CalendarPeriod, LimitQuestion, LimitStates, RateDemand, WindowState
from tallygate.domain.bound_limits import Bound, bound_rates, bound_spends, spend_demand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.instants import duration_text
from tallygate.domain.limit_words import mode_of
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import RateLimit, Taken
from tallygate.domain.spend_limit import SpendLimit, WindowKind
from tallygate.telemetry import metrics
from tallygate.telemetry.metric import NOTHING, InParts, Labels, Samples, Standing, standing_after

LIMITS_MAX: Final = 50_000  # shown by one scrape, beside the spend limits of organizations themselves
LIMITS_AT_ONCE: Final = 100  # of one read, for which the store does nothing else
READS_AT_ONCE: Final = 2  # in flight, so that a scrape does not crowd out admissions
LIMITS_KEPT_MAX: Final = 10_000  # whose states, samples and lines are kept until the next scrape, at about a kilobyte each
Months = tuple[CalendarPeriod, ...]
_Calendar = tuple[str, int]  # a time zone, and the day on which months begin
_OF_RATES: Final = (metrics.RATE_UNITS, metrics.RATE_BURST)  # the same whatever is left
_OF_SPENDS: Final = (metrics.SPEND_LIMIT, metrics.LIMIT_ALLOWED)  # the same whatever is spent
_MOVED: Final = (
    metrics.RATE_REMAINING,
    *(metrics.LIMIT_SPENT, metrics.LIMIT_HELD, metrics.LIMIT_RESUME),
    *(metrics.SPEND_WINDOW, metrics.SPEND_HELD, metrics.PAUSED, metrics.SPEND_RESUME),
)
_GAUGES: Final = (*_OF_RATES, *_OF_SPENDS, *_MOVED)
_NO_SPENDS: Final = (NOTHING,) * len(_OF_SPENDS)
_NOTHING: Final = (NOTHING,) * len(_GAUGES)


@dataclass(frozen=True, slots=True)
class _Rate:
    """A rate limit that is shown."""

    labels: Labels
    demand: RateDemand


@dataclass(frozen=True, slots=True)
class _Spend:
    """A spend limit that is shown."""

    labels: Labels
    bound: Bound[SpendLimit]


_Limits = Sequence[_Rate | _Spend]
_Shown = Sequence[Standing]  # in the order of _GAUGES


class _Part:
    """Limits of one organization that one read has."""

    def __init__(self, organization: Organization, limits: _Limits) -> None:
        self.organization = organization
        self.rates = [limit for limit in limits if isinstance(limit, _Rate)]
        self.spends = [limit for limit in limits if isinstance(limit, _Spend)]
        self._demands = [rate.demand for rate in self.rates]
        has_months = any(spend.bound.limit.kind is WindowKind.CALENDAR_MONTH for spend in self.spends)
        self.calendar = (organization.time_zone, organization.billing_day) if has_months else None
        self.of_rates = _of_rates(self.rates)
        self.of_spends = _of_spends(self.spends)

    def question(self, months_of: Callable[[_Calendar], Months]) -> LimitQuestion:
        months = () if self.calendar is None else months_of(self.calendar)
        spends = [spend_demand(spend.bound, months) for spend in self.spends]
        return LimitQuestion(self.organization.id, self._demands, spends)


class _Read:
    """Parts that are read together. What is asked is kept until a month changes, samples for as long as their states are the same.

    keeps   False: everything is made anew each time
    """

    def __init__(self, parts: Sequence[_Part], *, keeps: bool) -> None:
        self._parts = parts
        self._keeps = keeps
        self._calendars = {part.calendar for part in parts if part.calendar is not None}
        self._asked: tuple[Sequence[Months], LimitReading] | None = None
        self._states: Sequence[LimitStates | None] = [None] * len(parts)
        self._shown: Sequence[_Shown] = [_NOTHING] * len(parts)

    async def samples(self, store: Store, months_of: Callable[[_Calendar], Months]) -> Sequence[_Shown]:
        """Of each part. Raises StoreError."""
        months = list(map(months_of, self._calendars))
        if self._asked is None or self._asked[0] != months:
            reading = store.limit_reading([part.question(months_of) for part in self._parts])
        else:
            reading = self._asked[1]
        states = await reading.read()
        if states is self._states:
            return self._shown
        shown = [
            samples if state is known else standing_after(samples, _samples_of(part, state))
            for part, state, known, samples in zip(self._parts, states, self._states, self._shown, strict=True)
        ]
        if self._keeps:
            self._asked, self._states, self._shown = (months, reading), states, shown
        return shown


class LimitGauges:
    """Reads the gauges. What is listed is kept for as long as the configuration has the same organizations."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        """now_ms: for the months of spend limits, among which the store's own clock chooses."""
        self._store = store
        self._now_ms = now_ms
        self._listed: dict[str, tuple[Organization, _Limits]] = {}
        self._reads: tuple[Sequence[Organization], Sequence[_Read], int] = ((), (), 0)

    async def read(self, organizations: Sequence[Organization]) -> Samples:
        """Raises StoreError if the store does not answer."""
        reads, skipped = self._reads_of(organizations)
        now_ms = self._now_ms()

        @cache
        def months_of(calendar: _Calendar) -> Months:
            return months_around(now_ms, *calendar)

        shown: list[_Shown] = []
        for start in range(0, len(reads), READS_AT_ONCE):
            at_once = reads[start : start + READS_AT_ONCE]
            for samples in await asyncio.gather(*(read.samples(self._store, months_of) for read in at_once)):
                shown += samples
        return {**InParts.of(_GAUGES, shown), metrics.LIMITS_SKIPPED: {(): skipped}}

    def _reads_of(self, organizations: Sequence[Organization]) -> tuple[Sequence[_Read], int]:
        """The reads, and how many limits are in none of them."""
        known, reads, skipped = self._reads
        if len(known) != len(organizations) or not all(map(is_, known, organizations)):
            self._listed = {org.id: (org, self._limits_of(org)) for org in organizations}
            share = fair_share([len(limits) for _, limits in self._listed.values()], LIMITS_MAX)
            cut = [(org, limits, _cut(limits, share)) for org, limits in self._listed.values()]
            together = _together(_Part(org, some) for org, _, shown in cut for some in _parts(shown))
            reads = [_Read(parts, keeps=number * LIMITS_AT_ONCE < LIMITS_KEPT_MAX) for number, parts in enumerate(together)]
            skipped = sum(len(limits) - len(shown) for _, limits, shown in cut)
            self._reads = tuple(organizations), reads, skipped
        return reads, skipped

    def _limits_of(self, organization: Organization) -> _Limits:
        known = self._listed.get(organization.id)
        return known[1] if known is not None and known[0] is organization else list(_list_limits(organization))


def fair_share(counts: Iterable[int], total: int) -> int:
    """The most that each may have of its count, so that all together have at most the total."""
    ascending = sorted(counts)
    left = total
    for number, count in enumerate(ascending):
        others = len(ascending) - number
        if count * others > left:
            return left // others
        left -= count
    return total


def _list_limits(organization: Organization) -> Iterator[_Rate | _Spend]:
    """Every limit in the order in which they are shown: the organization's own spend limits are the first."""
    for credential in (None, *organization.credentials):
        of = None if credential is None else credential.id
        yield from (_spend(organization.id, bound) for bound in bound_spends(organization, credential) if bound.credential == of)
        yield from (_rate(organization.id, bound) for bound in bound_rates(organization, credential) if bound.credential == of)


def _spend(org: str, bound: Bound[SpendLimit]) -> _Spend:
    limit = bound.limit
    window = duration_text(limit.window_ms) if limit.window_ms else "month"
    return _Spend((org, bound.credential or "", limit.name, window, mode_of(limit)), bound)


def _rate(org: str, bound: Bound[RateLimit]) -> _Rate:
    limit = bound.limit
    window = "" if limit.quantity.taken is Taken.WHILE_OPEN else duration_text(limit.window_ms)
    labels = (org, bound.credential or "", limit.capability or "", limit.name, limit.quantity.value, window, mode_of(limit))
    return _Rate(labels, RateDemand(key=bound.key, limit=limit, units=1))


def _cut(limits: _Limits, share: int) -> _Limits:
    """Those that are shown: as many as the share, and the organization's own spend limits in any case."""
    if len(limits) <= share:
        return limits
    own = sum(1 for limit in limits if isinstance(limit, _Spend) and limit.bound.credential is None)
    return limits[: max(share, own)]


def _parts(limits: _Limits) -> Iterator[_Limits]:
    """Limits of an organization, as many as one read has at most."""
    return (limits[start : start + LIMITS_AT_ONCE] for start in range(0, len(limits), LIMITS_AT_ONCE))


def _together(parts: Iterable[_Part]) -> Iterator[Sequence[_Part]]:
    """The parts of one read each: as many of them as have LIMITS_AT_ONCE limits together."""
    some: list[_Part] = []
    limits = 0
    for part in parts:
        more = len(part.rates) + len(part.spends)
        if some and limits + more > LIMITS_AT_ONCE:
            yield some
            some, limits = [], 0
        some.append(part)
        limits += more
    if some:
        yield some


def _of_rates(rates: Sequence[_Rate]) -> Sequence[Standing]:
    """The numbers of _OF_RATES."""
    units, burst = Standing(), Standing()
    for rate in rates:
        limit = rate.demand.limit
        units[rate.labels] = limit.refill_units or limit.capacity
        if limit.capacity != units[rate.labels]:
            burst[rate.labels] = limit.capacity
    return units, burst


def _of_spends(spends: Sequence[_Spend]) -> Sequence[Standing]:
    """The numbers of _OF_SPENDS."""
    first, allowed = Standing(), Standing()
    for spend in spends:
        allowed[spend.labels] = spend.bound.limit.limit_nano_usd
        if spend.bound.credential is None:
            first.setdefault(spend.labels[:1], spend.bound.limit.limit_nano_usd)
    return first, allowed


def _samples_of(part: _Part, states: LimitStates) -> _Shown:
    """Spend that the store has lost is not shown until it is rebuilt: it is not 0."""
    remaining = Standing({rate.labels: state.remaining for rate, state in zip(part.rates, states.rate, strict=True)})
    if not states.knows_spend:
        return *part.of_rates, *_NO_SPENDS, remaining, *_spend_samples((), ())
    return *part.of_rates, *part.of_spends, remaining, *_spend_samples(part.spends, states.spend)


def _spend_samples(spends: Sequence[_Spend], states: Sequence[WindowState]) -> Sequence[Standing]:
    """Those of _MOVED that are about spend. An organization has the numbers of its first spend limit, and those that are enforced
    pause it.
    """
    spent, held, resume = Standing(), Standing(), Standing()
    first_spent, first_held, paused, paused_until = Standing(), Standing(), Standing(), Standing()
    for spend, state in zip(spends, states, strict=True):
        labels, pause_ms = spend.labels, 0 if spend.bound.limit.shadow else state.paused_until_ms
        spent[labels] = state.spent_nano_usd
        held[labels] = state.held_nano_usd
        if pause_ms:
            resume[labels] = pause_ms
        if spend.bound.credential is None:
            org = labels[:1]
            if org not in paused:
                first_spent[org] = state.spent_nano_usd
                first_held[org] = state.held_nano_usd
                paused[org] = 0
            if pause_ms:
                paused[org] = 1
                paused_until[org] = max(pause_ms, paused_until.get(org, 0))
    return spent, held, resume, first_spent, first_held, paused, paused_until
