"""Rebuild of the limiter's spend windows from the ledger, after the limiter's store has lost its data or its clock was wrong.

A partition without its mark admits nothing that has a spend limit. It is opened again in these steps, each of which may be
repeated, and by several processes: wait until its stream is stored; note its last event; read the postings from the ledger; put
them into the windows, if the partition is still closed and that event still the last; mark it. Times of reservations that a clock
ahead had postponed are corrected as well.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from tallygate.domain.job import deferred_account
from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import SPEND_BUCKET_MS
from tallygate.ledger.continuity import Continuity
from tallygate.ledger.database import Database
from tallygate.ledger.jobs import open_jobs
from tallygate.ledger.limiter_windows import LimiterWindow, windows_of
from tallygate.ledger.postings import posted_in, read_postings
from tallygate.limiter.generation import (
    RestoreRefusedError,
    StoredWindow,
    close_partition,
    is_unused,
    mark_partition,
    orgs_of,
    partition_runs,
    read_window,
    reanchor_org,
    restore_window,
    stream_facts,
    unmarked_partitions,
)
from tallygate.limiter.keys import PARTITIONS, partition_keys, partition_of
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import Scripts, Store

_AGAIN_MS: Final = 60_000
_RECENT_MS: Final = 3_600_000  # as long as an exchange may last
_ORGS_AT_ONCE: Final = 100  # with their postings in memory: a busy week is about 2,000 numbers a credential
_log = logging.getLogger(__name__)


class Rebuild:
    """Opens closed partitions; one per process, called again and again.

    organizations  none of which changes within what it returns
    lease_ms       the new lease of a reservation whose lease was set while the store's clock was ahead
    may_open       whether the store's clock is trusted: spend is not restored at a time that may be wrong
    continuity     of this ledger and this store: nothing is rebuilt that the ledger would lower
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        scripts: Scripts,
        *,
        organizations: Callable[[], Sequence[Organization]],
        now_ms: Callable[[], int],
        lease_ms: int = 30_000,
        may_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._store = store
        self._scripts = scripts
        self._organizations = organizations
        self._now_ms = now_ms
        self._lease_ms = lease_ms
        self._limiter = RedisLimiter(store, scripts)
        self.continuity = Continuity(database, store, scripts)
        self._may_open = may_open
        self._has_opened = False
        self.waits_for_writer = False  # whether a partition was left closed: nothing of it may wait in its stream
        self._known: dict[str, Organization] = {}  # as their windows were last looked at
        self._checked: Sequence[Organization] = ()  # all of them
        self._recent: dict[str, int] = {}  # those that have changed, and until when they are looked at again
        self._again_at_ms = 0

    async def closed(self) -> Sequence[int]:
        """The partitions that are closed. Raises StoreError."""
        return await unmarked_partitions(self._store)

    async def open(self, closed: Sequence[int]) -> int:
        """Open each of these partitions whose stream is stored; return how many. Raises LedgerUnavailableError, StoreError."""
        self.waits_for_writer = bool(closed)
        if not closed or not self._may_open():
            return 0
        runs = await partition_runs(self._store)  # read first: if the store restarts meanwhile, the marks are another run's
        is_new = await is_unused(self._store)
        await self.continuity.check()
        by_partition: defaultdict[int, list[Organization]] = defaultdict(list)
        for organization in self._organizations():
            by_partition[partition_of(organization.id)].append(organization)
        opened = sum([await self._open(partition, by_partition[partition], runs[partition]) for partition in closed])
        self.continuity.report()
        self.waits_for_writer = opened < len(closed)
        if opened:
            _log.log(
                logging.INFO if is_new or not self._has_opened else logging.WARNING,  # at its own start it is no surprise
                "the limiter's spend was rebuilt from the ledger",
                extra={"fields": {"partitions": opened}},
            )
            self._has_opened = True
        return opened

    async def repair(self, partition: int) -> None:
        """Close a partition whose windows differ from the ledger; it is opened again with the ledger's spend."""
        await close_partition(self._store, partition)

    async def close_all(self) -> None:
        """Close all partitions after the store's clock was set; they are opened again with the ledger's spend."""
        for partition in range(PARTITIONS):
            await close_partition(self._store, partition)

    async def close_where_windows_changed(self) -> bool:
        """Close the partitions of organizations with a window that is to count what it has not counted so far; return whether any.

        A limit that is new to them counts what was spent before it, and a month that begins on another day, since the time zone or
        the billing day has changed, what was spent in it. All of that is in the ledger.

        All are looked at once, and then those that have changed in the configuration, for an hour: what was open under their
        earlier limits is settled under these alone.
        """
        organizations, now = self._organizations(), self._now_ms()
        looked_at: Sequence[Organization] = ()
        if organizations is not self._checked:
            looked_at = [each for each in organizations if self._known.get(each.id) is not each]
        elif self._recent and now >= self._again_at_ms:
            self._recent = {org: until_ms for org, until_ms in self._recent.items() if now < until_ms}
            looked_at = [each for each in organizations if each.id in self._recent]
            self._again_at_ms = now + _AGAIN_MS
        closed = False
        for start in range(0, len(looked_at), _ORGS_AT_ONCE):
            closed |= await self._close_where_lacking(looked_at[start : start + _ORGS_AT_ONCE], now)
        if organizations is not self._checked:
            self._known = {each.id: each for each in organizations}
            self._checked = organizations
        return closed

    async def _close_where_lacking(self, organizations: Sequence[Organization], now: int) -> bool:
        """Close the partitions of those with a window that lacks spend, or counts another month than theirs; return whether any."""
        windows = [window for organization in organizations for window in windows_of(organization, now)]
        if not windows:
            return False
        new = {(each.id, key) for each in organizations for key in self._new_windows(each, now)}
        since_ms = min(window.since_ms(now) for window in windows)
        posted = await read_postings(self._database, [window.org for window in windows], since_ms)  # before what the store has
        pairs = [(window, spent) for window in windows if (spent := posted_in(window, posted)) or window.demand.periods]
        stored = await asyncio.gather(*(read_window(self._store, window.org, window.demand.key) for window, _ in pairs))
        closed = set[int]()
        for (window, spent), found in zip(pairs, stored, strict=True):
            counted, is_new = _counted(window, spent, found, now), (window.org, window.demand.key) in new
            if _counts_another_month(window, found):
                reason = "a time zone or billing day has changed: the month's limit is rebuilt"
            elif counted > found.spent_nano_usd or (is_new and counted):
                reason = "a spend limit counts what was spent before it: it is rebuilt"
            else:
                continue
            _log.warning(reason, extra={"fields": {"org": window.org, "window": window.demand.key}})
            closed.add(partition_of(window.org))
        for partition in sorted(closed):
            await close_partition(self._store, partition)
        for organization in organizations:
            if self._known.get(organization.id) not in (None, organization):
                self._recent[organization.id] = now + _RECENT_MS
            self._known[organization.id] = organization
        return bool(closed)

    def _new_windows(self, organization: Organization, now: int) -> set[str]:
        """The keys of windows that it did not have when it was last looked at; none at the first look."""
        known = self._known.get(organization.id)
        if known is None or known is organization:
            return set()
        return {window.demand.key for window in windows_of(organization, now)} - {
            window.demand.key for window in windows_of(known, now)
        }

    async def _open(self, partition: int, organizations: Sequence[Organization], run: str) -> bool:
        last_event = (await stream_facts(self._store, partition)).last_event
        if await self._store.command(b"XLEN", partition_keys(partition).events):
            return False  # the writer is still storing it
        if not await self.continuity.may_rebuild(partition, organizations, self._now_ms()):
            return False
        try:
            for start in range(0, len(organizations), _ORGS_AT_ONCE):
                await self._restore(organizations[start : start + _ORGS_AT_ONCE], last_event)
        except RestoreRefusedError:
            return False
        for org in await orgs_of(self._store, partition):
            await reanchor_org(self._store, self._scripts, org, lease_ms=self._lease_ms)
        await mark_partition(self._store, partition, run)
        return True

    async def _restore(self, organizations: Sequence[Organization], last_event: bytes) -> None:
        now = self._now_ms()
        windows = [window for organization in organizations for window in windows_of(organization, now)]
        if not windows:
            return
        since_ms = min(window.since_ms(now) for window in windows)
        posted = await read_postings(self._database, [window.org for window in windows], since_ms)
        for window in windows:
            pairs = posted_in(window, posted)
            await restore_window(self._store, self._scripts, window.org, window.demand, pairs, after_event=last_event)
        async for found in open_jobs(self._database, sorted({window.org for window in windows})):
            await self._limiter.hold_again(deferred_account(found.job))


def _counts_another_month(window: LimiterWindow, stored: StoredWindow) -> bool:
    periods, period = window.demand.periods, stored.period
    return bool(periods) and period is not None and period not in periods and period.end_ms > periods[0].start_ms


def _counted(window: LimiterWindow, posted: Sequence[tuple[int, int]], stored: StoredWindow, now_ms: int) -> int:
    """What the ledger has posted within the time that the window counts, or would count from now on."""
    if window.demand.periods:
        period = stored.period or next(each for each in window.demand.periods if now_ms < each.end_ms)
        return sum(amount for at, amount in posted if period.start_ms <= at < period.end_ms)
    last = now_ms // SPEND_BUCKET_MS * SPEND_BUCKET_MS if stored.last_bucket_ms is None else stored.last_bucket_ms
    return sum(amount for at, amount in posted if at > last - window.demand.limit.window_ms)
