"""Months of an organization as instants: they begin on its billing day, at midnight in its time zone.

In a calendar month without that day, they begin on its last day: with billing day 31 on 31 January, 28 February (29 in leap years),
31 March, 30 April, like Stripe's billing cycle anchor (docs.stripe.com/billing/subscriptions/billing-cycle). Exactly one
month begins in each calendar month, and months leave no gap.
"""

from calendar import monthrange
from datetime import date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from tallygate.domain.admission import CalendarPeriod

BILLING_DAY_MAX: Final = 31


def months_around(now_ms: int, time_zone: str, billing_day: int) -> tuple[CalendarPeriod, ...]:
    """The month that now_ms falls into and both its neighbours, so that a server whose clock differs can choose its own."""
    local = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(time_zone))
    index = local.year * 12 + local.month - 1
    if local.day < billing_day and local.day < start_day(local.year, local.month, billing_day):
        index -= 1
    return _months(index, time_zone, billing_day)


def month_at(at_ms: int, time_zone: str, billing_day: int) -> CalendarPeriod:
    """The month that the instant falls into."""
    return next(month for month in months_around(at_ms, time_zone, billing_day) if at_ms < month.end_ms)


def month_beginning_in(year: int, month: int, time_zone: str, billing_day: int) -> CalendarPeriod:
    """The one month that begins in that calendar month."""
    return _months(year * 12 + month - 1, time_zone, billing_day)[1]


def local_date(instant_ms: int, time_zone: str) -> date:
    return datetime.fromtimestamp(instant_ms / 1000, ZoneInfo(time_zone)).date()


def day_start_ms(day: date, time_zone: str) -> int:
    """The first instant of a local day; if clocks skip midnight, the instant at which they are put forward."""
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)).timestamp()) * 1000


def start_day(year: int, month: int, billing_day: int) -> int:
    """The day of that calendar month on which a month begins."""
    return min(billing_day, monthrange(year, month)[1])


@lru_cache(maxsize=4096)  # a few entries for each pair of time zone and billing day in use
def _months(index: int, time_zone: str, billing_day: int) -> tuple[CalendarPeriod, ...]:
    """The months that begin in the calendar month `index`, counted from year 0, and in both its neighbours."""
    calendar = [(each // 12, each % 12 + 1) for each in range(index - 1, index + 3)]
    starts = [date(year, month, start_day(year, month, billing_day)) for year, month in calendar]
    edges = [day_start_ms(start, time_zone) for start in starts]
    return tuple(
        CalendarPeriod(id=_id(start, billing_day), start_ms=edges[number], end_ms=edges[number + 1])
        for number, start in enumerate(starts[:3])
    )


def _id(start: date, billing_day: int) -> str:
    """The id of a month: "2026-11" for a calendar month, else its first day, "2026-11-15"."""
    return f"{start:%Y-%m}" if billing_day == 1 else f"{start:%Y-%m-%d}"
