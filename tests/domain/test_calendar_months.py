from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.calendar_months import month_at, month_beginning_in, months_around


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_the_month_of_an_instant_is_the_middle_one() -> None:
    before, current, after = months_around(at("2026-11-22T12:00"), "UTC", 1)

    assert [before.id, current.id, after.id] == ["2026-10", "2026-11", "2026-12"]
    assert (current.start_ms, current.end_ms) == (at("2026-11-01T00:00"), at("2026-12-01T00:00"))
    assert before.end_ms == current.start_ms
    assert after.start_ms == current.end_ms


def test_months_cross_the_year_and_follow_the_time_zone() -> None:
    zone = "America/New_York"
    first_instant = at("2027-01-01T00:00", zone)

    assert months_around(first_instant, zone, 1)[1].id == "2027-01"
    assert months_around(first_instant - 1, zone, 1)[1].id == "2026-12"
    assert months_around(first_instant - 1, "UTC", 1)[1].id == "2027-01"


def test_a_month_with_a_clock_change_has_an_hour_less() -> None:
    march = months_around(at("2026-03-15T12:00", "America/New_York"), "America/New_York", 1)[1]

    assert march.end_ms - march.start_ms == (31 * 24 - 1) * 3_600_000


@given(st.integers(946_684_800_000, 4_102_444_800_000), st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Apia", "Europe/Berlin"]))
def test_an_instant_lies_in_its_month(now_ms: int, zone: str) -> None:
    before, current, after = months_around(now_ms, zone, 1)

    assert before.end_ms == current.start_ms <= now_ms < current.end_ms == after.start_ms


# Clocks that change at midnight, by half an hour, by a minute past it; a day that did not exist; offsets by quarters of an hour.
ZONES = ("UTC", "America/New_York", "America/Sao_Paulo", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns")


@given(
    st.integers(946_684_800_000, 4_102_444_800_000),
    st.sampled_from(ZONES),
    st.one_of(st.integers(1, 31), st.sampled_from([1, 28, 29, 30, 31])),
)
def test_a_month_is_what_walking_from_day_to_day_finds(now_ms: int, zone: str, billing_day: int) -> None:
    """Also where months have 28 to 31 days, in leap years, and whatever clocks do at midnight."""
    first = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(zone)).date() + timedelta(
        days=1
    )  # the clock may be put back over midnight
    while not begins_a_month(first, billing_day) or first_instant_ms(first, zone) > now_ms:
        first -= timedelta(days=1)
    following = first + timedelta(days=1)
    while not begins_a_month(following, billing_day):
        following += timedelta(days=1)

    month = month_at(now_ms, zone, billing_day)

    assert (month.start_ms, month.end_ms) == (first_instant_ms(first, zone), first_instant_ms(following, zone))
    assert month in months_around(now_ms, zone, billing_day)
    assert month == month_beginning_in(first.year, first.month, zone, billing_day)
    assert month.id == (f"{first:%Y-%m}" if billing_day == 1 else f"{first:%Y-%m-%d}")


@pytest.mark.parametrize("billing_day", range(1, 32))
def test_one_month_begins_in_each_calendar_month_and_none_is_left_out(billing_day: int) -> None:
    calendar = [(year, number) for year in range(2023, 2029) for number in range(1, 13)]
    months = [month_beginning_in(year, number, "Europe/Berlin", billing_day) for year, number in calendar]

    for month, following in pairwise(months):
        assert month.end_ms == following.start_ms
        assert 28 * 24 - 1 <= (month.end_ms - month.start_ms) // 3_600_000 <= 31 * 24 + 1


def test_a_billing_day_that_a_month_lacks_is_its_last() -> None:
    """Stripe's rule for a billing cycle anchor on 31 January."""
    starts = [month_beginning_in(2028, number, "UTC", 31).id for number in range(1, 5)]

    assert starts == ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"]
    assert month_beginning_in(2027, 2, "UTC", 31).id == "2027-02-28"


def begins_a_month(day: date, billing_day: int) -> bool:
    is_last = (day + timedelta(days=1)).month != day.month
    return day.day == billing_day or (is_last and day.day < billing_day)


def first_instant_ms(day: date, zone: str) -> int:
    """The first minute at which a clock on the wall shows that day, or a later one where the zone skipped it."""
    noon = round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    low, high = noon - 27 * 3600, noon + 27 * 3600
    while (datetime.fromtimestamp(low, ZoneInfo(zone)) + timedelta(hours=2)).date() < day:
        low += 3600
    while datetime.fromtimestamp(low, ZoneInfo(zone)).date() < day:
        low += 60
    assert low < high
    return low * 1000
