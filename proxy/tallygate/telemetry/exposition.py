"""From readings to metric families, and to the text that Prometheus asks for. Pure: the readings are the caller's."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import Series
from tallygate.telemetry.exemplar import CELLS as EXEMPLAR_CELLS
from tallygate.telemetry.exemplar import Exemplar, read_exemplar
from tallygate.telemetry.metric import Kind, Metric
from tallygate.telemetry.metric_text import Family, HistogramCounts, Labels, TextFormat, text_of

_GZIP: Final = 31  # window bits of zlib's compressobj for a gzip stream
_GZIP_LEVEL: Final = 1  # which leaves a twentieth already; higher levels cost several times as much for little more


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
    wrong_tokens: int = 0
    clock_steps: int | None = None


def families(readings: Readings) -> list[Family]:
    """Every family with a reading, in the order of declaration."""
    counted = _gathered(readings.counted)
    made = [_summed(metric, counted[metric.name]) for metric in metrics.WORKER_METRICS]
    made += [*_ledger(readings), *_windows(readings), *_processes(readings)]
    by_name = {family.metric.name: family for family in made}
    return [by_name[metric.name] for metric in metrics.METRICS if metric.name in by_name]


def render(readings: Readings, *, accept: str, is_gzipped: bool = False) -> tuple[str, bytes]:
    """Content type and body: OpenMetrics where `accept` asks for it, else the text format.

    Thousands of organizations take seconds of CPU time: not for an event loop.
    """
    wanted = TextFormat.accepted(accept)
    pieces = text_of(families(readings), wanted)
    if not is_gzipped:
        return wanted.value, "".join(pieces).encode()
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return wanted.value, b"".join([*(packer.compress(piece.encode()) for piece in pieces), packer.flush()])


def _gathered(counted: Sequence[Mapping[Series, tuple[int, ...]]]) -> dict[str, dict[Labels, list[tuple[int, ...]]]]:
    """Cells of each family and series, slot by slot. A series of another layout (an older version's buckets) is left out."""
    cells = {metric.name: metric.cells for metric in metrics.WORKER_METRICS}
    gathered: dict[str, dict[Labels, list[tuple[int, ...]]]] = {metric.name: {} for metric in metrics.WORKER_METRICS}
    for series in counted:
        for (name, labels), values in series.items():
            if cells.get(name) == len(values):
                gathered[name].setdefault(labels, []).append(values)
    return gathered


def _summed(metric: Metric, series: Mapping[Labels, Sequence[tuple[int, ...]]]) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        return Family(metric=metric, histograms={labels: _histogram(metric, slots) for labels, slots in sorted(series.items())})
    return Family(metric=metric, numbers={labels: sum(cells[0] for cells in slots) for labels, slots in sorted(series.items())})


def _histogram(metric: Metric, slots: Sequence[tuple[int, ...]]) -> HistogramCounts:
    """Counts add up; of each bucket's exemplars the newest is shown."""
    counts = metric.count_cells
    *buckets, sum_nanos = map(sum, zip(*(cells[:counts] for cells in slots), strict=True))
    exemplars = [
        max(filter(None, (read_exemplar(cells[at : at + EXEMPLAR_CELLS]) for cells in slots)), key=_noted_at, default=None)
        for at in range(counts, metric.cells, EXEMPLAR_CELLS)
    ]
    return HistogramCounts(counts=buckets, sum_nanos=sum_nanos, exemplars=exemplars)


def _noted_at(exemplar: Exemplar) -> int:
    return exemplar.at_ms


def _ledger(readings: Readings) -> Iterable[Family]:
    for metric, values in (readings.totals or {}).items():
        yield _from_numbers(metric, values)
    if readings.lag_events is not None:
        yield _from_numbers(metrics.LEDGER_LAG, {(): readings.lag_events})
    if readings.lag_ms is not None:
        yield _from_numbers(metrics.LEDGER_LAG_SECONDS, {(): readings.lag_ms})
    if readings.database_up is not None:
        yield _from_numbers(metrics.LEDGER_DATABASE_UP, {(): int(readings.database_up)})
    if readings.drift_nano_usd is not None:
        yield _from_numbers(metrics.LEDGER_DRIFT, {(): readings.drift_nano_usd})
    if readings.malformed_events is not None:
        yield _from_numbers(metrics.LEDGER_MALFORMED, {(): readings.malformed_events})
    yield _from_numbers(metrics.CONSOLE_WRONG_TOKENS, {(): readings.wrong_tokens})
    if readings.clock_steps is not None:
        yield _from_numbers(metrics.STORE_CLOCK_STEPS, {(): readings.clock_steps})
    if readings.is_incomplete is not None:
        yield _from_numbers(metrics.SCRAPE_ERRORS, {(): int(readings.is_incomplete)})


def _windows(readings: Readings) -> Iterable[Family]:
    windows = readings.windows
    yield _from_numbers(metrics.SPEND_WINDOW, {(at.org,): at.spent_nano_usd for at in windows})
    yield _from_numbers(metrics.SPEND_HELD, {(at.org,): at.held_nano_usd for at in windows})
    yield _from_numbers(metrics.SPEND_LIMIT, {(at.org,): at.limit_nano_usd for at in windows})
    yield _from_numbers(metrics.PAUSED, {(at.org,): int(at.paused) for at in windows})
    resumes: dict[Labels, int] = {(at.org,): at.resumes_at_ms for at in windows if at.resumes_at_ms}
    yield _from_numbers(metrics.SPEND_RESUME, resumes)
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


def _from_numbers(metric: Metric, values: Mapping[Labels, float]) -> Family:
    """Below 2**53 nano-USD the shortest decimal of the quotient has the nano-USD again."""
    per_unit = metric.per_unit
    return Family(metric=metric, numbers=values, scale=float if per_unit == 1 else lambda stored: stored / per_unit)
