"""Metric families from the samples of one scrape, and the text that Prometheus asks for. Pure: the caller gathers them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import Series
from tallygate.telemetry.exemplar import CELLS as EXEMPLAR_CELLS
from tallygate.telemetry.exemplar import Exemplar, read_exemplar
from tallygate.telemetry.metric import Kind, Labels, Metric, Samples
from tallygate.telemetry.metric_text import Family, HistogramCounts, TextFormat, text_of

_GZIP: Final = 31  # window bits of zlib's compressobj for a gzip stream
_SHAPES: Final = {metric.name: (metric.cells, len(metric.labels)) for metric in metrics.WORKER_METRICS}
_GZIP_LEVEL: Final = 1  # which leaves a twentieth already; higher levels cost several times as much for little more


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """Everything one scrape shows.

    samples   of metrics that the workers do not count; what is not known, or did not answer, is left out
    counted   the cells of each count file
    """

    samples: Samples
    counted: Sequence[Mapping[Series, tuple[int, ...]]] = ()


def families(scraped: Scraped, *, has_exemplars: bool) -> list[Family]:
    """Every family with samples, and every one that workers count, in the order of declaration."""
    counted = _gathered(scraped.counted)
    made = [_summed(metric, counted[metric.name], has_exemplars=has_exemplars) for metric in metrics.WORKER_METRICS]
    made += [_from_samples(metric, samples) for metric, samples in scraped.samples.items()]
    by_name = {family.metric.name: family for family in made}
    return [by_name[metric.name] for metric in metrics.METRICS if metric.name in by_name]


def render(scraped: Scraped, *, accept: str, is_gzipped: bool = False) -> tuple[str, bytes]:
    """Content type and body: OpenMetrics where `accept` asks for it, else the text format.

    Thousands of organizations take seconds of CPU time: not for an event loop.
    """
    wanted = TextFormat.accepted(accept)
    pieces = text_of(families(scraped, has_exemplars=wanted is TextFormat.OPENMETRICS), wanted)
    if not is_gzipped:
        return wanted.value, "".join(pieces).encode()
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return wanted.value, b"".join([*(packer.compress(piece.encode()) for piece in pieces), packer.flush()])


def _gathered(counted: Sequence[Mapping[Series, tuple[int, ...]]]) -> dict[str, dict[Labels, list[tuple[int, ...]]]]:
    """Cells of each family and series, slot by slot. A series of another layout, from an older version, is left out."""
    gathered: dict[str, dict[Labels, list[tuple[int, ...]]]] = {metric.name: {} for metric in metrics.WORKER_METRICS}
    for series in counted:
        for (name, labels), values in series.items():
            if _SHAPES.get(name) == (len(values), len(labels)):
                gathered[name].setdefault(labels, []).append(values)
    return gathered


def _summed(metric: Metric, series: Mapping[Labels, Sequence[tuple[int, ...]]], *, has_exemplars: bool) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        histograms = {labels: _histogram(metric, slots, has_exemplars=has_exemplars) for labels, slots in sorted(series.items())}
        return Family(metric=metric, histograms=histograms)
    return Family(metric=metric, numbers={labels: sum(cells[0] for cells in slots) for labels, slots in sorted(series.items())})


def _histogram(metric: Metric, slots: Sequence[tuple[int, ...]], *, has_exemplars: bool) -> HistogramCounts:
    """Counts add up; of each bucket's exemplars the newest is shown."""
    counts = metric.count_cells
    *buckets, sum_nanos = map(sum, zip(*(cells[:counts] for cells in slots), strict=True))
    if not has_exemplars:
        return HistogramCounts(counts=buckets, sum_nanos=sum_nanos)
    exemplars = [
        max(filter(None, (read_exemplar(cells[at : at + EXEMPLAR_CELLS]) for cells in slots)), key=_noted_at, default=None)
        for at in range(counts, metric.cells, EXEMPLAR_CELLS)
    ]
    return HistogramCounts(counts=buckets, sum_nanos=sum_nanos, exemplars=exemplars)


def _noted_at(exemplar: Exemplar) -> int:
    return exemplar.at_ms


def _from_samples(metric: Metric, samples: Mapping[Labels, float]) -> Family:
    """Below 2**53 nano-USD the shortest decimal of the quotient has the nano-USD again."""
    per_unit = metric.per_unit
    return Family(metric=metric, numbers=samples, scale=float if per_unit == 1 else lambda stored: stored / per_unit)
