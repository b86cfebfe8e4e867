"""Failures of upstreams: each is counted, and logged by name and reason. A line comes at once, then one a minute with the
number of others.
"""

import asyncio
import logging
from typing import Final

from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import UPSTREAM_ERRORS

LOGGED_EVERY_S: Final = 60.0  # of one upstream and one reason
REASONS_MAX: Final = 100  # with a line in the last minute; further ones are counted by the metric alone
_log = logging.getLogger(__name__)


class UpstreamFailures:
    """Of one worker."""

    def __init__(self, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._unlogged: dict[tuple[str, str, str], int] = {}

    def note(self, upstream: str, kind: str, reason: str) -> None:
        """Count a failure. kind: a label of the metric; reason: our own words, without anything of the request."""
        self._metrics.inc(UPSTREAM_ERRORS, upstream, kind)
        key = (upstream, kind, reason)
        if key in self._unlogged:
            self._unlogged[key] += 1
        elif len(self._unlogged) < REASONS_MAX:
            self._log_failure(key, 0)

    def _log_failure(self, key: tuple[str, str, str], more: int) -> None:
        upstream, kind, reason = key
        fields: dict[str, object] = {"upstream": upstream, "kind": kind, "reason": reason}
        if more:
            fields["in_the_last_minute"] = more
        _log.warning("an upstream fails", extra={"fields": fields})
        self._unlogged[key] = 0
        self._loop.call_later(LOGGED_EVERY_S, self._log_others, key)

    def _log_others(self, key: tuple[str, str, str]) -> None:
        more = self._unlogged.pop(key)
        if more:
            self._log_failure(key, more)
