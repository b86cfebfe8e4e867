"""One scrape: the workers' files, the ledger's totals, the limiter's windows, and this process's own samples."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from tallygate.config.model import GatewayConfig
from tallygate.console.limit_gauges import LimitGauges
from tallygate.console.ports import SharedTotals, Store
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck, write_samples
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.limiter.backlog import Backlog
from tallygate.shares.threads import Threads
from tallygate.telemetry import metrics
from tallygate.telemetry.count_file import Series
from tallygate.telemetry.exposition import Renderer, Scraped
from tallygate.telemetry.metric import Labels, Metric, Samples

_Gathered = dict[Metric, Mapping[Labels, float]]
_LOG: Final = logging.getLogger(__name__)
SCRAPES_AT_ONCE: Final = 2  # whose texts are put together
ORGANIZATIONS_MAX: Final = 5_000  # shown by one scrape, in the order of the configuration; the rest is counted as skipped


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
        self._store = None if store is None else (store, LimitGauges(store, now_ms=now_ms))
        self._totals = totals
        self._config = config
        self._version = version
        self._now_ms = now_ms
        self._samples = samples
        self._write_checks = write_checks
        self._renderer = Renderer()
        self._threads = Threads(SCRAPES_AT_ONCE, name="scrape")

    async def text(self, *, accept: str, is_gzipped: bool) -> tuple[str, bytes]:
        """Content type and body of one answer, as of `Renderer`."""
        samples = await self._gather()
        # Thousands of organizations take a second: others are served meanwhile.
        return await self._threads.do(partial(self._rendered, samples, accept=accept, is_gzipped=is_gzipped))

    async def close(self) -> None:
        self._threads.close()

    def _rendered(self, samples: _Gathered, *, accept: str, is_gzipped: bool) -> tuple[str, bytes]:
        counted: Sequence[Mapping[Series, tuple[int, ...]]] = ()
        if self._workers is not None:
            workers = self._workers.snapshot()
            samples.update(workers.samples())
            counted = workers.counted
        return self._renderer.render(Scraped(samples=samples, counted=counted), accept=accept, is_gzipped=is_gzipped)

    async def _gather(self) -> _Gathered:
        """All but what the workers count."""
        config = self._config()
        samples: _Gathered = {metrics.BUILD_INFO: {(self._version, config.version): 1}}
        if config.prices.reviewed_ms is not None:
            samples[metrics.LIST_PRICES_AGE] = {(): max(self._now_ms() - config.prices.reviewed_ms, 0) // 1000}
        for own in self._samples:
            samples.update(own())
        shown = config.organizations[:ORGANIZATIONS_MAX]
        asked = [
            *([] if self._store is None else [self._read_store(*self._store, shown, samples)]),
            *([] if self._totals is None else [self._read_totals(self._totals, shown, samples)]),
        ]
        if asked:
            samples[metrics.ORGANIZATIONS_SKIPPED] = {(): len(config.organizations) - len(shown)}
        have_answered = await asyncio.gather(*asked, self._check_writes(samples))
        if asked:
            samples[metrics.SCRAPE_ERRORS] = {(): int(not all(have_answered))}
        if any(part == "database" and not taken for (part, _), taken in samples[metrics.TAKES_WRITES].items()):
            samples[metrics.LEDGER_DATABASE_UP] = {(): 0}
        return samples

    async def _check_writes(self, samples: _Gathered) -> bool:
        """Gather what takes writes; return True, since each check answers."""
        samples[metrics.TAKES_WRITES] = await write_samples(self._write_checks)
        return True

    async def _read_store(self, store: Store, limits: LimitGauges, shown: Sequence[Organization], samples: _Gathered) -> bool:
        """Read the store's families; return whether it answered."""
        try:
            backlog, of_limits = await asyncio.gather(store.backlog(), limits.read(shown))
            samples.update(_backlog_samples(backlog))
            samples.update(of_limits)
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


def _backlog_samples(backlog: Backlog) -> Samples:
    samples: _Gathered = {
        metrics.LEDGER_LAG: {(): backlog.events},
        metrics.LEDGER_LAG_SECONDS: {(): backlog.oldest_ms},
        metrics.BACKLOG_BYTES: {(): backlog.waiting_bytes},
        metrics.BACKLOG_BYTES_MAX: {(): backlog.waiting_max_bytes},
        metrics.STORE_MEMORY: {(): backlog.memory_bytes},
    }
    if backlog.memory_max_bytes:
        samples[metrics.STORE_MEMORY_MAX] = {(): backlog.memory_max_bytes}
    return samples
