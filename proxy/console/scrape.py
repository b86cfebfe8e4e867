"""One scrape: the workers' files, the limiter's totals and windows, gathered into Readings."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from proxy.config.model import GatewayConfig
from proxy.console.ports import LedgerState, Store, Totals
from proxy.console.workers import Workers
from proxy.domain.admission import SpendDemand, WindowReading
from proxy.domain.calendar_months import months_around
from proxy.domain.errors import StoreError
from proxy.domain.organization import Organization
from proxy.domain.rate_limit import LimitScope
from proxy.domain.spend_limit import WindowKind
from proxy.telemetry.exposition import Readings, WindowGauges

_LOG: Final = logging.getLogger(__name__)
ORGANIZATIONS_MAX: Final = (
    5_000  # whose windows one scrape reads, in the order of the configuration; the rest is counted as skipped
)
WINDOWS_AT_ONCE: Final = 200  # reads in flight, so that a scrape does not crowd out admissions


class Scrape:
    """Gathers what /metrics shows. A store that does not answer leaves its families out; it never fails the scrape."""

    def __init__(
        self,
        *,
        workers: Workers,
        store: Store,
        config: Callable[[], GatewayConfig],
        version: str,
        now_ms: Callable[[], int],
        ledger: LedgerState | None = None,
    ) -> None:
        self._workers = workers
        self._store = store
        self._config = config
        self._version = version
        self._now_ms = now_ms
        self._ledger = ledger

    async def gather(self) -> Readings:
        config = self._config()
        shown = config.organizations[:ORGANIZATIONS_MAX]
        limited = [(org, demands) for org in shown if (demands := self._demands(org))]
        totals: Totals | None = None
        windows: list[WindowGauges] = []
        try:
            totals = await self._store.totals([org.id for org in shown])
            windows = await self._windows(limited)
        except StoreError as error:
            _LOG.warning("the limiter's store did not answer a scrape", extra={"fields": {"reason": str(error)}})
        workers = self._workers.read()
        return Readings(
            version=self._version,
            config_version=config.version,
            workers=workers.processes,
            counted=workers.counted,
            totals=None if totals is None else totals.values,
            windows=windows,
            organizations_skipped=len(config.organizations) - len(shown),
            lag_events=None if totals is None else totals.lag_events,
            drift_nano_usd=None if self._ledger is None else self._ledger.drift_nano_usd,
            malformed_events=None if self._ledger is None else self._ledger.malformed,
        )

    def _demands(self, org: Organization) -> tuple[SpendDemand, ...]:
        """The organization's own spend limits, under the keys that admission uses."""
        return tuple(
            SpendDemand(
                key=f"org:{limit.name}",
                limit=limit,
                periods=months_around(self._now_ms(), org.time_zone) if limit.kind is WindowKind.CALENDAR_MONTH else (),
            )
            for limit in org.plan.spend_limits
            if limit.scope is LimitScope.ORGANIZATION
        )

    async def _windows(self, limited: list[tuple[Organization, tuple[SpendDemand, ...]]]) -> list[WindowGauges]:
        gauges: list[WindowGauges] = []
        for start in range(0, len(limited), WINDOWS_AT_ONCE):
            part = limited[start : start + WINDOWS_AT_ONCE]
            readings = await asyncio.gather(*(self._store.windows(org.id, demands) for org, demands in part))
            gauges += [_gauges(org, demands, reading) for (org, demands), reading in zip(part, readings, strict=True)]
        return gauges


def _gauges(org: Organization, demands: tuple[SpendDemand, ...], readings: tuple[WindowReading, ...]) -> WindowGauges:
    return WindowGauges(
        org=org.id,
        spent_nano_usd=readings[0].spent_nano_usd,
        held_nano_usd=readings[0].held_nano_usd,
        limit_nano_usd=demands[0].limit.limit_nano_usd,
        paused=any(reading.paused_until_ms for reading in readings),
    )
