"""What the figures are made of: medians over rounds, percentiles, costs per unit, ratios. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over the rounds of a run: its median, and how far the rounds lay apart."""

    median: float
    low: float
    high: float

    @property
    def unrest(self) -> float:
        """Half the distance from lowest to highest round, as a part of the median: what the last digits are worth."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `part` (0 to 1) of the values do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = max(1, -(-int(part * 10_000) * len(ordered) // 10_000))
    return ordered[min(rank, len(ordered)) - 1]


def micros_per_unit(cpu_seconds: float, units: int) -> float:
    """CPU time of each request or chunk, in µs."""
    if units <= 0:
        raise ValueError("nothing was served")
    return cpu_seconds / units * 1e6


def ratio(value: float, base: float | None) -> float | None:
    """How many times base the value is; None if there is no base to speak of."""
    return value / base if base else None
