"""The declaration of a metric, and the interface for counting it. `metrics.py` declares each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, repeat
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


class Standing(dict[Labels, float]):
    """Numbers of one metric that nobody changes any more.

    Whoever gathers them hands on the same object for as long as they are the same, so their lines are written once.

    heads   of their lines, up to the number; empty until they are first written
    lines   of the text formats; empty until then
    """

    heads: Sequence[str] = ()
    lines = ""


NOTHING: Final = Standing()


def standing_after(before: Sequence[Standing], now: Sequence[Standing]) -> Sequence[Standing]:
    """The numbers of several metrics now, in one order: those that are as before are the very same objects."""
    return [then if then == numbers else _changed(then, numbers) for then, numbers in zip(before, now, strict=True)]


def _changed(then: Standing, numbers: Standing) -> Standing:
    if then and [*then] == [*numbers]:
        numbers.heads = then.heads
    return numbers


class InParts(Mapping[Labels, float]):
    """Numbers of one metric in parts, which have no series in common."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Standing]) -> None:
        self.parts = list(filter(None, parts))

    @classmethod
    def of(cls, metrics: Sequence[Metric], shown: Sequence[Sequence[Standing]]) -> "Mapping[Metric, InParts]":
        """Of several metrics. shown: parts, each with the numbers of these metrics in their order."""
        return dict(zip(metrics, map(cls, zip(*shown, strict=True) if shown else repeat(())), strict=False))

    def __getitem__(self, labels: Labels) -> float:
        for part in self.parts:
            if labels in part:
                return part[labels]
        raise KeyError(labels)

    def __iter__(self) -> Iterator[Labels]:
        return chain.from_iterable(self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


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

    def observe(self, metric: Metric, seconds: float, request_id: str, label: str = "") -> None:
        """Count a duration; the request may become the histogram's exemplar. label: of a histogram that has one."""
