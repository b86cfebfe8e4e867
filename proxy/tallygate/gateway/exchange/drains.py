"""Answers that are read on after their clients have left, for the exact usage: bounded in time, number and bytes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from tallygate.config.model import OnDisconnect, Upstream
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import READ_ON, READING_ON


class DrainEnd(StrEnum):
    """The end of a drain, or the reason why it did not start; a metric label."""

    COMPLETE = "complete"
    FAILED = "failed"  # by the upstream
    TIME = "time"
    COUNT = "count"  # too many at once in this worker
    ORG_COUNT = "org_count"  # too many at once of this organization
    BYTES = "bytes"
    ORG_BYTES = "org_bytes"
    SHUTDOWN = "shutdown"


class Drains:
    """A worker's bounds on the answers of one upstream that are read on, of all organizations together and of each.

    An organization has a share of its own, so that its leaving clients cost the others nothing. Past a bound an answer is cut.
    """

    def __init__(self, upstream: Upstream, metrics: Metrics) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._count = self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._bytes_of: Counter[str] = Counter()

    def start(self, org: str, *, is_stream: bool) -> "Drain | None":
        """Start a drain, whose `finish` must follow; None if one more would be too many."""
        upstream = self._upstream
        end = None
        if self._count >= upstream.drain_max:
            end = DrainEnd.COUNT
        elif self._counts[org] >= upstream.drain_org_max:
            end = DrainEnd.ORG_COUNT
        if end is not None:
            self._metrics.inc(READ_ON, end)
            return None
        self._count += 1
        self._counts[org] += 1
        self._metrics.inc(READING_ON)
        is_short = is_stream and upstream.on_disconnect is OnDisconnect.GRACE
        return Drain(self, org, seconds=(upstream.grace_ms if is_short else upstream.drain_ms) / 1000)

    def count(self, org: str, size: int) -> DrainEnd | None:
        """Count bytes that were read, and return the bound that they exceed, if any."""
        self._bytes += size
        self._bytes_of[org] += size
        if self._bytes > self._upstream.drain_bytes:
            return DrainEnd.BYTES
        if self._bytes_of[org] > self._upstream.drain_org_bytes:
            return DrainEnd.ORG_BYTES
        return None

    def release(self, org: str, size: int, end: DrainEnd) -> None:
        """Release the share of a drain that read `size` bytes."""
        self._count -= 1
        self._bytes -= size
        for counter, amount in ((self._counts, 1), (self._bytes_of, size)):
            counter[org] -= amount
            if not counter[org]:
                del counter[org]
        self._metrics.dec(READING_ON)
        self._metrics.inc(READ_ON, end)


class Drain:
    """One answer that is read on, for at most `seconds`."""

    __slots__ = ("_bytes", "_cut_by", "_drains", "_org", "_timer", "seconds")

    def __init__(self, drains: Drains, org: str, *, seconds: float) -> None:
        self.seconds = seconds
        self._drains = drains
        self._org = org
        self._bytes = 0
        self._cut_by = DrainEnd.SHUTDOWN  # unless a bound does
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, loop: asyncio.AbstractEventLoop, cut: Callable[[], None]) -> None:
        """Call `cut` when the time is over, unless the drain has finished."""
        self._timer = loop.call_later(self.seconds, self._run_out, cut)

    def _run_out(self, cut: Callable[[], None]) -> None:
        self._cut_by = DrainEnd.TIME
        cut()

    def count(self, size: int) -> DrainEnd | None:
        """Count bytes that were read, and return the bound that they exceed, if any."""
        self._bytes += size
        bound = self._drains.count(self._org, size)
        self._cut_by = bound or self._cut_by
        return bound

    def finish(self, *, is_complete: bool, has_failed: bool) -> None:
        """End the drain. To be called once. Neither complete nor failed: it was cut."""
        if self._timer is not None:
            self._timer.cancel()
        end = DrainEnd.COMPLETE if is_complete else DrainEnd.FAILED if has_failed else self._cut_by
        self._drains.release(self._org, self._bytes, end)
