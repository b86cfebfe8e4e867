"""The access log: a line for a request, written by a thread of its own, so that the event loop never waits for whoever reads it."""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import ACCESS_LOG_DROPPED

WAITING_MAX: Final = 10_000  # lines; further ones are dropped and counted until some are written
CLOSE_SECONDS: Final = 1.0  # for what waits at the end
Facts = Mapping[str, object]


def _write_to_stderr(line: bytes) -> None:
    os.write(2, line)


class AccessLog:
    """Takes the facts of ended requests. One thread; `close` at the end.

    every    one request in so many is logged, and each that ended with a status from 500 on; 1: all
    write    writes a line, and may wait; by default to standard error, past its buffer, whose lock the loop takes too
    """

    def __init__(
        self,
        formatter: logging.Formatter,
        metrics: Metrics,
        *,
        every: int,
        write: Callable[[bytes], object] = _write_to_stderr,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._formatter = formatter
        self._write = write
        self._metrics = metrics
        self._every = every
        self._max = waiting_max
        self._count = 0
        self._dropped = 0
        self._waiting: deque[logging.LogRecord] = deque()
        self._has_lines = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._write_forever, name="access-log", daemon=True)
        self._thread.start()

    def wants(self, status: int) -> bool:
        """Return whether the request that has now ended is to be logged. Ask once for each."""
        self._count += 1
        return self._count % self._every == 0 or status >= 500

    def add(self, facts: Facts) -> None:
        """Add a line. Never waits."""
        if len(self._waiting) >= self._max:
            self._dropped += 1
            self._metrics.inc(ACCESS_LOG_DROPPED)
            return
        record = logging.LogRecord("tallygate.access", logging.INFO, "", 0, "request", None, None)
        record.fields = facts
        record.suppressed, self._dropped = self._dropped, 0
        self._waiting.append(record)
        self._has_lines.set()

    async def close(self) -> None:
        """Write what waits, for so long as that is useful."""
        self._is_closing = True
        self._has_lines.set()
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    def _write_forever(self) -> None:
        while True:
            self._has_lines.wait()
            self._has_lines.clear()
            while self._waiting:
                try:
                    self._write(f"{self._formatter.format(self._waiting.popleft())}\n".encode())
                except OSError:  # nobody reads any more
                    continue
            if self._is_closing:
                return
