"""Admissions that the store answered too late, or never: nobody was served, so what they may hold is taken back."""

import asyncio
import logging
from itertools import islice
from typing import Final

from tallygate.domain.admission import AdmissionRequest
from tallygate.domain.errors import NothingSentError, StoreError
from tallygate.limiter.port import Limiter

WAITING_MAX: Final = 10_000  # about 25 MB; of one more, a hold ends with its lease, and its input is charged
AT_ONCE: Final = 256
RETRY_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class Withdrawals:
    """Tried at once and then again until the store answers. Those that wait are forgotten with the process: their leases speak."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._waiting: dict[str, AdmissionRequest] = {}
        self._noted = asyncio.Event()
        self._is_full_logged = False

    @property
    def count(self) -> int:
        return len(self._waiting)

    def note(self, admission: AdmissionRequest, *, after: StoreError) -> None:
        """To be withdrawn, whether the store knows of it or not; unless the admission, by its error, was never sent."""
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
        """Withdraw what waits, oldest first, until nothing does. Raises StoreError where it fails."""
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
        """As soon as something is noted, and then every half second."""
        while True:
            await self._noted.wait()
            try:
                await self.attempt()
            except StoreError as error:
                _log.warning("%d admissions wait to be withdrawn: %s", len(self._waiting), error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - the outermost handler of this loop
                _log.exception("admissions not withdrawn")
                await asyncio.sleep(RETRY_SECONDS)
