"""Metrics that a test looks at: what was counted, in order, under the labels that it was counted with."""

from collections import defaultdict
from typing import Any

from tallygate.telemetry.metric import Kind, Metric


class RecordingMetrics:
    """Implements Metrics.

    levels              of gauges; set_to: what those were set to
    counted, observed   labels of each call, a single one as itself
    """

    def __init__(self) -> None:
        self.levels: defaultdict[Metric, int] = defaultdict(int)
        self.set_to: defaultdict[Metric, list[int]] = defaultdict(list)
        self.counted: defaultdict[Metric, list[Any]] = defaultdict(list)
        self.added: defaultdict[tuple[Metric, tuple[str, ...]], int] = defaultdict(int)  # amounts, by their labels
        self.observed: defaultdict[Metric, list[Any]] = defaultdict(list)
        self.seconds: defaultdict[Metric, list[float]] = defaultdict(list)  # what was observed

    def inc(self, metric: Metric, *labels: str) -> None:
        assert len(labels) == len(metric.labels)
        if metric.kind is Kind.GAUGE:
            self.levels[metric] += 1
        else:
            assert metric.kind is Kind.COUNTER
            self.counted[metric].append(labels[0] if len(labels) == 1 else labels)

    def add(self, metric: Metric, number: int, *labels: str) -> None:
        assert len(labels) == len(metric.labels)
        assert metric.kind is Kind.COUNTER
        self.added[metric, labels] += number

    def dec(self, metric: Metric) -> None:
        assert metric.kind is Kind.GAUGE
        self.levels[metric] -= 1

    def set(self, metric: Metric, value: int) -> None:
        assert metric.kind is Kind.GAUGE
        self.levels[metric] = value
        self.set_to[metric].append(value)

    def observe(self, metric: Metric, seconds: float, request_id: str, *labels: str) -> None:
        assert metric.kind is Kind.HISTOGRAM
        assert len(labels) == len(metric.labels)
        assert seconds >= 0
        assert request_id
        self.observed[metric].append(labels[0] if len(labels) == 1 else labels)
        self.seconds[metric].append(seconds)
