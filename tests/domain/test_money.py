"""Money in integers: what parses, what is refused, and that text and integers are two spellings of one amount."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.money import (
    MONEY_MAX_NANO_USD,
    NANO_PER_USD,
    nano_usd_from_pico,
    nano_usd_from_usd,
    pico_usd_each,
    usd_text,
)


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [
        ("0", 0),
        ("25", 25_000_000_000),
        ("0.50", 500_000_000),
        ("100.000000001", 100_000_000_001),
        ("0.0000000010", 1),  # trailing zeros say nothing
        ("007", 7_000_000_000),
    ],
)
def test_dollars_are_read_exactly(text: str, nano_usd: int) -> None:
    assert nano_usd_from_usd(text) == nano_usd


@pytest.mark.parametrize(
    ("text", "pico_usd"),
    [("0.15", 150_000), ("0.075", 75_000), ("0.60", 600_000), ("3", 3_000_000), ("0.000001", 1), ("1.25", 1_250_000)],
)
def test_list_prices_per_million_become_pico_dollars_per_token(text: str, pico_usd: int) -> None:
    assert pico_usd_each(text, of=10**6, unit="token") == pico_usd


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "-1", "+1", "1.", ".5", "1e3", "1,5", "1_000", "٣", "NaN", "inf", "1\n", "1234567890123"]
)
def test_what_is_not_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal number of USD"):
        nano_usd_from_usd(text)
    with pytest.raises(ValueError, match="decimal number of USD"):
        pico_usd_each(text, of=10**6, unit="token")


def test_more_places_than_the_unit_has_are_refused_rather_than_rounded() -> None:
    with pytest.raises(ValueError, match="at most 9 decimal places"):
        nano_usd_from_usd("0.0000000001")
    with pytest.raises(ValueError, match="at most 6 decimal places"):
        pico_usd_each("0.0000001", of=10**6, unit="token")


@pytest.mark.parametrize(("pico_usd", "nano_usd"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2)])
def test_the_one_rounding_goes_up(pico_usd: int, nano_usd: int) -> None:
    assert nano_usd_from_pico(pico_usd) == nano_usd


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [(0, "0.00"), (1, "0.000000001"), (1_500_000_000, "1.50"), (10**11, "100.00"), (123_456_000, "0.123456"), (-1, "-0.000000001")],
)
def test_amounts_are_shown_exactly_with_at_least_two_places(nano_usd: int, text: str) -> None:
    assert usd_text(nano_usd) == text


@given(st.integers(min_value=0, max_value=MONEY_MAX_NANO_USD))
def test_what_is_shown_reads_back_as_the_same_amount(nano_usd: int) -> None:
    assert nano_usd_from_usd(usd_text(nano_usd)) == nano_usd


@given(st.integers(min_value=0, max_value=10**20))
def test_rounding_up_adds_less_than_one_nano_dollar(pico_usd: int) -> None:
    assert 0 <= nano_usd_from_pico(pico_usd) * 1000 - pico_usd < 1000


@given(st.integers(min_value=0, max_value=10**12 - 1), st.integers(min_value=0, max_value=NANO_PER_USD - 1))
def test_whole_and_fraction_never_mix(whole: int, fraction: int) -> None:
    assert nano_usd_from_usd(f"{whole}.{fraction:09d}") == whole * NANO_PER_USD + fraction
