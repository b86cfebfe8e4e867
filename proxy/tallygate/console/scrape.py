"""One scrape: the workers' files, the ledger's totals, the limiter's windows, and this process's own samples."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tallygate.config.model import GatewayConfig
from tallygate.console.ports import SharedTotals, Store
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck, write_samples
from tallygate.domain.admission import SpendDemand
from tallygate.domain.calendar_months import months_around
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.domain.rate_limit import LimitScope
from tallygate.domain.spend_limit import WindowKind
from tallygate.ledger.database import LedgerUnavailableError
from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import Series
from tallygate.telemetry.exposition import Scraped
from tallygate.telemetry.metric import Labels, Metric, Samples

_Gathered = dict[Metric, Mapping[Labels, float]]
_LOG: Final = logging.getLogger(__name__)
ORGANIZATIONS_MAX: Final = 5_000  # shown by one scrape, in the order of the configuration; the rest is counted as skipped
WINDOWS_AT_ONCE: Final = 50  # reads in flight, so that a scrape does not crowd out admissions


class Scrape:
    """Gathers the families of /metrics. If a store or database does not answer, its families are missing, nothing else."""

    def __init__(
        self,
        *,
        config: Callable[[], GatewayConfig],
        version: str,
        now_ms: Callable[[], int],
        workers: Workers | None = None,
        store: Store | None = None,
        totals: SharedTotals | None = None,
        samples: Sequence[Callable[[], Samples]] = (),
        write_checks: Sequence[WriteCheck] = (),
    ) -> None:
        """workers, store, totals: those that this process shows; the families of the others are left out.

        samples        this process's own samples
        write_checks   of the store and the database
        """
        self._workers = workers
        self._store = store
        self._totals = totals
        self._config = config
        self._version = version
        self._now_ms = now_ms
        self._samples = samples
        self._write_checks = write_checks

    async def gather(self) -> Scraped:
        config = self._config()
        samples: _Gathered = {metrics.BUILD_INFO: {(self._version, config.version): 1}}
        if config.prices.reviewed_ms is not None:
            samples[metrics.LIST_PRICES_AGE] = {(): max(self._now_ms() - config.prices.reviewed_ms, 0) // 1000}
        for own in self._samples:
            samples.update(own())
        counted: Sequence[Mapping[Series, tuple[int, ...]]] = ()
        if self._workers is not None:
            workers = await asyncio.to_thread(self._workers.snapshot)
            samples.update(workers.samples())
            counted = workers.counted
        takes_writes = await write_samples(self._write_checks)
        samples[metrics.TAKES_WRITES] = takes_writes
        shown = config.organizations[:ORGANIZATIONS_MAX]
        asked = [
            *([] if self._store is None else [self._read_store(self._store, shown, samples)]),
            *([] if self._totals is None else [self._read_totals(self._totals, shown, samples)]),
        ]
        if asked:
            samples[metrics.ORGANIZATIONS_SKIPPED] = {(): len(config.organizations) - len(shown)}
            samples[metrics.SCRAPE_ERRORS] = {(): int(not all(await asyncio.gather(*asked)))}
        if any(part == "database" and not taken for (part, _), taken in takes_writes.items()):
            samples[metrics.LEDGER_DATABASE_UP] = {(): 0}
        return Scraped(samples=samples, counted=counted)

    async def _read_store(self, store: Store, shown: Sequence[Organization], samples: _Gathered) -> bool:
        """Read the store's families; return whether it answered."""
        limited = [(org, demands) for org in shown if (demands := self._demands(org))]
        try:
            lag = await store.lag()
            samples.update({metrics.LEDGER_LAG: {(): lag.events}, metrics.LEDGER_LAG_SECONDS: {(): lag.ms}})
            samples.update(await _windows(store, limited))
        except StoreError as error:
            _LOG.warning("the limiter's store did not answer a scrape", extra={"fields": {"reason": str(error)}})
            return False
        return True

    async def _read_totals(self, totals: SharedTotals, shown: Sequence[Organization], samples: _Gathered) -> bool:
        """Read the totals; return whether the database answered."""
        try:
            read = await totals.fetch([org.id for org in shown])
        except LedgerUnavailableError as error:
            _LOG.warning("the ledger's database did not answer a scrape", extra={"fields": {"reason": str(error)}})
            samples[metrics.LEDGER_DATABASE_UP] = {(): 0}
            return False
        samples.update(read.samples)
        samples[metrics.LEDGER_DATABASE_UP] = {(): 1}
        samples[metrics.ORGANIZATIONS_SKIPPED] = {(): samples[metrics.ORGANIZATIONS_SKIPPED][()] + read.organizations_skipped}
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


async def _windows(store: Store, limited: Sequence[tuple[Organization, tuple[SpendDemand, ...]]]) -> Samples:
    """The first spend limit of each organization as enforced now, and whether any of its limits pauses it."""
    shown: dict[Metric, dict[Labels, int]] = {
        metric: {}
        for metric in (metrics.SPEND_WINDOW, metrics.SPEND_HELD, metrics.SPEND_LIMIT, metrics.PAUSED, metrics.SPEND_RESUME)
    }
    for start in range(0, len(limited), WINDOWS_AT_ONCE):
        part = limited[start : start + WINDOWS_AT_ONCE]
        states = await asyncio.gather(*(store.windows(org.id, demands) for org, demands in part))
        for (org, demands), windows in zip(part, states, strict=True):
            labels, resumes_at_ms = (org.id,), max(window.paused_until_ms for window in windows)
            shown[metrics.SPEND_WINDOW][labels] = windows[0].spent_nano_usd
            shown[metrics.SPEND_HELD][labels] = windows[0].held_nano_usd
            shown[metrics.SPEND_LIMIT][labels] = demands[0].limit.limit_nano_usd
            shown[metrics.PAUSED][labels] = int(bool(resumes_at_ms))
            if resumes_at_ms:
                shown[metrics.SPEND_RESUME][labels] = resumes_at_ms
    return shown
