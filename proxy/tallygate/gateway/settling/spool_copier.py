"""Copies of spooled settlements elsewhere, so that a machine that is lost with its disk does not take them with it.

A client's last bytes wait for the spool alone; the copy follows within a second, while whoever keeps it answers. What is copied is
never looked at again here: whoever keeps it removes it, once it is in the ledger. When the store stays away, what it acknowledged
last is copied too: it may come back without that, and this worker's memory has the only other trace (`recent.py`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tallygate.domain.admission import Account
from tallygate.domain.errors import StoreError
from tallygate.gateway.settling.recent import RecentSettlements
from tallygate.gateway.settling.spool import FIRST, Spool
from tallygate.shares.seldom import Seldom
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import SPOOL_UNCOPIED

COPY_EVERY_S: Final = 0.5
BATCH_BYTES: Final = 250_000  # of one transaction, some 100 records, read while the spool waits
RECENT_AT_ONCE: Final = 100
AWAY_STEPS: Final = 3  # steps with settlements in the spool, after which the store is away: else a replay had emptied it
LAST_COPY_S: Final = 2.0  # at the end of the process, whose disk may end with it
_log = logging.getLogger(__name__)

KeepCopies = Callable[[Sequence[Account]], Awaitable[int]]


class SpoolCopier:
    """Copies the spool of one worker, from its first record at each start: copies that are there already change nothing.

    keep    stores copies, and returns for how many it has no room; raises StoreError
    clock   monotonic seconds
    """

    def __init__(
        self, spool: Spool, recent: RecentSettlements, metrics: Metrics, keep: KeepCopies, *, clock: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._recent = recent
        self._metrics = metrics
        self._keep = keep
        self._copied = FIRST
        self._left_out = 0  # since the spool was last empty
        self._steps = 0  # since then
        self._seldom = Seldom(clock)

    async def step(self) -> None:
        """Copy all that is new. Raises StoreError, OSError; it is then tried again."""
        try:
            waiting = self._spool.count_after(self._copied)  # what comes meanwhile is for the next step
            while waiting > 0:
                records, position = await self._spool.read_after(self._copied, BATCH_BYTES)
                if position == self._copied:
                    return
                if records:
                    self._left_out += await self._keep(records)
                waiting -= position.number - self._copied.number
                self._copied = position
            if self._steps + 1 == AWAY_STEPS:
                await self._copy_recent()
            self._steps += 1
        finally:
            if self._spool.is_empty:
                self._left_out = self._steps = 0
            self._metrics.set(SPOOL_UNCOPIED, self._spool.count_after(self._copied) + self._left_out)

    async def _copy_recent(self) -> None:
        recent = self._recent.copies()
        for start in range(0, len(recent), RECENT_AT_ONCE):
            await self._keep(recent[start : start + RECENT_AT_ONCE])

    async def copy_forever(self) -> None:
        """Copy twice a second."""
        while True:
            try:
                await self.step()
            except (StoreError, OSError) as error:
                self._log_failure(str(error))
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("spooled settlements are not copied")
            else:
                if self._left_out:
                    self._log_failure(f"there is no room for {self._left_out} of them")
                else:
                    self._seldom.forget()
            await asyncio.sleep(COPY_EVERY_S)

    async def copy_last(self) -> None:
        """Copy once more, for LAST_COPY_S at most: of what is left, the disk has the only copy."""
        try:
            await asyncio.wait_for(self.step(), LAST_COPY_S)
        except (StoreError, OSError) as error:
            _log.warning("settlements stay in the spool without a copy: %s", str(error) or "it takes too long")

    def _log_failure(self, reason: str) -> None:
        if self._seldom.is_due():
            _log.warning("spooled settlements are on this disk alone: %s", reason)
