"""One scrape: the workers' files, the ledger's totals and the limiter's windows, gathered into Readings."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tallygate.config.model import GatewayConfig
from tallygate.console.ports import LedgerState, SharedTotals, Store
from tallygate.console.workers import Workers
from tallygate.domain.admission import SpendDemand, WindowState
from tallygate.domain.calendar_months import months_around
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import LimitScope
from tallygate.domain.spend_limit import WindowKind
from tallygate.ledger.database import LedgerUnavailableError
from tallygate.telemetry.exposition import Readings, WindowGauges

_LOG: Final = logging.getLogger(__name__)
ORGANIZATIONS_MAX: Final = 5_000  # that one scrape shows, in the order of the configuration; the rest is counted as skipped
WINDOWS_AT_ONCE: Final = 50  # reads in flight, so that a scrape does not crowd out admissions


class Scrape:
    """Gathers what /metrics shows. A store or database that does not answer leaves its families out; it never fails the scrape."""

    def __init__(
        self,
        *,
        config: Callable[[], GatewayConfig],
        version: str,
        now_ms: Callable[[], int],
        workers: Workers | None = None,
        store: Store | None = None,
        totals: SharedTotals | None = None,
        ledger: LedgerState | None = None,
        wrong_tokens: Callable[[], int] = lambda: 0,
    ) -> None:
        """workers, store, totals, ledger: where this process shows them; the families of the others are left out."""
        self._workers = workers
        self._store = store
        self._totals = totals
        self._config = config
        self._version = version
        self._now_ms = now_ms
        self._ledger = ledger
        self._wrong_tokens = wrong_tokens

    async def gather(self) -> Readings:
        config = self._config()
        workers = None if self._workers is None else await asyncio.to_thread(self._workers.snapshot)
        readings = Readings(
            version=self._version,
            config_version=config.version,
            workers=() if workers is None else workers.processes,
            counted=() if workers is None else workers.counted,
            drift_nano_usd=None if self._ledger is None else self._ledger.drift_nano_usd,
            malformed_events=None if self._ledger is None else self._ledger.malformed,
            wrong_tokens=self._wrong_tokens(),
            clock_steps=None if self._ledger is None else self._ledger.clock_steps,
        )
        shown = config.organizations[:ORGANIZATIONS_MAX]
        asked = [
            *([] if self._store is None else [self._read_store(self._store, shown, readings)]),
            *([] if self._totals is None else [self._read_totals(self._totals, shown, readings)]),
        ]
        if asked:
            readings.organizations_skipped = len(config.organizations) - len(shown)
            readings.is_incomplete = not all(await asyncio.gather(*asked))
        return readings

    async def _read_store(self, store: Store, shown: Sequence[Organization], readings: Readings) -> bool:
        """Whether the store has answered."""
        limited = [(org, demands) for org in shown if (demands := self._demands(org))]
        try:
            lag = await store.lag()
            readings.lag_events, readings.lag_ms = lag.events, lag.ms
            readings.windows = await _windows(store, limited)
        except StoreError as error:
            _LOG.warning("the limiter's store did not answer a scrape", extra={"fields": {"reason": str(error)}})
            return False
        return True

    async def _read_totals(self, totals: SharedTotals, shown: Sequence[Organization], readings: Readings) -> bool:
        """Whether the database has answered."""
        try:
            read = await totals.fetch([org.id for org in shown])
        except LedgerUnavailableError as error:
            _LOG.warning("the ledger's database did not answer a scrape", extra={"fields": {"reason": str(error)}})
            readings.database_up = False
            return False
        readings.database_up = True
        readings.totals = read.values
        readings.organizations_skipped = (readings.organizations_skipped or 0) + read.organizations_skipped
        return True

    def _demands(self, org: Organization) -> tuple[SpendDemand, ...]:
        """The organization's own spend limits, under the keys that admission uses."""
        return tuple(
            SpendDemand(
                key=f"org:{limit.name}",
                limit=limit,
                periods=months_around(self._now_ms(), org.time_zone, org.billing_day)
                if limit.kind is WindowKind.CALENDAR_MONTH
                else (),
            )
            for limit in org.plan.spend_limits
            if limit.scope is LimitScope.ORGANIZATION
        )


async def _windows(store: Store, limited: Sequence[tuple[Organization, tuple[SpendDemand, ...]]]) -> list[WindowGauges]:
    gauges: list[WindowGauges] = []
    for start in range(0, len(limited), WINDOWS_AT_ONCE):
        part = limited[start : start + WINDOWS_AT_ONCE]
        readings = await asyncio.gather(*(store.windows(org.id, demands) for org, demands in part))
        gauges += [_gauges(org, demands, reading) for (org, demands), reading in zip(part, readings, strict=True)]
    return gauges


def _gauges(org: Organization, demands: tuple[SpendDemand, ...], readings: tuple[WindowState, ...]) -> WindowGauges:
    return WindowGauges(
        org=org.id,
        spent_nano_usd=readings[0].spent_nano_usd,
        held_nano_usd=readings[0].held_nano_usd,
        limit_nano_usd=demands[0].limit.limit_nano_usd,
        paused=any(reading.paused_until_ms for reading in readings),
        resumes_at_ms=max(reading.paused_until_ms for reading in readings),
    )
