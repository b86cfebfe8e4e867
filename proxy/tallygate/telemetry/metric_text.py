"""Metric families in Prometheus' text formats, byte for byte as prometheus_client writes them.

That library needs ten microseconds and an object for each sample, and thousands of organizations have hundreds of thousands.
Here a sample takes less than two microseconds, one that stands as it did less than a tenth of it, and the lines come in pieces of
bounded length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from prometheus_client.utils import floatToGoString

from tallygate.telemetry.exemplar import Exemplar
from tallygate.telemetry.metric import InParts, Kind, Labels, Metric, Standing

PIECE_LINES: Final = 2_000
PARTS_AT_ONCE: Final = 50  # of one text, each of which has some lines
VALUES_KEPT_MAX: Final = 20_000  # of labels, most of which occur in many series
METRICS_KEPT_MAX: Final = 1_000  # more than there are, whose first lines and templates are kept
NUMBERS_KEPT_MAX: Final = 2_000  # series that are in no part, whose lines' heads are kept
HISTOGRAMS_KEPT_MAX: Final = 1_000  # series of histograms whose lines' heads are kept, at some two kilobytes each
_NANO: Final = 1_000_000_000
_go_text: Final[Callable[[float], str]] = floatToGoString
_PLAIN_MAX: Final = 1_000_000.0  # Go writes larger ones with an exponent


class TextFormat(StrEnum):
    """The value is the content type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @classmethod
    def accepted(cls, accept: str) -> "TextFormat":
        """The format for a request's Accept header: OpenMetrics if it is named, since only it has exemplars."""
        named = {item.partition(";")[0].strip().lower() for item in accept.split(",")}
        return cls.OPENMETRICS if "application/openmetrics-text" in named else cls.PROMETHEUS


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramCounts:
    """One series. counts: of each bucket alone, and above the last; exemplars: of these buckets; sum_nanos: of all values."""

    counts: Sequence[int]
    sum_nanos: int
    exemplars: Sequence[Exemplar | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric's series by the values of its labels: numbers as they are stored, or histograms."""

    metric: Metric
    numbers: Mapping[Labels, float] = field(default_factory=dict)
    histograms: Mapping[Labels, HistogramCounts] = field(default_factory=dict)


def text_of(family: Family, wanted: TextFormat) -> Iterator[str]:
    """The text of one family, in pieces of about PIECE_LINES lines. OpenMetrics leaves out `_created`: counts outlive processes."""
    texts = [*_head(family.metric, wanted)]
    count = 0
    is_histogram = family.metric.kind is Kind.HISTOGRAM
    for text, lines in _histogram_family(family, wanted) if is_histogram else _number_family(family):
        texts.append(text)
        count += lines
        if count >= PIECE_LINES:
            yield "".join(texts)
            texts.clear()
            count = 0
    if texts:
        yield "".join(texts)


def end_of(wanted: TextFormat) -> str:
    """What follows all families."""
    return "# EOF\n" if wanted is TextFormat.OPENMETRICS else ""


def number_text(number: float, per_unit: int = 1) -> str:
    """So many units as Go writes them, and Python below a million.

    Of less than 2**53 nano-USD the shortest decimal of the quotient has every one.
    """
    number /= per_unit  # one division, rounded once: of 1, it is the number as a float
    return repr(number) if 0.0 <= number < _PLAIN_MAX else _go_text(number)


@lru_cache(VALUES_KEPT_MAX)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@lru_cache(METRICS_KEPT_MAX)
def _head(metric: Metric, wanted: TextFormat) -> Sequence[str]:
    help_text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    if wanted is TextFormat.PROMETHEUS:
        return [f"# HELP {metric.name} {help_text}\n", f"# TYPE {metric.name} {metric.kind}\n"]
    name = metric.name.removesuffix("_total")
    quoted = help_text.replace('"', r"\"")
    unit = [f"# UNIT {name} {metric.unit}\n"] if metric.unit else []
    return [f"# HELP {name} {quoted}\n", f"# TYPE {name} {metric.kind}\n", *unit]


def _number_family(family: Family) -> Iterator[tuple[str, int]]:
    """Texts, each with its number of lines. Parts that stand as they did have theirs."""
    metric, per_unit = family.metric, family.metric.per_unit

    def written(part: Standing) -> str:
        part.heads = part.heads or [_line_head(metric.name, metric.labels, labels) for labels in part]
        lines = ""
        for head, stored in zip(part.heads, part.values(), strict=True):
            number = stored / per_unit  # as `number_text`: a call of it takes as long as all else
            lines += f"{head}{number if 0.0 <= number < _PLAIN_MAX else _go_text(number)}\n"
        part.lines = lines
        return lines

    if isinstance(family.numbers, InParts):
        parts = family.numbers.parts
        for some in (parts[start : start + PARTS_AT_ONCE] for start in range(0, len(parts), PARTS_AT_ONCE)):
            yield "".join([part.lines or written(part) for part in some]), sum(map(len, some))
    else:
        for labels, value in family.numbers.items():
            yield f"{_number_head(metric, labels)}{number_text(value, per_unit)}\n", 1


@lru_cache(NUMBERS_KEPT_MAX)
def _number_head(metric: Metric, labels: Labels) -> str:
    """The line of a number of no part, up to it."""
    return _line_head(metric.name, metric.labels, labels)


def _line_head(name: str, names: tuple[str, ...], labels: Labels) -> str:
    """A line up to its number. names: of the labels."""
    order, template = _template(name, names)
    return template % tuple([_escaped(labels[place]) for place in order])


def _histogram_family(family: Family, wanted: TextFormat) -> Iterator[tuple[str, int]]:
    for labels, histogram in family.histograms.items():
        lines = list(_histogram_lines(family.metric, labels, histogram, wanted))
        yield "".join(lines), len(lines)


def _histogram_lines(metric: Metric, labels: Labels, histogram: HistogramCounts, wanted: TextFormat) -> Iterator[str]:
    running = 0
    exemplars = histogram.exemplars or (None,) * len(histogram.counts)
    *heads, count_head, sum_head = _histogram_heads(metric, labels)
    for head, count, exemplar in zip(heads, histogram.counts, exemplars, strict=True):
        running += count
        note = _exemplar_text(exemplar) if exemplar is not None and wanted is TextFormat.OPENMETRICS else ""
        yield f"{head}{number_text(running)}{note}\n"
    yield f"{count_head}{number_text(running)}\n"
    yield f"{sum_head}{number_text(histogram.sum_nanos / _NANO)}\n"


@lru_cache(HISTOGRAMS_KEPT_MAX)
def _histogram_heads(metric: Metric, labels: Labels) -> Sequence[str]:
    """Lines of a series up to their numbers: of each bucket, the count, and the sum."""
    names = (*metric.labels, "le")
    bounds = (*(f"{nanos / _NANO:.10g}" for nanos in metric.buckets), "+Inf")
    return (
        *[_line_head(f"{metric.name}_bucket", names, (*labels, bound)) for bound in bounds],
        *[_line_head(f"{metric.name}_{part}", metric.labels, labels) for part in ("count", "sum")],
    )


@lru_cache(METRICS_KEPT_MAX)
def _template(name: str, names: tuple[str, ...]) -> tuple[list[int], str]:
    """Labels in the order of their names: the index of each value, and a text with a %s for it."""
    order = sorted(range(len(names)), key=names.__getitem__)
    values = ",".join(f'{names[place]}="%s"' for place in order)
    return order, f"{name}{{{values}}} " if names else f"{name} "


def _exemplar_text(exemplar: Exemplar) -> str:
    seconds, milliseconds = divmod(exemplar.at_ms, 1000)
    request_id = _escaped(exemplar.request_id)
    return f' # {{request_id="{request_id}"}} {number_text(exemplar.nanos / _NANO)} {seconds}.{milliseconds:03}000000'
