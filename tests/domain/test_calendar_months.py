from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.calendar_months import months_around


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_the_month_of_an_instant_is_the_middle_one() -> None:
    before, current, after = months_around(at("2026-11-22T12:00"), "UTC")

    assert [before.id, current.id, after.id] == ["2026-10", "2026-11", "2026-12"]
    assert (current.start_ms, current.end_ms) == (at("2026-11-01T00:00"), at("2026-12-01T00:00"))
    assert before.end_ms == current.start_ms
    assert after.start_ms == current.end_ms


def test_months_cross_the_year_and_follow_the_time_zone() -> None:
    zone = "America/New_York"
    first_instant = at("2027-01-01T00:00", zone)

    assert months_around(first_instant, zone)[1].id == "2027-01"
    assert months_around(first_instant - 1, zone)[1].id == "2026-12"
    assert months_around(first_instant - 1, "UTC")[1].id == "2027-01"


def test_a_month_with_a_clock_change_has_an_hour_less() -> None:
    march = months_around(at("2026-03-15T12:00", "America/New_York"), "America/New_York")[1]

    assert march.end_ms - march.start_ms == (31 * 24 - 1) * 3_600_000


@given(st.integers(946_684_800_000, 4_102_444_800_000), st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Apia", "Europe/Berlin"]))
def test_an_instant_lies_in_its_month(now_ms: int, zone: str) -> None:
    before, current, after = months_around(now_ms, zone)

    assert before.end_ms == current.start_ms <= now_ms < current.end_ms == after.start_ms
