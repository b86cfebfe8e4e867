"""A billing period of an organization, as instants: one of its months, or seven days."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tallygate.domain.billing import PeriodKind
from tallygate.domain.calendar_months import day_start_ms, month_beginning_in

_MONTH: Final = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])", re.ASCII)
_WEEK: Final = re.compile(r"(20\d\d)-W(\d\d)", re.ASCII)
_DAY: Final = re.compile(r"20\d\d-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingPeriod:
    """A period [start_ms, end_ms), from local midnight to local midnight. Consecutive periods leave no gap.

    Monthly spend limits use the same months.
    id   "2026-11", or "2026-11-15" for a month that begins on another day; "2026-W48", or "2026-11-24-7d" for other seven days
    """

    kind: PeriodKind
    id: str
    time_zone: str
    start_ms: int
    end_ms: int

    @classmethod
    def month(cls, text: str, time_zone: str, billing_day: int = 1) -> "BillingPeriod":
        """The month that begins in the calendar month "2026-11", 2000 to 2099. Raises ValueError."""
        match = _MONTH.fullmatch(text)
        if match is None:
            raise ValueError("must be a month such as 2026-11")
        month = month_beginning_in(int(match[1]), int(match[2]), time_zone, billing_day)
        return cls(kind=PeriodKind.MONTH, id=month.id, time_zone=time_zone, start_ms=month.start_ms, end_ms=month.end_ms)

    @classmethod
    def week(cls, text: str, time_zone: str) -> "BillingPeriod":
        """The ISO 8601 week "2026-W48", from Monday on, or the seven days from "2026-11-24" on. Raises ValueError."""
        first = _first_day(text)
        year, number, weekday = first.isocalendar()
        return cls(
            kind=PeriodKind.WEEK,
            id=f"{year}-W{number:02d}" if weekday == 1 else f"{first}-7d",
            time_zone=time_zone,
            start_ms=day_start_ms(first, time_zone),
            end_ms=day_start_ms(first + timedelta(days=7), time_zone),
        )

    @property
    def is_calendar_month(self) -> bool:
        return self.kind is PeriodKind.MONTH and self.days[0].day == 1

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last day, in its time zone."""
        zone = ZoneInfo(self.time_zone)
        first, last = (datetime.fromtimestamp(at_ms / 1000, zone).date() for at_ms in (self.start_ms, self.end_ms - 1))
        return first, last


def _first_day(text: str) -> date:
    week = _WEEK.fullmatch(text)
    try:
        if week is not None:
            return date.fromisocalendar(int(week[1]), int(week[2]), 1)
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:  # no such week or day
        pass
    raise ValueError("must be a week such as 2026-W48, or the first of seven days such as 2026-11-24")
