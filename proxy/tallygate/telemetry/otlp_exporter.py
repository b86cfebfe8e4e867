"""Sends spans and metrics to an OpenTelemetry collector: OTLP over HTTP, in Protocol Buffers.

https://opentelemetry.io/docs/specs/otlp/, "OTLP/HTTP". No request waits for it: what an exchange leaves behind waits in a bounded
queue, a few spans are encoded at a time between which the loop serves, and they are compressed in a thread.
"""

import asyncio
import gzip
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tallygate.shares.fair_shares import FairShares
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import OTLP_EXPORTS_FAILED, OTLP_SPANS_DROPPED
from tallygate.telemetry.otlp_metrics import OtlpMetrics
from tallygate.telemetry.otlp_spans import SpanRecord, encoded_spans

SPANS_MAX: Final = 4_096  # that wait for an export; of one organization three times what is left free
BATCH: Final = 512  # spans of one message
AT_ONCE: Final = 8  # spans that are encoded in one go, in less than a millisecond
SPANS_EVERY_S: Final = 1.0
TIMEOUT_S: Final = 10.0
CLOSE_S: Final = 2.0
TRIES: Final = 5
WAIT_S_MAX: Final = 30.0  # before a message is sent once more
WARN_EVERY_S: Final = 60.0
_ANSWER_BYTES_MAX: Final = 65_536
_COMPRESSED_FROM: Final = 1_024  # bytes
_RETRIED: Final = frozenset({429, 502, 503, 504})  # "Retryable Response Codes"
_log: Final = logging.getLogger(__name__)


class _NotSentError(Exception):
    """A message that the collector did not take. again_s: after which it may be sent once more; None: it may not."""

    def __init__(self, reason: str, *, again_s: float | None) -> None:
        super().__init__(reason)
        self.again_s = again_s


class Collector(NamedTuple):
    """Where it is sent. endpoint: a URL without the signal's path; headers: further ones of every message."""

    endpoint: str
    headers: Mapping[str, str]


class OtlpExporter:
    """One worker's way to the collector. `export_forever` beside the server, `close` after it.

    series          the metrics, sent every `metrics_seconds`
    counts          the worker's own counters, for what was dropped
    now_ns, clock   Unix nanoseconds; monotonic seconds
    """

    def __init__(
        self,
        collector: Collector,
        session: ClientSession,
        resource: Resource,
        series: OtlpMetrics,
        counts: Metrics,
        *,
        metrics_seconds: float,
        now_ns: Callable[[], int],
        clock: Callable[[], float],
        spans_max: int = SPANS_MAX,
    ) -> None:
        self._collector = collector
        self._session = session
        self._resource = resource
        self._series = series
        self._counts = counts
        self._metrics_seconds = metrics_seconds
        self._now_ns = now_ns
        self._clock = clock
        self._spans_max = spans_max
        self._waiting: list[SpanRecord] = []
        self._shares = FairShares(spans_max)
        self._is_enough = asyncio.Event()
        self._warned_at = -math.inf

    def add(self, org: str, spans: Sequence[SpanRecord]) -> None:
        """Leave spans of an exchange to be exported. Never waits: without room they are dropped and counted."""
        if not self._shares.acquire(org, len(spans)):
            self._counts.add(OTLP_SPANS_DROPPED, len(spans), "queue_full")
            return
        self._waiting += spans
        if len(self._waiting) >= BATCH:
            self._is_enough.set()

    async def export_forever(self) -> None:
        """Export spans every second, or as soon as there are enough, and metrics at their interval."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._spans_forever())
            tasks.create_task(self._metrics_forever())

    async def _spans_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_enough.wait(), SPANS_EVERY_S)
            await self._attempt(self.export_spans)

    async def _metrics_forever(self) -> None:
        while True:
            await asyncio.sleep(self._metrics_seconds)
            await self._attempt(self.export_metrics)

    async def _attempt(self, export: Callable[[], object]) -> None:
        try:
            await export()  # type: ignore[misc]
        except Exception:  # noqa: BLE001 - the outermost handler of these loops
            _log.exception("nothing is exported to OpenTelemetry's collector for once")

    async def export_spans(self, *, tries: int = TRIES) -> None:
        """Export what waits now. What comes meanwhile waits for the next time."""
        spans, self._waiting, self._shares = self._waiting, [], FairShares(self._spans_max)
        self._is_enough.clear()
        for start in range(0, len(spans), BATCH):
            try:
                await self._export_batch(spans[start : start + BATCH], tries=tries)
            except asyncio.CancelledError:  # the worker ends: `close` tries the rest once more, even if some of it had arrived
                self._waiting = spans[start:] + self._waiting
                raise
            except Exception:
                self._counts.add(OTLP_SPANS_DROPPED, len(spans) - start, "not_sent")
                raise

    async def _export_batch(self, batch: Sequence[SpanRecord], *, tries: int) -> None:
        parts = []
        for first in range(0, len(batch), AT_ONCE):
            parts.append(encoded_spans(batch[first : first + AT_ONCE], self._resource))
            await asyncio.sleep(0)
        await self._send_spans(b"".join(parts), len(batch), tries=tries)

    async def export_metrics(self) -> None:
        """Export the metrics as they stand. A message that is not taken needs no second try: the next has its numbers, too."""
        parts = []
        for part in self._series.encoded(self._resource, now_ns=self._now_ns()):
            parts.append(part)
            await asyncio.sleep(0)
        if message := b"".join(parts):
            try:
                await self._post("metrics", message)
            except _NotSentError as error:
                self._warn("metrics", error)

    async def _send_spans(self, message: bytes, number: int, *, tries: int) -> None:
        for attempt in range(1, tries + 1):
            try:
                answer = await self._post("traces", message)
            except _NotSentError as error:
                self._warn("traces", error)
                if error.again_s is None or attempt == tries:
                    self._counts.add(OTLP_SPANS_DROPPED, number, "not_sent")
                    return
                await asyncio.sleep(min(max(error.again_s, 2.0 ** (attempt - 1)), WAIT_S_MAX))
            else:
                self._note_rejected(answer)
                return

    async def _post(self, signal: str, message: bytes) -> bytes:
        """Send one message. Raises _NotSentError, whose text has nothing of what was sent or answered."""
        headers = {**self._collector.headers, "Content-Type": "application/x-protobuf"}
        if len(message) >= _COMPRESSED_FROM:
            message = await asyncio.to_thread(gzip.compress, message, 1)
            headers["Content-Encoding"] = "gzip"
        url = f"{self._collector.endpoint}/v1/{signal}"
        try:
            async with self._session.post(
                url, data=message, headers=headers, timeout=ClientTimeout(total=TIMEOUT_S), allow_redirects=False
            ) as answer:
                if answer.status < 300:
                    return await answer.content.read(_ANSWER_BYTES_MAX)
                after = answer.headers.get("Retry-After", "")
                again_s = float(after[:9]) if after.isascii() and after.isdigit() else 0.0
                reason = f"it answered {answer.status}"
                failure = _NotSentError(reason, again_s=again_s if answer.status in _RETRIED else None)
        except (ClientError, TimeoutError) as error:
            failure = _NotSentError(f"it could not be reached: {type(error).__name__}", again_s=0.0)
        self._counts.inc(OTLP_EXPORTS_FAILED, signal)
        raise failure

    def _note_rejected(self, answer: bytes) -> None:
        """Count spans that the collector took the message of, but not them ("Partial Success")."""
        try:
            rejected = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
        except DecodeError:  # it answers in another format: it took them
            return
        if rejected > 0:
            self._counts.add(OTLP_SPANS_DROPPED, rejected, "rejected")

    def _warn(self, signal: str, error: _NotSentError) -> None:
        """Log why nothing is sent, once a minute: `OTLP_EXPORTS_FAILED` counts each."""
        now = self._clock()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            _log.warning(
                "OpenTelemetry's collector does not take what is sent", extra={"fields": {"signal": signal, "reason": str(error)}}
            )

    async def close(self) -> None:
        """Send what is left, for so long as that is useful."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.export_spans(tries=1)
                await self.export_metrics()
        await self._session.close()
