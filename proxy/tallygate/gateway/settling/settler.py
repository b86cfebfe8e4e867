"""Settling: by the limiter if it answers in time, else through the spool, which is replayed when the limiter is back."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from tallygate.domain.admission import Account, AdmissionRequest, Settlement, Warned
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.gateway.settling.recent import RecentSettlements, noted
from tallygate.gateway.settling.spool import Spool, SpoolFullError
from tallygate.limiter.port import Limiter
from tallygate.shares.seldom import Seldom
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import LIMITER_ERRORS, LIMITER_SECONDS, SPEND_WARNINGS, SPOOL_EVENTS, SPOOL_FULL

REPLAY_BATCH: Final = 256  # records read at once, so that not all are read while the limiter is away
REMEMBERED_MS: Final = 300_000  # the limiter remembers settlements for twice as long, if they were handed to anybody
FORGET_EVERY_S: Final = 5.0  # groups of several organizations at once
_REPLAY_EVERY_S: Final = 1.0
_log = logging.getLogger(__name__)


class Settler:
    """Ends reservations. A settlement is acknowledged by the limiter, or on disk, or (the disk being full too) in the log.

    finished    the event ids, among those given, that are final in the ledger; raises StoreError
    now_ms      Unix time
    clock       monotonic seconds, of the waits for the limiter
    store_run   id of the run of the limiter's store; the last settlements of one run are replayed in the next
    deferred    how many exchanges were handed on as jobs
    on_job      called with the account of a deferred exchange, or of a part of it, the first time that it is settled
    """

    def __init__(
        self,
        limiter: Limiter,
        spool: Spool,
        metrics: Metrics,
        *,
        finished: Callable[[Sequence[str]], Awaitable[frozenset[str]]],
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
        store_run: Callable[[], str] = lambda: "",
        on_job: Callable[[Account], None] | None = None,
    ) -> None:
        self._limiter = limiter
        self._spool = spool
        self.finished = finished
        self._now_ms = now_ms
        self._metrics = metrics
        self._clock = clock
        self._on_job = on_job
        self.deferred = 0
        self.recent = RecentSettlements(store_run, now_ms)
        self._seldom = Seldom(clock)  # lines of the log about a spool that waits
        self._count_spooled()

    @property
    def is_saturated(self) -> bool:
        """Return whether nothing more may be admitted, because there might be no place for its settlement."""
        return self._spool.is_full

    async def settle(self, account: Account) -> Settlement | None:
        """The limiter's settlement, or None if it went to the spool.

        Waits for the store no longer than its connection's deadline. A call that is answered too late may still have been
        applied; the replay of the spool finds out.
        """
        try:
            return await self._post(account)
        except StoreError as error:
            _log.warning("settlement of %s goes to the spool: %s", account.admission.reservation_id, error)
        try:
            await self._spool.append(noted(account, self._now_ms()))
            self._count_spooled()
        except SpoolFullError as error:
            _log.critical("settlement lost, re-enter it by hand: %s (%s)", account.event.decode(errors="replace"), error)
        return None

    async def settle_job(self, account: Account) -> Settlement:
        """Settle a deferred exchange. Raises StoreError: it is polled again, so nothing is spooled."""
        return self._job_settled(account, await self._post(account))

    async def settle_part(self, account: Account) -> Settlement:
        """Settle a result of a deferred exchange. Raises StoreError: its reader comes back to it, so nothing is spooled."""
        return self._job_settled(account, await self._post(account))

    def _job_settled(self, account: Account, settlement: Settlement) -> Settlement:
        if self._on_job is not None and not settlement.repeated:
            try:
                self._on_job(account)
            except Exception:  # noqa: BLE001 - it is settled, whatever becomes of it elsewhere
                _log.exception("the settlement of %s is not shown", account.admission.reservation_id)
        return settlement

    async def replay(self) -> int:
        """Settle spooled records, oldest first, until the limiter fails; returns how many were settled. Raises OSError."""
        settled = 0
        await self._spool_suspected()
        while not self._spool.is_empty:
            records = await self._spool.read_oldest(REPLAY_BATCH)
            done = await self._post_in_order(records, await self._finished_among(records))
            if done:
                await self._spool.drop(done)
                self._count_spooled()
                settled += done
            if not records or done < len(records):
                break
            await self._spool_suspected()
        if self._spool.is_empty:
            self._seldom.forget()
        return settled

    async def _spool_suspected(self) -> None:
        """Spool settlements that may have been lost with the store's last run, as far as there is room."""
        while records := self.recent.suspected(REPLAY_BATCH):
            try:
                spooled = await self._spool.append_some(records)
            except SpoolFullError as error:
                self._log_wait(logging.ERROR, "settlements that the store may have lost wait in memory: %s", error)
                return
            self.recent.forget_suspected(spooled)
            self._count_spooled()
            if spooled < len(records):
                return

    async def _finished_among(self, records: Sequence[Account | None]) -> frozenset[str] | None:
        """Records that the limiter settled, but answered too late, and that the ledger has; None if it does not answer."""
        try:
            return await self.finished([record.admission.reservation_id for record in records if record is not None])
        except StoreError as error:
            self._log_wait(logging.WARNING, "spool replay without the ledger: %s", error)
            return None

    async def _post_in_order(self, records: Sequence[Account | None], finished: frozenset[str] | None) -> int:
        """Settle records in order, up to the first that the limiter does not accept; return how many are done.

        The limiter forgets settled reservations after a while, and would settle them again: then only the ledger can tell.
        """
        for done, record in enumerate(records):
            if finished is None and record is not None and self._now_ms() - record.noted_at_ms > REMEMBERED_MS:
                return done
            try:
                if record is not None and record.admission.reservation_id not in (finished or ()):
                    await self._post(record)
            except StoreError as error:
                self._log_wait(logging.WARNING, "spool replay waits: %s", error)
                return done
        return len(records)

    async def replay_forever(self) -> None:
        """Replay at the start, and then every second while records wait."""
        while True:
            try:
                await self._spool.keep_room()
                self._count_spooled()
                await self.replay()
            except OSError as error:
                self._log_wait(logging.ERROR, "spool not replayed: %s", error.strerror)
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("spool not replayed")
            await asyncio.sleep(_REPLAY_EVERY_S)

    async def forget(self) -> None:
        """Have the store forget what nobody can ask it about again. Raises StoreError: the rest goes when its time is over."""
        if settled := self.recent.take_unrepeatable():
            await self._limiter.forget(settled)

    async def forget_forever(self) -> None:
        """Forget every few seconds."""
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            try:
                with suppress(StoreError):
                    await self.forget()
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("settlements are not forgotten")

    def _log_wait(self, level: int, text: str, reason: object) -> None:
        """Log why the spool waits."""
        if self._seldom.is_due():
            _log.log(level, text, reason)

    async def _post(self, account: Account) -> Settlement:
        asked_at = self._clock()
        try:
            settlement = await (self._limiter.defer(account) if account.job else self._limiter.settle(account))
        except LimiterWipedError:  # the store did answer
            raise
        except StoreError:
            self._metrics.inc(LIMITER_ERRORS, "settle")
            raise
        self._metrics.observe(LIMITER_SECONDS, self._clock() - asked_at, account.admission.reservation_id, "settle")
        if account.job:
            self.deferred += 1
        for warned in settlement.warned:
            self._warn(account.admission, warned)
        if not account.part_of:  # whoever reads the results of a batch comes back to each
            self.recent.keep(account, settlement)
        return settlement

    def _warn(self, admission: AdmissionRequest, warned: Warned) -> None:
        """Log and count a threshold of a spend limit that this settlement crossed: once per crossing."""
        limit = next(demand.limit.name for demand in admission.spend if demand.key == warned.key)
        _log.warning("organization %s has spent %g %% of its limit %s", admission.org, warned.permille / 10, limit)
        self._metrics.inc(SPEND_WARNINGS, admission.org, limit, f"{warned.permille / 1000:g}")

    def _count_spooled(self) -> None:
        self._metrics.set(SPOOL_EVENTS, self._spool.count)
        self._metrics.set(SPOOL_FULL, int(self._spool.is_full))
