"""Metric families from the samples of one scrape, and the text that Prometheus asks for. Pure: the caller gathers them."""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import Series
from tallygate.telemetry.exemplar import CELLS as EXEMPLAR_CELLS
from tallygate.telemetry.exemplar import Exemplar, read_exemplar
from tallygate.telemetry.metric import InParts, Kind, Labels, Metric, Samples, Source
from tallygate.telemetry.metric_text import Family, HistogramCounts, TextFormat, end_of, text_of

LINES_KEPT_MAX: Final = 50_000  # in texts that are kept until the next scrape, at some 150 bytes each
_SHAPES: Final = {metric.name: (metric.cells, len(metric.labels)) for metric in metrics.WORKER_METRICS}
_GZIP_LEVEL: Final = 1  # which leaves a twentieth already; higher levels cost several times as much for little more
_GZIP_HEAD: Final = (
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # RFC 1952 section 2.3: of no time, packed as fast as may be, anywhere
)
_RAW: Final = -15  # window bits of zlib's compressobj for deflate without a head


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """Everything one scrape shows.

    samples   of metrics that the workers do not count; what is not known, or did not answer, is left out
    counted   the cells of each count file
    """

    samples: Samples
    counted: Sequence[Mapping[Series, tuple[int, ...]]] = ()


_Cells = Mapping[Labels, Sequence[tuple[int, ...]]]  # of each series, slot by slot
_Numbers = Mapping[Labels, float] | _Cells


class _Text:
    """A piece of an exposition, and how it is packed, once that was asked for."""

    __slots__ = ("block", "plain")

    def __init__(self, text: str) -> None:
        self.plain = text.encode()
        self.block = b""


class _Shown(NamedTuple):
    """A family as it was shown. numbers: what its texts depend on, as nobody changes it any more."""

    numbers: object
    texts: Sequence[_Text]


class Renderer:
    """Renders one scrape after another. A family that has the numbers of the scrape before has its texts, written and packed."""

    def __init__(self) -> None:
        self._shown: dict[TextFormat, Mapping[Metric, _Shown]] = {}

    def render(self, scraped: Scraped, *, accept: str, is_gzipped: bool = False) -> tuple[str, bytes]:
        """Content type and body: OpenMetrics where `accept` asks for it, else the text format.

        Thousands of organizations take seconds of CPU time: not for an event loop.
        """
        wanted = TextFormat.accepted(accept)
        texts = chain(self._texts(scraped, wanted), [_Text(end_of(wanted))])
        return wanted.value, _packed(texts) if is_gzipped else b"".join([text.plain for text in texts])

    def _texts(self, scraped: Scraped, wanted: TextFormat) -> Iterator[_Text]:
        before, shown, lines = self._shown.get(wanted, {}), dict[Metric, _Shown](), 0
        for metric, numbers in numbers_of(scraped):
            lines += len(numbers)
            if lines > LINES_KEPT_MAX:
                yield from map(_Text, text_of(_family(metric, numbers, wanted), wanted))
                continue
            standing = numbers.parts if isinstance(numbers, InParts) else dict(numbers)
            known = before.get(metric)
            if known is None or known.numbers != standing:
                known = _Shown(standing, [*map(_Text, text_of(_family(metric, numbers, wanted), wanted))])
            shown[metric] = known
            yield from known.texts
        self._shown[wanted] = shown


def numbers_of(scraped: Scraped) -> Iterator[tuple[Metric, _Numbers]]:
    """What is known of every metric with samples, and of every one that workers count, in the order of declaration."""
    counted = _gathered(scraped.counted)
    for metric in metrics.METRICS:
        numbers = counted[metric.name] if metric.source is Source.WORKERS else scraped.samples.get(metric)
        if numbers is not None:
            yield metric, numbers


def _packed(texts: Iterable[_Text]) -> bytes:
    """All of them as one member of gzip. Each is packed by itself (Z_FULL_FLUSH), so that its block has its place in any."""
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_RAW)
    blocks, check, length = [_GZIP_HEAD], 0, 0
    for text in texts:
        text.block = text.block or packer.compress(text.plain) + packer.flush(zlib.Z_FULL_FLUSH)
        blocks.append(text.block)
        check = zlib.crc32(text.plain, check)
        length += len(text.plain)
    return b"".join([*blocks, packer.flush(), struct.pack("<II", check, length % 2**32)])


def _gathered(counted: Sequence[Mapping[Series, tuple[int, ...]]]) -> dict[str, dict[Labels, list[tuple[int, ...]]]]:
    """Cells of each family and series, slot by slot. A series of another layout, from an older version, is left out."""
    gathered: dict[str, dict[Labels, list[tuple[int, ...]]]] = {metric.name: {} for metric in metrics.WORKER_METRICS}
    for series in counted:
        for (name, labels), values in series.items():
            if _SHAPES.get(name) == (len(values), len(labels)):
                gathered[name].setdefault(labels, []).append(values)
    return gathered


def _family(metric: Metric, numbers: Any, wanted: TextFormat) -> Family:
    if metric.source is Source.WORKERS:
        return _summed(metric, numbers, has_exemplars=wanted is TextFormat.OPENMETRICS)
    return Family(metric=metric, numbers=numbers)


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
