"""GET /api/spend: one organization's spend beside its limits."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from enum import StrEnum
from typing import Final, Literal

import msgspec

from tallygate.console.api_history import Dated, dated
from tallygate.console.api_parameters import integer, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ONE_ORG, Scopes
from tallygate.console.api_times import widened
from tallygate.console.spend_windows import SpendWindows, WindowOutlook, leaving_of
from tallygate.domain.admission import WindowState
from tallygate.domain.bound_limits import per_of
from tallygate.domain.calendar_months import day_start_ms, local_date, month_at
from tallygate.domain.instants import instant_text
from tallygate.domain.limit_words import spend_sentence
from tallygate.domain.limits_now import is_exceeded
from tallygate.domain.money import usd_text
from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind
from tallygate.ledger.history import Dimension, OrgScope, UsageQuery
from tallygate.ledger.limiter_windows import LimiterWindow, windows_of
from tallygate.ledger.time_buckets import DAY_MS, Bucket
from tallygate.ledger.usage_queries import UsageQueries

DAYS_DEFAULT: Final = 30
DAYS_MAX: Final = 92
WEEK_MS: Final = 7 * DAY_MS
FORECAST_BASIS: Final = "month to date, and the mean of the last 7 days for the rest of the month"

_CREDENTIAL: Final = text("credential", "A Client ID: its spend alone, and the windows of its own limits.")
_DAYS: Final = integer("days", "How many days `daily` has, today included.", least=1, most=DAYS_MAX, default=DAYS_DEFAULT)


class SpendStatus(StrEnum):
    """exceeded: a limit in shadow mode that would pause."""

    ACTIVE = "active"
    WARNING = "warning"
    EXCEEDED = "exceeded"
    PAUSED = "paused"


class Money(msgspec.Struct, frozen=True, kw_only=True):
    nano_usd: int
    usd: str


class DaySpend(msgspec.Struct, frozen=True, kw_only=True):
    """A day of the organization's time zone."""

    date: str
    cost: Money


class FreedSpend(msgspec.Struct, frozen=True, kw_only=True):
    """The spend that leaves a window on one day of the organization's time zone. first_at, last_at: of that day's amounts."""

    date: str
    first_at: str
    last_at: str
    amount: Money


class SpendWindowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One window. Where no limit binds it, limit, held and remaining are null and the spend is the ledger's.

    source      limiter: the figures that decide about requests
    resumes_at  when requests are served again, exact to the bucket; null unless paused, or if waiting does not help
    warned_at   the highest warning threshold that spend has reached, as a fraction of the limit
    frees       by day; its amounts add up to spent
    text        the limit and what is left of it, in a sentence
    """

    name: str
    kind: Literal["rolling", "calendar_month"]
    credential: str | None
    source: Literal["limiter", "ledger"]
    as_of: str
    window_seconds: int | None
    spent: Money
    held: Money | None
    limit: Money | None
    remaining: Money | None
    status: SpendStatus
    is_shadow: bool
    resumes_at: str | None
    warn_at: list[float]
    warned_at: float | None
    frees: list[FreedSpend]
    text: str


class MonthSpend(msgspec.Struct, frozen=True, kw_only=True):
    """The current month of the organization, from its billing day in its time zone. month: the calendar month in which it began."""

    month: str
    start: str
    end: str
    to_date: Money
    forecast: Money
    forecast_basis: str


class OpenJobs(msgspec.Struct, frozen=True, kw_only=True):
    """Work that providers still do: background responses and batches. held: what it was held at, whatever was settled since."""

    open: int
    held: Money


class SpendAnswer(Dated, frozen=True, kw_only=True):
    """status: of the gravest window. rolling_7_days: the window of a limit of 7 days if there is one, else the ledger's sum.

    is_whole   of `daily`: other sums are whole whatever the plan keeps
    jobs       null for a single credential
    """

    org: str
    credential: str | None
    time_zone: str
    status: SpendStatus
    daily: list[DaySpend]
    rolling_7_days: SpendWindowAnswer
    windows: list[SpendWindowAnswer]
    month: MonthSpend
    jobs: OpenJobs | None


class SpendApi:
    """The spend endpoint.

    jobs     how many jobs of an organization are open, and what they hold; raises LedgerUnavailableError
    now_ms   Unix time, for days and months; windows use the limiter's clock
    """

    def __init__(
        self,
        *,
        scopes: Scopes,
        queries: UsageQueries,
        windows: SpendWindows,
        jobs: Callable[[str], Awaitable[tuple[int, int]]],
        now_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._queries = queries
        self._windows = windows
        self._jobs = jobs
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/spend",
                handler=self._spend,
                summary="Spend of an organization beside its limits",
                parameters=(ONE_ORG, _CREDENTIAL, _DAYS),
                answer=SpendAnswer,
            ),
        )

    async def _spend(self, call: ApiCall) -> SpendAnswer:
        organization = self._scopes.one(call.access, call.values["org"])
        (scope,) = self._scopes.history((organization,))
        client_id: str | None = call.values["credential"]
        if client_id is not None:
            await self._scopes.check_credentials((organization,), (client_id,))
        now_ms = self._now_ms()
        windows = await self._limited(organization, client_id, now_ms)
        week = next((window for window in windows if window.kind == "rolling" and window.window_seconds == WEEK_MS // 1000), None)
        first_day = local_date(now_ms, organization.time_zone) - timedelta(days=call.values["days"] - 1)
        first_ms = day_start_ms(first_day, organization.time_zone)
        return SpendAnswer(
            org=organization.id,
            credential=client_id,
            time_zone=organization.time_zone,
            **dated((organization,), (scope,), first_ms, as_of_ms=now_ms, zone=organization.time_zone),
            status=max((window.status for window in windows), key=list(SpendStatus).index, default=SpendStatus.ACTIVE),
            daily=await self._daily(scope, client_id, organization.time_zone, now_ms, call.values["days"]),
            rolling_7_days=week or await self._unlimited_week(scope, client_id, organization.time_zone, now_ms),
            windows=windows,
            month=await self._month(scope, client_id, organization, now_ms),
            jobs=None if client_id is not None else await self._open_jobs(organization),
        )

    async def _open_jobs(self, organization: Organization) -> OpenJobs:
        open_, held = await self._jobs(organization.id)
        return OpenJobs(open=open_, held=money(held))

    async def _limited(self, organization: Organization, client_id: str | None, now_ms: int) -> list[SpendWindowAnswer]:
        bound = [window for window in windows_of(organization, now_ms) if window.credential == client_id]
        outlooks = await self._windows.fetch(organization.id, [window.demand for window in bound])
        return [_answer(window, outlook, organization.time_zone) for window, outlook in zip(bound, outlooks, strict=True)]

    async def _unlimited_week(self, scope: OrgScope, client_id: str | None, zone: str, now_ms: int) -> SpendWindowAnswer:
        since_ms = (now_ms // SPEND_BUCKET_MS - WEEK_MS // SPEND_BUCKET_MS) * SPEND_BUCKET_MS
        buckets = dict(await self._queries.posted(scope.org, since_ms, credential=client_id))
        return SpendWindowAnswer(
            name="spend_7d",
            kind="rolling",
            credential=client_id,
            source="ledger",
            as_of=instant_text(now_ms, zone),
            window_seconds=WEEK_MS // 1000,
            spent=money(sum(buckets.values())),
            held=None,
            limit=None,
            remaining=None,
            status=SpendStatus.ACTIVE,
            is_shadow=False,
            resumes_at=None,
            warn_at=[],
            warned_at=None,
            frees=_frees(leaving_of(buckets, WEEK_MS), zone),
            text=f"There is no spend limit of 7 days: ${usd_text(sum(buckets.values()))} was spent in the last 7 days.",
        )

    async def _daily(self, scope: OrgScope, client_id: str | None, zone: str, now_ms: int, days: int) -> list[DaySpend]:
        today = local_date(now_ms, zone)
        first = today - timedelta(days=days - 1)
        rows = await self._queries.usage(
            UsageQuery(
                scopes=(scope,),
                from_ms=day_start_ms(first, zone),
                to_ms=day_start_ms(today + timedelta(days=1), zone),
                bucket=Bucket.DAY,
                time_zone=zone,
                filters=_of_credential(client_id),
            )
        )
        costs = {local_date(row.start_ms, zone): row.usage.cost_nano_usd for row in rows}
        listed = [first + timedelta(days=number) for number in range(days)]
        return [DaySpend(date=day.isoformat(), cost=money(costs.get(day, 0))) for day in listed]

    async def _month(self, scope: OrgScope, client_id: str | None, organization: Organization, now_ms: int) -> MonthSpend:
        zone = organization.time_zone
        month = month_at(now_ms, zone, organization.billing_day)
        to_date = await self._cost(scope, client_id, month.start_ms, now_ms + 1)
        week = await self._cost(scope, client_id, now_ms - WEEK_MS, now_ms)
        return MonthSpend(
            month=f"{local_date(month.start_ms, zone):%Y-%m}",
            start=instant_text(month.start_ms, zone),
            end=instant_text(month.end_ms, zone),
            to_date=money(to_date),
            forecast=money(to_date + week * (month.end_ms - now_ms) // WEEK_MS),
            forecast_basis=FORECAST_BASIS,
        )

    async def _cost(self, scope: OrgScope, client_id: str | None, from_ms: int, to_ms: int) -> int:
        """The cost of a range. What is older than the plan's history is what was posted to the limits."""
        start, end = widened(from_ms, to_ms)
        query = UsageQuery(scopes=(scope,), from_ms=start, to_ms=end, filters=_of_credential(client_id))
        cost = sum(row.usage.cost_nano_usd for row in await self._queries.usage(query))
        if start < scope.visible_from_ms:
            hidden = await self._queries.posted(scope.org, start, min(end, scope.visible_from_ms), credential=client_id)
            cost += sum(amount for _, amount in hidden)
        return cost


def money(nano_usd: int) -> Money:
    return Money(nano_usd=nano_usd, usd=usd_text(nano_usd))


def _of_credential(client_id: str | None) -> dict[Dimension, frozenset[str]]:
    return {} if client_id is None else {Dimension.CREDENTIAL: frozenset({client_id})}


def _answer(window: LimiterWindow, outlook: WindowOutlook, zone: str) -> SpendWindowAnswer:
    limit = window.demand.limit
    spent, allowed = outlook.spent_nano_usd, limit.limit_nano_usd
    warned = [permille for permille in limit.warn_at_permille if spent * 1000 >= allowed * permille]
    status = _status(outlook, has_warned=bool(warned) and allowed > 0)
    return SpendWindowAnswer(
        name=limit.name,
        kind="rolling" if limit.kind is WindowKind.ROLLING else "calendar_month",
        credential=window.credential,
        source="limiter",
        as_of=instant_text(outlook.now_ms, zone),
        window_seconds=limit.window_ms // 1000 or None,
        spent=money(spent),
        held=money(outlook.held_nano_usd),
        limit=money(allowed),
        remaining=money(max(0, allowed - spent - outlook.held_nano_usd)),
        status=status,
        is_shadow=limit.shadow,
        resumes_at=instant_text(outlook.paused_until_ms, zone)
        if status is SpendStatus.PAUSED and outlook.paused_until_ms > 0
        else None,
        warn_at=[permille / 1000 for permille in limit.warn_at_permille],
        warned_at=max(warned) / 1000 if warned and allowed > 0 else None,
        frees=_frees(outlook.leaving, zone),
        text=spend_sentence(limit, _state(outlook), per_of(window.credential), zone=zone),
    )


def _state(outlook: WindowOutlook) -> WindowState:
    return WindowState(
        key=outlook.demand.key,
        spent_nano_usd=outlook.spent_nano_usd,
        held_nano_usd=outlook.held_nano_usd,
        paused_until_ms=outlook.paused_until_ms,
    )


def _status(outlook: WindowOutlook, *, has_warned: bool) -> SpendStatus:
    """The status of a window."""
    limit = outlook.demand.limit
    if is_exceeded(limit, _state(outlook)):
        return SpendStatus.EXCEEDED if limit.shadow else SpendStatus.PAUSED
    return SpendStatus.WARNING if has_warned else SpendStatus.ACTIVE


def _frees(leaving: Mapping[int, int], zone: str) -> list[FreedSpend]:
    days: defaultdict[date, list[tuple[int, int]]] = defaultdict(list)
    for at_ms, amount in leaving.items():
        days[local_date(at_ms, zone)].append((at_ms, amount))
    return [
        FreedSpend(
            date=day.isoformat(),
            first_at=instant_text(freed[0][0], zone),
            last_at=instant_text(freed[-1][0], zone),
            amount=money(sum(amount for _, amount in freed)),
        )
        for day, freed in sorted(days.items())
    ]
