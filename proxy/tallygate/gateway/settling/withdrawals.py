"""Withdrawal of admissions that the store answered too late, or never: nobody was served, so their holds are returned."""

import asyncio
import logging
from itertools import islice
from typing import Final

from tallygate.domain.admission import AdmissionRequest
from tallygate.domain.errors import NothingSentError, StoreError
from tallygate.limiter.port import Limiter

WAITING_MAX: Final = 10_000  # about 25 MB; beyond it, a hold ends with its lease, and its input is charged
AT_ONCE: Final = 256
RETRY_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class Withdrawals:
    """Withdrawals, tried at once and then again until the store answers. If the process ends, their leases end the holds."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._waiting: dict[str, AdmissionRequest] = {}
        self._noted = asyncio.Event()
        self._is_full_logged = False
        self._is_waiting_logged = False

    @property
    def count(self) -> int:
        return len(self._waiting)

    def note(self, admission: AdmissionRequest, *, after: StoreError) -> None:
        """Queue an admission for withdrawal, whether the store has it or not, unless its error shows that it was never sent."""
        if isinstance(after, NothingSentError):
            return
        if len(self._waiting) >= WAITING_MAX:
            if not self._is_full_logged:
                _log.error("%d admissions wait to be withdrawn: of further ones, holds end with their leases", WAITING_MAX)
                self._is_full_logged = True
            return
        self._waiting[admission.reservation_id] = admission
        self._noted.set()

    async def attempt(self) -> None:
        """Withdraw waiting admissions, oldest first. Raises StoreError at the first failure."""
        while self._waiting:
            batch = list(islice(self._waiting.values(), AT_ONCE))
            outcomes = await asyncio.gather(*(self._limiter.withdraw(admission) for admission in batch), return_exceptions=True)
            for admission, outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    del self._waiting[admission.reservation_id]
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
        self._is_full_logged = False
        self._noted.clear()

    async def withdraw_forever(self) -> None:
        """Withdraw as soon as an admission is queued, and retry every half second. The log has a line when they begin to wait, and
        one when they no longer do.
        """
        while True:
            await self._noted.wait()
            try:
                await self.attempt()
                if self._is_waiting_logged:
                    _log.info("all admissions that waited are withdrawn")
                    self._is_waiting_logged = False
            except StoreError as error:
                if not self._is_waiting_logged:
                    _log.warning("%d admissions wait to be withdrawn: %s", len(self._waiting), error)
                    self._is_waiting_logged = True
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("admissions not withdrawn")
                await asyncio.sleep(RETRY_SECONDS)
