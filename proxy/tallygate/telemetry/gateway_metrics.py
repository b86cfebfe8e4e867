"""What a worker counts while it serves. A call is a dictionary look-up and an addition in shared memory."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from tallygate.domain.organization import Organization, UnknownModelPolicy
from tallygate.telemetry import exemplar
from tallygate.telemetry.count_file import CountFile, CountsFullError
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metrics import (
    BAD_REQUESTS,
    CONFIG_RELOADS,
    FAIL_OPEN,
    FIRST_BYTE_SECONDS,
    KEY_LOOKUPS,
    LIMITER_ERRORS,
    LIMITER_SECONDS,
    OPEN_REQUESTS,
    OTHER,
    OVERHEAD_SECONDS,
    READ_ON,
    READING_ON,
    REFUSED,
    REQUEST_SECONDS,
    SHADOW_REFUSED,
    SPEND_WARNINGS,
    SPOOL_EVENTS,
    UNKNOWN_MODELS,
    UPSTREAM_ERRORS,
    Metric,
)

FAIL_OPEN_CLASSES: Final = frozenset({"rate", "spend"})
LIMITER_OPERATIONS: Final = ("admit", "settle")
DRAIN_ENDS: Final = ("complete", "failed", "time", "count", "org_count", "bytes", "org_bytes", "shutdown")
KEY_LOOKUP_RESULTS: Final = ("active", "inactive", "failed", "busy")
RELOAD_RESULTS: Final = ("applied", "rejected")
UPSTREAM_ERROR_KINDS: Final = frozenset(
    {"unreachable", "overloaded", "timeout", "reset", "invalid_response", "truncated", "unauthorized", "status", "in_stream"},
)
_NANO: Final = 1_000_000_000
_log = logging.getLogger(__name__)
_EXEMPLAR_CELLS: Final = exemplar.CELLS  # module globals: each of these is looked up several times a request
_EXEMPLAR_EVERY_MS: Final = exemplar.EVERY_MS
_NOTED_AT: Final = exemplar.AT


class GatewayMetrics:
    """The metrics of one worker, over the count file of its slot.

    Series appear when they are first counted and only for known labels, so their number is bounded by configuration. If the count
    file is full even so, further series are counted under `other`, which has had its cells since the start.
    """

    def __init__(self, counts: CountFile, known: KnownLabels, *, now_ms: Callable[[], int]) -> None:
        """now_ms: Unix time, of exemplars."""
        self._counts = counts
        self._now_ms = now_ms
        self._cells = counts.cells
        self._known = known
        self._children: dict[tuple[str, tuple[str, ...]], int] = {}
        self._refused: dict[tuple[str, str, str, str], int] = {}
        self._answers: dict[str, tuple[int, int]] = {}
        for metric in (
            REFUSED,
            SHADOW_REFUSED,
            SPEND_WARNINGS,
            REQUEST_SECONDS,
            FIRST_BYTE_SECONDS,
            UNKNOWN_MODELS,
            FAIL_OPEN,
            UPSTREAM_ERRORS,
            KEY_LOOKUPS,
            READ_ON,
            CONFIG_RELOADS,
        ):
            self._child(metric, (OTHER,) * len(metric.labels))
        for kind in sorted(UPSTREAM_ERROR_KINDS):  # present at 0 from the start, so that the first failure is an increase
            self._child(UPSTREAM_ERRORS, (kind,))
        for end in DRAIN_ENDS:
            self._child(READ_ON, (end,))
        for class_ in sorted(FAIL_OPEN_CLASSES):
            self._child(FAIL_OPEN, (class_,))
        for result in KEY_LOOKUP_RESULTS:
            self._child(KEY_LOOKUPS, (result,))
        for result in RELOAD_RESULTS:
            self._child(CONFIG_RELOADS, (result,))
        self._limiter = {name: self._child(LIMITER_SECONDS, (name,)) for name in LIMITER_OPERATIONS}
        self._limiter_errors = {name: self._child(LIMITER_ERRORS, (name,)) for name in LIMITER_OPERATIONS}
        self._spool = self._child(SPOOL_EVENTS, ())
        self._overhead = self._child(OVERHEAD_SECONDS, ())
        self._open = self._child(OPEN_REQUESTS, ())
        self._bad_requests = self._child(BAD_REQUESTS, ())
        self._reading_on = self._child(READING_ON, ())
        self._cells[self._open] = self._cells[self._reading_on] = 0  # the slot's previous process may have died with requests open

    def know(self, known: KnownLabels) -> None:
        """Take the labels of a reloaded configuration. What is gone is counted as `other` from now on; its series stay."""
        self._known = known
        self._refused.clear()
        self._answers.clear()

    def follow(self, gone: Iterable[Organization], come: Iterable[Organization]) -> None:
        """Take the labels of organizations that changed."""
        self.know(self._known.followed(gone, come))

    def opened(self) -> None:
        self._cells[self._open] += 1

    def closed(self) -> None:
        self._cells[self._open] -= 1

    def refused(self, org: str, credential: str, capability: str, limit: str) -> None:
        """limit: the limit's name, or the error code where no limit was at fault. Not authenticated: org and credential `other`."""
        key = (org, credential, capability, limit)
        cell = self._refused.get(key)
        if cell is None:
            labels = (*self._known.exchange(org, credential, capability), self._known.limit(limit))
            cell = self._child(REFUSED, labels)
            if labels == key:
                self._refused[key] = cell
        self._cells[cell] += 1

    def shadow_refused(self, org: str, credential: str, capability: str, limit: str) -> None:
        """A limit in shadow mode would have refused."""
        labels = (*self._known.exchange(org, credential, capability), self._known.limit(limit))
        self._cells[self._child(SHADOW_REFUSED, labels)] += 1

    def spend_warned(self, org: str, limit: str, permille: int) -> None:
        """Spend crossed a threshold of a limit, given in thousandths of it."""
        labels = (self._known.organization(org), self._known.limit(limit), f"{permille / 1000:g}")
        self._cells[self._child(SPEND_WARNINGS, labels)] += 1

    def observe(
        self, capability: str, seconds: float, first_byte_seconds: float | None, overhead_seconds: float, request_id: str
    ) -> None:
        """One finished request. first_byte_seconds is None if the upstream sent no body."""
        answers = self._answers.get(capability)
        if answers is None:
            label = self._known.capability(capability)
            answers = (self._child(REQUEST_SECONDS, (label,)), self._child(FIRST_BYTE_SECONDS, (label,)))
            if label == capability:
                self._answers[capability] = answers
        now_ms = self._now_ms()
        self._observe(_ANSWERS, answers[0], seconds, now_ms, request_id)
        if first_byte_seconds is not None:
            self._observe(_ANSWERS, answers[1], first_byte_seconds, now_ms, request_id)
        self._observe(_OVERHEAD, self._overhead, overhead_seconds, now_ms, request_id)

    def limiter_answered(self, operation: str, seconds: float, request_id: str) -> None:
        """operation: one of LIMITER_OPERATIONS."""
        self._observe(_LIMITER, self._limiter[operation], seconds, self._now_ms(), request_id)

    def limiter_failed(self, operation: str) -> None:
        """No answer came. operation: one of LIMITER_OPERATIONS."""
        self._cells[self._limiter_errors[operation]] += 1

    def unknown_model(self, org: str, policy: UnknownModelPolicy) -> None:
        """A request for a model without a price, and what became of it."""
        self._cells[self._child(UNKNOWN_MODELS, (self._known.organization(org), policy.value))] += 1

    def spooled(self, events: int) -> None:
        """How many settlements this worker's spool holds."""
        self._cells[self._spool] = events

    def fail_open(self, limit_class: str) -> None:
        """A request admitted without the limiter's word. limit_class: rate or spend."""
        self._cells[self._child(FAIL_OPEN, (limit_class if limit_class in FAIL_OPEN_CLASSES else OTHER,))] += 1

    def upstream_error(self, kind: str) -> None:
        """kind: one of UPSTREAM_ERROR_KINDS."""
        self._cells[self._child(UPSTREAM_ERRORS, (kind if kind in UPSTREAM_ERROR_KINDS else OTHER,))] += 1

    def key_looked_up(self, result: str) -> None:
        """result: one of KEY_LOOKUP_RESULTS."""
        self._cells[self._child(KEY_LOOKUPS, (result,))] += 1

    def drain_begun(self) -> None:
        self._cells[self._reading_on] += 1

    def drain_ended(self, end: str, *, begun: bool) -> None:
        """end: one of DRAIN_ENDS. begun: it was read on for a while."""
        self._cells[self._reading_on] -= begun
        self._cells[self._child(READ_ON, (end,))] += 1

    def bad_request(self) -> None:
        self._cells[self._bad_requests] += 1

    def config_reloaded(self, *, applied: bool) -> None:
        self._cells[self._child(CONFIG_RELOADS, ("applied" if applied else "rejected",))] += 1

    def _observe(self, layout: "_Layout", first: int, seconds: float, now_ms: int, request_id: str) -> None:
        cells, nanos = self._cells, int(seconds * _NANO)
        bucket = bisect_left(layout.buckets, nanos)
        cells[first + bucket] += 1
        cells[first + layout.sum] += nanos
        remembered = first + layout.exemplars + bucket * _EXEMPLAR_CELLS
        if not 0 <= now_ms - cells[remembered + _NOTED_AT] < _EXEMPLAR_EVERY_MS:
            exemplar.note_exemplar(cells, remembered, nanos, now_ms, request_id)

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> int:
        cell = self._children.get((metric.name, labels))
        if cell is None:
            try:
                cell = self._counts.allocate(metric.name, labels, cells=metric.cells)
            except CountsFullError:
                _log.warning("the count file is full, further series are counted as other: %s", metric.name)
                cell = self._children[metric.name, (OTHER,) * len(labels)]
            else:
                self._children[metric.name, labels] = cell
        return cell


class _Layout(msgspec.Struct, frozen=True):
    """Where a histogram has what, counted from its first cell."""

    buckets: tuple[int, ...]
    sum: int
    exemplars: int


def _layout(metric: Metric) -> _Layout:
    return _Layout(buckets=metric.buckets, sum=metric.count_cells - 1, exemplars=metric.count_cells)


_ANSWERS: Final = _layout(REQUEST_SECONDS)  # and of FIRST_BYTE_SECONDS, whose buckets are the same
_OVERHEAD: Final = _layout(OVERHEAD_SECONDS)
_LIMITER: Final = _layout(LIMITER_SECONDS)
