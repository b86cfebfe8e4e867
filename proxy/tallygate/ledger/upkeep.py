"""The upkeep of a ledger: tables, writer, rebuild of the limiter, retention, audit.

Nothing here ends because a store is away. Meanwhile the gateway keeps serving: its events wait in the limiter's streams.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.domain.price import Price
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.audit_turns import AuditTurns
from tallygate.ledger.book import Book
from tallygate.ledger.continuity import Lack
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError, UnstorableError
from tallygate.ledger.directory.credentials import Credentials
from tallygate.ledger.entry_months import EntryMonths
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.notices.digests import Digests
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.ledger.retention import Retention
from tallygate.ledger.spool_copies import SpoolHeir
from tallygate.ledger.store_clock import StoreClock
from tallygate.ledger.writer import Writer
from tallygate.limiter.last_used import claim_last_used, delete_claimed
from tallygate.limiter.script import ScriptStore, Store
from tallygate.shares.seldom import Seldom
from tallygate.shares.ticks import BEAT_SECONDS, tick
from tallygate.telemetry.metric import Labels, Metric, Samples
from tallygate.telemetry.metrics import (
    LEDGER_DRIFT,
    LEDGER_GAPS,
    LEDGER_LACKS,
    LEDGER_MALFORMED,
    SPOOL_COPIES,
    SPOOL_COPIES_SETTLED,
    STORE_CLOCK_STEPS,
)

LOOK_EVERY_SECONDS: Final = BEAT_SECONDS  # at the store's clock, and at its marks
SWEEP_EVERY_SECONDS: Final = BEAT_SECONDS
WINDOWS_EVERY_SECONDS: Final = 2.0
LAST_USED_EVERY_SECONDS: Final = 10.0
AUDIT_EVERY_SECONDS: Final = 60.0
FOLD_EVERY_SECONDS: Final = 60.0  # every question adds what is recent: rows of it are few, as many as series that are in use
DAILY_EVERY_SECONDS: Final = 3_600.0
COPIES_EVERY_SECONDS: Final = 5.0
DIGESTS_EVERY_SECONDS: Final = 2.0
PREPARE_BACKOFF_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigInForce:
    """The parts of the configuration in force that the ledger needs."""

    organizations: Callable[[], Sequence[Organization]]
    prices: Callable[[], Sequence[Price]]


class Upkeep:
    """The upkeep of one ledger process; several can run at once.

    clock      of the store, which is closed when it was set
    heir       of gateways' spools; None beside SQLite, which is on their disk
    """

    def __init__(
        self,
        *,
        database: Database,
        book: Book,
        streams: EventStreams,
        writer: Writer,
        rebuild: Rebuild,
        retention: Retention,
        refused_requests: RefusedRequests,
        digests: Digests,
        limiter_audit: LimiterAudit,
        store: Store,
        config: ConfigInForce,
        now_ms: Callable[[], int],
        clock: StoreClock,
        seldom: Seldom,
        heir: SpoolHeir | None = None,
    ) -> None:
        self._database = database
        self._book = book
        self._streams = streams
        self._writer = writer
        self._rebuild = rebuild
        self._retention = retention
        self._refused_requests = refused_requests
        self._digests = digests
        self._limiter_audit = limiter_audit
        self._store = store
        self._config = config
        self._now_ms = now_ms
        self._clock = clock
        self._heir = heir
        self._rebuilding = asyncio.Lock()
        self._turns = AuditTurns(database)
        self._months = EntryMonths(database)
        self._seldom = seldom  # lines of the log about parts that wait for a store; some are tried five times a second
        self._differing: dict[tuple[str, str], int] = {}  # by organization and window
        self.drift_nano_usd: int | None = None  # by the last check of each window; None before the first

    def samples(self) -> Samples:
        """Samples of a ledger's own process, for /metrics."""
        lack = self.lack
        known: dict[Metric, Mapping[Labels, float]] = {
            LEDGER_GAPS: {(): len(lack.gaps)},
            LEDGER_LACKS: {(): lack.total_nano_usd},
            LEDGER_MALFORMED: {(): self._writer.counts.malformed},
            STORE_CLOCK_STEPS: {(): self._clock.steps},
        }
        if self._heir is not None:
            known[SPOOL_COPIES] = {(): self._heir.waiting}
            known[SPOOL_COPIES_SETTLED] = {(): self._heir.settled}
        if self.drift_nano_usd is not None:
            known[LEDGER_DRIFT] = {(): self.drift_nano_usd}
        return known

    def hurry(self) -> None:
        """Somebody asks for usage."""
        self._writer.hurry()

    @property
    def lack(self) -> Lack:
        """What the ledger was last found to lack of the store's events."""
        return self._rebuild.continuity.lack

    async def keep_forever(self) -> None:
        """Run until cancelled."""
        while not await self._attempted("tables", self._prepare):  # noqa: ASYNC110 - nobody announces that the database is back
            await asyncio.sleep(PREPARE_BACKOFF_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(0, "writer", self._writer.write_forever))
            tasks.create_task(self._every(LOOK_EVERY_SECONDS, "clock of the store", self.look_at_clock))
            tasks.create_task(self._every(LOOK_EVERY_SECONDS, "rebuild", self.look_at_marks))
            tasks.create_task(self._every(WINDOWS_EVERY_SECONDS, "windows", self.look_at_windows))
            tasks.create_task(self._every(AUDIT_EVERY_SECONDS, "audit", self.audit))
            tasks.create_task(self._every(AUDIT_EVERY_SECONDS, "comparison with the store", self.compare))
            tasks.create_task(self._every(FOLD_EVERY_SECONDS, "rollups", self._book.fold))
            tasks.create_task(self._every(DAILY_EVERY_SECONDS, "retention", self._daily))
            tasks.create_task(self._every(DIGESTS_EVERY_SECONDS, "digests", self.make_digests))
            if self._heir is not None:
                tasks.create_task(self._every(COPIES_EVERY_SECONDS, "copies of spools", self._heir.step))

    async def open_store(self) -> None:
        """Open closed partitions once, before anything may be admitted. `keep_forever` retries."""
        await self._attempted("rebuild", self.rebuild)

    async def look_at_clock(self) -> None:
        """Close everything if the store's clock was set."""
        if await self._clock.look():
            await self._rebuild.close_all()
            await self.rebuild()

    async def look_at_marks(self) -> None:
        """Open closed partitions, if there are any. Beside the look at the clock, and at its tick: what both ask is one write."""
        if await self._rebuild.closed():
            await self.rebuild()

    async def look_at_windows(self) -> None:
        """Close partitions with windows that are new, and open them at once: others' requests there get 503 in between."""
        if await self._rebuild.close_where_windows_changed():
            await self.rebuild()

    async def rebuild(self) -> None:
        """Check the store's clock, close everything if it was set, and open closed partitions once the clock is trusted."""
        async with self._rebuilding:
            was_set, closed = await asyncio.gather(self._clock.look(), self._rebuild.closed())
            if was_set:
                await self._rebuild.close_all()
                closed = await self._rebuild.closed()
            await self._rebuild.open(closed)
        if self._rebuild.waits_for_writer:
            self._writer.hurry()

    async def compare(self) -> None:
        """Look for what the ledger lacks of the store's events, also while nothing is to be rebuilt."""
        await self._rebuild.continuity.compare(self._config.organizations(), self._now_ms())
        self._rebuild.continuity.report()

    async def audit(self) -> None:
        """Measure the drift of the limiter's windows from the ledger, for a metric; of many organizations, some each time."""
        organizations, now = self._config.organizations(), self._now_ms()
        known = {organization.id for organization in organizations}
        differing = {place: nano_usd for place, nano_usd in self._differing.items() if place[0] in known}
        chosen = await self._turns.next(organizations, now, differing={org for org, _ in differing})
        looked_at = {organization.id for organization in chosen}
        differing = {place: nano_usd for place, nano_usd in differing.items() if place[0] not in looked_at}
        async for window, drifts in self._limiter_audit.windows(chosen, now):
            if drifts:
                differing[window.org, window.demand.key] = sum(found.nano_usd for found in drifts)
            for found in drifts:
                _log.error(
                    "a limiter's window differs from the ledger", extra={"fields": {"window": found.where, "off": found.nano_usd}}
                )
        self._differing = differing
        self.drift_nano_usd = sum(differing.values())

    async def make_digests(self) -> None:
        """Make digests that are due, while the clock is believed: one that is ahead would make them of weeks that still run."""
        if self._clock.is_believed:
            now = min(self._now_ms(), self._clock.now_ms())
            await self._digests.make_due(now, lacks_usage=self._writer.is_behind)

    async def _prepare(self) -> None:
        await self._database.migrate()
        await self._daily_partitions()
        await self._database.carry_over()  # of a new ledger more than a megabyte, which is not left to the first events

    async def _daily_partitions(self) -> None:
        now = self._now_ms()
        await self._months.make(now, now)
        await self._book.record_prices(self._config.prices(), now_ms=now)

    async def _daily(self) -> None:
        await self._daily_partitions()
        if self._clock.is_believed:  # a clock that is ahead would make retention delete too much, for good
            now = min(self._now_ms(), self._clock.now_ms())
            organizations = self._config.organizations()
            await self._retention.purge(organizations, now)
            await self._refused_requests.purge(organizations, now)
        await self._streams.forget_consumers()

    async def _every(self, seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._attempted(name, work)
            await tick(seconds or PREPARE_BACKOFF_SECONDS)

    async def _attempted(self, name: str, work: Callable[[], Awaitable[object]]) -> bool:
        try:
            await work()
        except (LedgerUnavailableError, StoreError, UnstorableError) as error:
            if self._seldom.is_due(name):
                _log.warning("the ledger's upkeep waits", extra={"fields": {"part": name, "reason": str(error)}})
        except Exception:  # noqa: BLE001 - the outermost handler: a fault of one part must not end the others
            _log.exception("the ledger's upkeep failed and is tried again", extra={"fields": {"part": name}})
        else:
            self._seldom.forget(name)
            return True
        return False


async def sweep_forever(sweep: Callable[[], Awaitable[int]], seldom: Seldom) -> None:
    """Settle the holds of vanished workers periodically until cancelled. Several ledgers may do so at once.

    sweep    settles a bounded number of expired holds at their checkpoint and returns how many
    seldom   its own: for lines of the log about a store that is away
    """
    while True:
        try:
            swept = await sweep()
        except StoreError as error:
            if seldom.is_due():
                _log.warning("no sweep of expired holds", extra={"fields": {"reason": str(error)}})
        else:
            seldom.forget()
            if swept:
                _log.warning("holds expired and were settled at their checkpoint", extra={"fields": {"holds": swept}})
        await tick(SWEEP_EVERY_SECONDS)


async def write_last_used(store: ScriptStore, credentials: Credentials) -> int:
    """Write the last use of credentials, which workers recorded in the store, to the database; return how many were written.

    If that fails, the records stay in the store. Raises StoreError, LedgerUnavailableError.
    """
    claimed = await claim_last_used(store)
    if claimed:
        await credentials.record_used(claimed)
        await delete_claimed(store)
    return len(claimed)


async def write_last_used_forever(store: ScriptStore, credentials: Credentials) -> None:
    """Do so periodically until cancelled. Several ledgers may do so at once."""
    while True:
        try:
            await write_last_used(store, credentials)
        except (StoreError, LedgerUnavailableError) as error:
            _log.warning("when credentials were last used is not written", extra={"fields": {"reason": str(error)}})
        await tick(LAST_USED_EVERY_SECONDS)
