"""The access log: a line for a request, written by a thread of its own, so that the event loop never waits for whoever reads it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from tallygate.telemetry.line_writer import LineWriter, write_to_stderr
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import ACCESS_LOG_DROPPED

WAITING_MAX: Final = 10_000  # lines; further ones are dropped and counted until some are written
Facts = Mapping[str, object]


class AccessLog:
    """Takes the facts of ended requests. One thread; `close` at the end.

    every    one request in so many is logged, and each that ended with a status from 500 on; 1: all
    write    writes a line, and may wait; by default to standard error
    """

    def __init__(
        self,
        formatter: logging.Formatter,
        metrics: Metrics,
        *,
        every: int,
        write: Callable[[bytes], object] = write_to_stderr,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._metrics = metrics
        self._every = every
        self._count = 0
        self._dropped = 0
        self._writer = LineWriter[logging.LogRecord](
            lambda record: f"{formatter.format(record)}\n".encode(), write=write, waiting_max=waiting_max, name="access-log"
        )

    def wants(self, status: int) -> bool:
        """Return whether the request that has now ended is to be logged. Ask once for each."""
        self._count += 1
        return self._count % self._every == 0 or status >= 500

    def add(self, facts: Facts) -> None:
        """Add a line. Never waits."""
        record = logging.LogRecord("tallygate.access", logging.INFO, "", 0, "request", None, None)
        record.fields = facts
        record.suppressed = self._dropped
        if self._writer.add(record):
            self._dropped = 0
        else:
            self._dropped += 1
            self._metrics.inc(ACCESS_LOG_DROPPED)

    async def close(self) -> None:
        """Write what waits, for so long as that is useful."""
        await asyncio.to_thread(self._writer.close)
