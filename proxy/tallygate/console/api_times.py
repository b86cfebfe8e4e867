"""Instants and time zones in the console's API."""

import re
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from tallygate.console.api_errors import invalid_parameter
from tallygate.console.api_parameters import Parameter
from tallygate.domain.calendar_months import day_start_ms, local_date, month_at, month_beginning_in
from tallygate.domain.declared import is_time_zone
from tallygate.domain.instants import instant_text
from tallygate.ledger.time_buckets import DAY_MS, QUARTER_MS

# Since then every zone's offset is a whole number of quarters of an hour, the grain of the ledger's sums.
TIME_MIN_MS: Final = 946_684_800_000  # 2000-01-01
TIME_MAX_MS: Final = 4_102_444_800_000  # 2100-01-01
MINUTE_MS: Final = 60_000
RANGE_DAYS_MAX: Final = 3_660  # of one query: ten years
BUCKETS_MAX: Final = 5_000  # of one query
_ZONE_CHARS_MAX: Final = 64
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII)


def instant(name: str, description: str, **options: Any) -> Parameter:
    """A parameter that is an instant in Unix milliseconds, or a date, whose instant depends on the time zone."""
    schema = {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "examples": ["2026-03-01", "2026-03-01T09:30:00Z"],
    }
    return Parameter(name=name, description=description, read=_read_instant, schema=schema, **options)


def time_zone(**options: Any) -> Parameter:
    description = "An IANA time zone. Default: the organization's if the answer is about one, else UTC."
    schema = {"type": "string", "maxLength": _ZONE_CHARS_MAX, "examples": ["America/New_York"]}
    return Parameter(name="time_zone", description=description, read=_read_zone, schema=schema, **options)


def at_ms(name: str, given: int | date | None, zone: str, *, default: int) -> int:
    """The instant of what was given. A date is the first instant of that day in the zone. Raises ApiError if out of bounds."""
    if given is None:
        return default
    instant_ms = given if isinstance(given, int) else day_start_ms(given, zone)
    if not TIME_MIN_MS <= instant_ms <= TIME_MAX_MS:
        raise invalid_parameter(name, "must lie between 2000-01-01 and 2100-01-01")
    return instant_ms


def check_range(from_ms: int, to_ms: int, zone: str, *, days_max: int = RANGE_DAYS_MAX) -> None:
    """Raise ApiError unless from < to, and not too far apart. zone: in which dates were read."""
    if from_ms >= to_ms:
        begin, end = instant_text(from_ms, zone), instant_text(to_ms, zone)
        problem = f"must be later than the beginning of the range: {end} is not after {begin}. Dates are days of {zone}"
        raise invalid_parameter("to", f"{problem}; `time_zone` selects another")
    if to_ms - from_ms > days_max * DAY_MS:
        raise invalid_parameter("to", f"the range may have at most {days_max} days")


def widened(from_ms: int, to_ms: int) -> tuple[int, int]:
    """The range as whole quarters of an hour, the grain of the ledger's sums."""
    return from_ms - from_ms % QUARTER_MS, -(-to_ms // QUARTER_MS) * QUARTER_MS


def period_before(from_ms: int, to_ms: int, zone: str, billing_day: int = 1) -> int:
    """The beginning of the period that ends where [from_ms, to_ms) begins and is as long by the calendar of the zone.

    Whole months, from the billing day on, follow whole months, and whole days, from one time of the clock to the same, as many
    days, also where clocks change. Anything else is as long by time.
    """
    first, last = month_at(from_ms, zone, billing_day), month_at(to_ms, zone, billing_day)
    if from_ms == first.start_ms and to_ms == last.start_ms:
        begin, end = (_months_of(month.start_ms, zone) for month in (first, last))
        month = 2 * begin - end
        return month_beginning_in(month // 12, month % 12 + 1, zone, billing_day).start_ms
    begins, ends = (datetime.fromtimestamp(at / 1000, ZoneInfo(zone)) for at in (from_ms, to_ms))
    days = ends.date() - begins.date()
    if begins.time() != ends.time() or not days:
        return 2 * from_ms - to_ms
    before = begins - days  # by the clock
    return round(before.timestamp()) * 1000 // QUARTER_MS * QUARTER_MS


def _months_of(at_ms: int, zone: str) -> int:
    """The calendar month that an instant falls into, counted from year 0."""
    day = local_date(at_ms, zone)
    return day.year * 12 + day.month - 1


def read_position(name: str, position: str, *, grain_ms: int = MINUTE_MS) -> tuple[int, int, int]:
    """The start of a page, and the range that it belongs to. Raises ApiError."""
    try:
        begin, start, end = map(int, position.split(" "))
    except ValueError:
        raise invalid_parameter(name, "is not a cursor that an earlier page gave") from None
    if not TIME_MIN_MS <= start <= begin < end <= TIME_MAX_MS or any(at % grain_ms for at in (begin, start, end)):
        raise invalid_parameter(name, "is not a cursor that an earlier page gave")
    return begin, start, end


def _read_instant(value: str) -> int | date:
    """Unix milliseconds, or the date."""
    text = re.sub(r" (?=\d{2}:\d{2}$)", "+", value)  # an unescaped plus arrives as a space
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _INSTANT.fullmatch(text):
            return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a date such as 2026-03-01 or an instant such as 2026-03-01T09:30:00Z")


def _read_zone(value: str) -> str:
    if len(value) > _ZONE_CHARS_MAX or not is_time_zone(value):
        raise ValueError("must be a time zone such as America/New_York")
    return value
