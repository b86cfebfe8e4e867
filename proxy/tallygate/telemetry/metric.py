"""The declaration of a metric, and the interface for counting it. `metrics.py` declares each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from tallygate.telemetry import exemplar

OTHER: Final = "other"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """The source of its counts: the workers' count files, the ledger's lifetime totals, or the scrape itself."""

    WORKERS = "workers"
    TOTALS = "totals"
    SCRAPE = "scrape"


class Lasts(StrEnum):
    """The lifetime of a worker's number: permanent, or while its process, or any process of its slot, runs."""

    FOR_GOOD = "for_good"
    PROCESS = "process"
    SLOT = "slot"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # each is one of a kind, and looked up for every sample
class Metric:
    """One family.

    buckets    upper bounds in nanoseconds, ascending; durations are kept in nanoseconds
    values     of the last label, if its set is fixed: its series exist from the start (of every upstream, where that is the other
               label), so that the first event is an increase. Any other value is counted as `other`; without has_other there is no
               such series
    per_unit   stored units in each shown unit: money is stored in nano-USD
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[int, ...] = ()
    source: Source = Source.SCRAPE
    values: tuple[str, ...] = ()
    has_other: bool = True
    per_unit: int = 1
    lasts: Lasts = Lasts.FOR_GOOD
    count_cells: int = field(init=False)  # those that add up over workers: a histogram has its buckets, one above, and the sum
    cells: int = field(init=False)  # of one series in a count file: the counts, followed by an exemplar of each bucket

    def __post_init__(self) -> None:
        is_histogram, buckets = self.kind is Kind.HISTOGRAM, len(self.buckets) + 1
        count_cells = buckets + 1 if is_histogram else 1
        object.__setattr__(self, "count_cells", count_cells)
        object.__setattr__(self, "cells", count_cells + (exemplar.CELLS * buckets if is_histogram else 0))

    @property
    def unit(self) -> str:
        """The unit in OpenMetrics, if the name without `_total` ends in one; else empty."""
        unit = self.name.removesuffix("_total").rpartition("_")[2]
        return unit if unit in {"seconds", "bytes"} else ""


Labels = tuple[str, ...]  # a value for each of a metric's labels, in their order
Samples = Mapping[Metric, Mapping[Labels, float]]  # as they are stored: money in nano-USD


class Metrics(Protocol):
    """A worker's counters. labels: a value for each of the metric's labels, in their order."""

    def inc(self, metric: Metric, *labels: str) -> None:
        """Count one more."""

    def add(self, metric: Metric, number: int, *labels: str) -> None:
        """Count so many more."""

    def dec(self, metric: Metric) -> None:
        """Count one less of a gauge."""

    def set(self, metric: Metric, value: int) -> None:
        """Set a gauge."""

    def observe(self, metric: Metric, seconds: float, request_id: str, *labels: str) -> None:
        """Count a duration; the request may become the histogram's exemplar."""
