"""Money as integers: prices in pico-USD per token, costs in nano-USD. No floats anywhere in money.

1 USD = 10**9 nano-USD = 10**12 pico-USD. One USD per million tokens = 10**6 pico-USD per token.
"""

import re
from typing import Final

NANO_PER_USD: Final = 10**9
PICO_PER_NANO: Final = 1000
MONEY_MAX_NANO_USD: Final = 2**53 - 1  # a Lua number is a double: about 9 million USD per counter

DECIMAL: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,12}))?", re.ASCII)


def _scaled(text: str, places: int, unit: str) -> int:
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a decimal number of USD such as '0.15', got {text!r}")
    whole, fraction = match[1], (match[2] or "").rstrip("0")
    if len(fraction) > places:
        raise ValueError(f"must have at most {places} decimal places ({unit}), got {text!r}")
    scale: int = 10**places
    return int(whole) * scale + int(fraction.ljust(places, "0") or "0")


def nano_usd_from_usd(text: str) -> int:
    """USD as a decimal string ("25", "0.50") in nano-USD. Raises ValueError unless it is a whole number of them."""
    return _scaled(text, 9, "nano-USD")


def pico_usd_each(usd: str, *, of: int, unit: str) -> int:
    """The price of `of` units (a power of ten up to 10**12) in pico-USD of one. Raises ValueError unless it is whole."""
    return _scaled(usd, 13 - len(str(of)), f"pico-USD per {unit}")


def rate_text(pico_usd: int, of: int) -> str:
    """What `pico_usd_each` reads: the price of `of` units in USD, without trailing zeros; 150_000 of a million is "0.15"."""
    whole, fraction = divmod(pico_usd * of, 10**12)
    return f"{whole}.{fraction:012d}".rstrip("0").rstrip(".")


def nano_usd_from_pico(pico_usd: int) -> int:
    """The one rounding of money: up, to the next nano-USD."""
    return -(-pico_usd // PICO_PER_NANO)


def usd_text(nano_usd: int) -> str:
    """Exact decimal USD, at least two places: 1_500_000_000 is "1.50", 1 is "0.000000001"."""
    sign, amount = ("-", -nano_usd) if nano_usd < 0 else ("", nano_usd)
    digits = str(amount).zfill(10)  # nine of them behind the point
    return f"{sign}{digits[:-9]}.{digits[-9:].rstrip('0').ljust(2, '0')}"
