"""Colours, thresholds and words that mean the same on every dashboard."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"
# Why a panel has no data: said in the panel, in place of Grafana's "No data".
NO_REQUESTS: Final = "No requests in this range"
NO_RECENT: Final = "No requests in the last 5 minutes"
NO_CONSOLE: Final = "No console is scraped"
NO_GATEWAY: Final = "No gateway is scraped"
NO_LEDGER: Final = "No ledger is scraped"
NO_STORE: Final = "The limiter's store does not answer"
NO_REPLICA: Final = "No console has a read replica"
NO_DATABASE: Final = "The ledger's database does not answer"
NO_SPEND: Final = "Nothing was spent in this range"
USD: Final = "currencyUSD"
COUNT: Final = "short"  # 1.2 M, for axes and rankings
EACH: Final = "locale"  # 1,234,567, where the sum is told to the last one
SHARE: Final = "percentunit"
SECONDS: Final = "s"
PER_SECOND: Final = "reqps"
BYTES: Final = "bytes"
UNIX_MS: Final = "dateTimeAsIso"
DATE: Final = "time:YYYY-MM-DD"


def steps(*colours: tuple[float, str], base: str = GREEN) -> ThresholdsConfig:
    """The base colour, and from each value on the colour beside it."""
    found = [Threshold(value=None, color=base), *(Threshold(value=value, color=colour) for value, colour in colours)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def of_a_limit() -> ThresholdsConfig:
    """80 %, 95 % and all of a spend limit: where alerts warn, where they wake, where access pauses."""
    return steps((0.8, YELLOW), (0.95, ORANGE), (1.0, RED))


def never() -> ThresholdsConfig:
    """For what should not happen at all."""
    return steps((0.000_000_001, RED))


def plain() -> ThresholdsConfig:
    return steps(base=BLUE)
