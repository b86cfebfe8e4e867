"""From readings to metric families, and to the text that Prometheus asks for. Pure: the readings are the caller's."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Exemplar as OpenMetricsExemplar
from prometheus_client.samples import Timestamp

from proxy.domain.money import NANO_PER_USD
from proxy.telemetry import metrics
from proxy.telemetry.count_file import Series
from proxy.telemetry.exemplar import CELLS as EXEMPLAR_CELLS
from proxy.telemetry.exemplar import Exemplar, read_exemplar
from proxy.telemetry.metrics import Kind, Metric

_NANO: Final = 1_000_000_000
_WORKER_FAMILIES: Final = (
    metrics.REFUSED,
    metrics.SHADOW_REFUSED,
    metrics.SPEND_WARNINGS,
    metrics.REQUEST_SECONDS,
    metrics.FIRST_BYTE_SECONDS,
    metrics.OVERHEAD_SECONDS,
    metrics.OPEN_REQUESTS,
    metrics.LIMITER_SECONDS,
    metrics.LIMITER_ERRORS,
    metrics.UNKNOWN_MODELS,
    metrics.SPOOL_EVENTS,
    metrics.FAIL_OPEN,
    metrics.UPSTREAM_ERRORS,
    metrics.BAD_REQUESTS,
    metrics.CONFIG_RELOADS,
)
_MONEY: Final = frozenset({metrics.SPEND, metrics.SPEND_CREDITED, metrics.MODEL_SPEND, metrics.MODEL_SPEND_CREDITED})

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGauges:
    """One organization's first spend limit as enforced now.

    paused, resumes_at_ms   whether any of its limits pauses it, and when the last of these lets it go on; 0 if none does
    """

    org: str
    spent_nano_usd: int
    held_nano_usd: int
    limit_nano_usd: int
    paused: bool
    resumes_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGauges:
    """One worker slot. The last three are None while it has no process."""

    worker: str
    up: bool
    starts: int
    cpu_seconds: float | None = None
    resident_bytes: int | None = None
    open_fds: int | None = None


@dataclass(slots=True, kw_only=True)
class Readings:
    """Everything one scrape shows.

    totals         the shared counters by labels, money in nano-USD; None if the ledger did not answer
    counted        what each owner's count file says
    is_incomplete  whether something was asked and did not answer; None where nothing is asked, as for the next
    """

    version: str
    config_version: str
    workers: Sequence[ProcessGauges]
    counted: Sequence[Mapping[Series, tuple[int, ...]]]
    totals: Mapping[Metric, Mapping[Labels, int]] | None = None
    windows: Sequence[WindowGauges] = ()
    is_incomplete: bool | None = None
    organizations_skipped: int | None = None
    lag_events: int | None = None
    lag_ms: int | None = None
    database_up: bool | None = None
    drift_nano_usd: int | None = None
    malformed_events: int | None = None


def families(readings: Readings) -> list[Family]:
    """Every family with a reading, in the order of declaration."""
    counted = _merge(readings.counted)
    made = [_from_cells(metric, counted.get(metric.name, {}), readings.counted) for metric in _WORKER_FAMILIES]
    made += [*_ledger(readings), *_windows(readings), *_processes(readings)]
    by_name = {family.name: family for family in made}
    return [by_name[name] for metric in metrics.METRICS if (name := metric.name.removesuffix("_total")) in by_name]


def render(readings: Readings, *, accept: str) -> tuple[str, bytes]:
    """Content type and body: OpenMetrics where `accept` asks for it, else the text format."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_Collected(families(readings)))


class _Collected:
    """A collector that has already collected."""

    def __init__(self, made: Iterable[Family]) -> None:
        self._made = made

    def collect(self) -> Iterable[Family]:
        return self._made


def _merge(counted: Sequence[Mapping[Series, tuple[int, ...]]]) -> dict[str, dict[Labels, tuple[int, ...]]]:
    """Sums over the workers' slots. A series of another layout (an older version's buckets) is left out."""
    metric_of = {metric.name: metric for metric in _WORKER_FAMILIES}
    merged: dict[str, dict[Labels, tuple[int, ...]]] = {}
    for series in counted:
        for (name, labels), values in series.items():
            metric = metric_of.get(name)
            if metric is not None and metric.cells == len(values):
                of_metric = merged.setdefault(name, {})
                before = of_metric.get(labels)
                counts = values[: metric.count_cells]
                of_metric[labels] = counts if before is None else tuple(map(sum, zip(before, counts, strict=True)))
    return merged


def _newest_exemplars(metric: Metric, counted: Sequence[Mapping[Series, tuple[int, ...]]]) -> dict[Labels, list[Exemplar | None]]:
    """Of each series of a histogram and each of its buckets, the last that any worker noted."""
    newest: dict[Labels, list[Exemplar | None]] = {}
    for series in counted:
        for (name, labels), values in series.items():
            if name != metric.name or metric.cells != len(values):
                continue
            noted = [
                read_exemplar(values[at : at + EXEMPLAR_CELLS]) for at in range(metric.count_cells, metric.cells, EXEMPLAR_CELLS)
            ]
            before = newest.get(labels, [None] * len(noted))
            newest[labels] = [_newer(one, other) for one, other in zip(before, noted, strict=True)]
    return newest


def _newer(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return one if one.at_ms >= other.at_ms else other


def _from_cells(
    metric: Metric, series: Mapping[Labels, tuple[int, ...]], counted: Sequence[Mapping[Series, tuple[int, ...]]]
) -> Family:
    family: Any = _family(metric)
    exemplars = _newest_exemplars(metric, counted) if metric.kind is Kind.HISTOGRAM else {}
    for labels, values in sorted(series.items()):
        if metric.kind is Kind.HISTOGRAM:
            running = 0
            buckets = []
            bounds = [*(f"{nanos / _NANO:.10g}" for nanos in metric.buckets), "+Inf"]
            for bound, count, noted in zip(bounds, values[:-1], exemplars[labels], strict=True):
                running += count
                buckets.append((bound, running, None if noted is None else _exemplar(noted)))
            family.add_metric(labels, buckets, values[-1] / _NANO)
        else:
            family.add_metric(labels, values[0])
    return cast("Family", family)


def _exemplar(noted: Exemplar) -> OpenMetricsExemplar:
    seconds, milliseconds = divmod(noted.at_ms, 1000)
    at = Timestamp(seconds, milliseconds * 1_000_000)
    return OpenMetricsExemplar({"request_id": noted.request_id}, noted.nanos / _NANO, at)


def _ledger(readings: Readings) -> Iterable[Family]:
    for metric, values in (readings.totals or {}).items():
        yield _from_numbers(metric, values, scale=_usd if metric in _MONEY else float)
    if readings.lag_events is not None:
        yield _from_numbers(metrics.LEDGER_LAG, {(): readings.lag_events})
    if readings.lag_ms is not None:
        yield _from_numbers(metrics.LEDGER_LAG_SECONDS, {(): readings.lag_ms}, scale=_seconds)
    if readings.database_up is not None:
        yield _from_numbers(metrics.LEDGER_DATABASE_UP, {(): int(readings.database_up)})
    if readings.drift_nano_usd is not None:
        yield _from_numbers(metrics.LEDGER_DRIFT, {(): readings.drift_nano_usd})
    if readings.malformed_events is not None:
        yield _from_numbers(metrics.LEDGER_MALFORMED, {(): readings.malformed_events})
    if readings.is_incomplete is not None:
        yield _from_numbers(metrics.SCRAPE_ERRORS, {(): int(readings.is_incomplete)})


def _windows(readings: Readings) -> Iterable[Family]:
    windows = readings.windows
    yield _from_numbers(metrics.SPEND_WINDOW, {(at.org,): at.spent_nano_usd for at in windows}, scale=_usd)
    yield _from_numbers(metrics.SPEND_HELD, {(at.org,): at.held_nano_usd for at in windows}, scale=_usd)
    yield _from_numbers(metrics.SPEND_LIMIT, {(at.org,): at.limit_nano_usd for at in windows}, scale=_usd)
    yield _from_numbers(metrics.PAUSED, {(at.org,): int(at.paused) for at in windows})
    resumes: dict[Labels, int] = {(at.org,): at.resumes_at_ms for at in windows if at.resumes_at_ms}
    yield _from_numbers(metrics.SPEND_RESUME, resumes, scale=_seconds)
    if readings.organizations_skipped is not None:
        yield _from_numbers(metrics.ORGANIZATIONS_SKIPPED, {(): readings.organizations_skipped})


def _processes(readings: Readings) -> Iterable[Family]:
    workers = readings.workers
    yield _from_numbers(metrics.BUILD_INFO, {(readings.version, readings.config_version): 1})
    yield _from_numbers(metrics.WORKER_UP, {(at.worker,): int(at.up) for at in workers})
    yield _from_numbers(metrics.WORKER_STARTS, {(at.worker,): at.starts for at in workers})
    yield _from_numbers(metrics.WORKER_CPU, {(at.worker,): at.cpu_seconds for at in workers if at.cpu_seconds is not None})
    yield _from_numbers(metrics.WORKER_MEMORY, {(at.worker,): at.resident_bytes for at in workers if at.resident_bytes is not None})
    yield _from_numbers(metrics.WORKER_FILES, {(at.worker,): at.open_fds for at in workers if at.open_fds is not None})


def _from_numbers(metric: Metric, values: Mapping[Labels, float], *, scale: Callable[[Any], float] = float) -> Family:
    family: Any = _family(metric)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, scale(value))
    return cast("Family", family)


def _family(metric: Metric) -> Family:
    kind: Any = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily}[
        metric.kind
    ]
    made: Family = kind(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    return made


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _usd(nano_usd: int) -> float:
    """Below 2**53 nano-USD the shortest decimal of the quotient has the nano-USD again."""
    return nano_usd / NANO_PER_USD
