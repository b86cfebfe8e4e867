"""Ratios of prices, exact: whole millionths. No floats anywhere in money."""

import re
from typing import Final

ONE: Final = 10**6
RATIO_MAX: Final = 100 * ONE  # above it the number is a typing error
_DECIMAL: Final = re.compile(r"(\d{1,6})(?:\.(\d{1,12}))?", re.ASCII)


def ratio(text: str) -> int:
    """A decimal ("1.25") in millionths. Raises ValueError unless it is a whole number of millionths, up to RATIO_MAX."""
    return _millionths(text, places=6)


def percent(text: str) -> int:
    """A decimal percentage ("6.5") in millionths. Raises ValueError like `ratio`."""
    return _millionths(text, places=4)


def _millionths(text: str, *, places: int) -> int:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a decimal number such as '1.25', got {text[:60]!r}")
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > places:
        raise ValueError(f"must have at most {places} decimal places, got {text!r}")
    value: int = int(match[1]) * 10**places + int(fraction.ljust(places, "0"))
    if value > RATIO_MAX:
        raise ValueError(f"must be at most {RATIO_MAX // 10**places}, got {text!r}")
    return value


def times(rate: int, millionths: int) -> int:
    """A rate times the ratio, rounded up to the next whole unit."""
    return -(-rate * millionths // ONE)
