"""A worker's counts. A call is a dictionary look-up and an addition in shared memory."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import product
from typing import Final

from tallygate.domain.organization import Organization
from tallygate.telemetry import exemplar
from tallygate.telemetry.count_file import CountFile, CountsFullError
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metric import OTHER, Lasts, Metric
from tallygate.telemetry.metrics import WORKER_METRICS

_NANO: Final = 1_000_000_000
_NANO_OF_MS: Final = 1_000_000
_EXEMPLAR_EVERY_NS: Final = exemplar.EVERY_MS * _NANO_OF_MS
_log = logging.getLogger(__name__)
# The series of a histogram: its first cell, that of its sum, and when each bucket's exemplar was noted by this process.
_Durations = tuple[int, int, list[int]]


class GatewayMetrics:
    """Implements Metrics for one worker, over the count file of its slot.

    Series appear when they are first counted and only for known labels, so their number is bounded by configuration. If the count
    file is still full, further series are counted under `other`, whose cells are reserved at the start.
    """

    def __init__(self, counts: CountFile, known: KnownLabels, *, now_ns: Callable[[], int]) -> None:
        """now_ns: Unix time in nanoseconds, of exemplars."""
        self._counts = counts
        self._now_ns = now_ns
        self._cells = counts.cells
        self._known = known
        # First cells by labels, for labels that are counted unchanged.
        self._places: dict[Metric, dict[tuple[str, ...], int]] = {metric: {} for metric in WORKER_METRICS}
        self._durations: dict[Metric, dict[str, _Durations]] = {metric: {} for metric in WORKER_METRICS}
        for metric in WORKER_METRICS:
            if metric.has_other:
                self._place(metric, (OTHER,) * len(metric.labels))
            if metric.lasts is Lasts.PROCESS:  # the slot's previous process may have died with some
                self.set(metric, 0)
        self._begin_series()

    def use_labels(self, known: KnownLabels) -> None:
        """Count under the labels of a reloaded configuration. Removed labels count as `other` from now on; their series stay."""
        self._known = known
        for metric in WORKER_METRICS:
            self._places[metric].clear()
            self._durations[metric].clear()
        self._begin_series()

    def follow(self, gone: Iterable[Organization], come: Iterable[Organization]) -> None:
        """Count under the labels of organizations that changed."""
        self.use_labels(self._known.followed(gone, come))

    def inc(self, metric: Metric, *labels: str) -> None:
        try:
            cell = self._places[metric][labels]
        except KeyError:
            cell = self._place(metric, labels)
        self._cells[cell] += 1

    def add(self, metric: Metric, number: int, *labels: str) -> None:
        places = self._places[metric]
        cell = places[labels] if labels in places else self._place(metric, labels)
        self._cells[cell] += number

    def dec(self, metric: Metric) -> None:
        try:
            cell = self._places[metric][()]
        except KeyError:  # the labels have changed since it was counted up
            cell = self._place(metric, ())
        self._cells[cell] -= 1

    def set(self, metric: Metric, value: int) -> None:
        self._cells[self._place(metric, ())] = value

    def observe(self, metric: Metric, seconds: float, request_id: str, label: str = "") -> None:
        try:
            first, sum_cell, noted_at = self._durations[metric][label]
        except KeyError:
            first, sum_cell, noted_at = self._durations_of(metric, label)
        cells, nanos = self._cells, int(seconds * _NANO)
        bucket = bisect_left(metric.buckets, nanos)
        cells[first + bucket] += 1
        cells[sum_cell] += nanos
        now_ns = self._now_ns()
        if not 0 <= now_ns - noted_at[bucket] < _EXEMPLAR_EVERY_NS:
            noted_at[bucket] = now_ns
            place = sum_cell + 1 + bucket * exemplar.CELLS
            exemplar.note_exemplar(cells, place, nanos, now_ns // _NANO_OF_MS, request_id)

    def _begin_series(self) -> None:
        """Make the series that exist from the start."""
        for metric in WORKER_METRICS:
            before: list[tuple[str, ...]] = [(upstream,) for upstream in self._known.upstreams] if len(metric.labels) > 1 else [()]
            for labels, value in product(before, metric.values):
                self._place(metric, (*labels, value))

    def _place(self, metric: Metric, labels: tuple[str, ...]) -> int:
        """The first cell of a series. Labels that a caller made up are not cached."""
        counted = self._known.counted(metric, labels)
        try:
            cell = self._counts.allocate(metric.name, counted, cells=metric.cells)
        except CountsFullError:
            _log.warning("the count file is full, further series are counted as other: %s", metric.name)
            cell = self._counts.allocate(metric.name, (OTHER,) * len(labels), cells=metric.cells)
        if counted == labels:
            self._places[metric][labels] = cell
        return cell

    def _durations_of(self, metric: Metric, label: str) -> _Durations:
        """The same of a histogram."""
        labels = (label,) if metric.labels else ()
        first = self._place(metric, labels)
        found = first, first + metric.count_cells - 1, [0] * (len(metric.buckets) + 1)
        if labels in self._places[metric]:
            self._durations[metric][label] = found
        return found
