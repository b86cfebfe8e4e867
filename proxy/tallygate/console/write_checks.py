"""Whether the store and the database take writes: a small write now and then, for readiness and metrics alike.

One that answers reads and refuses writes serves nobody: its disk or memory is full, it was demoted, it is read-only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.domain.obstacle import SILENT, SLOW, Obstacle
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.telemetry.metric import Labels

THOROUGH_MS: Final = 30_000  # between two checks that try everything, which a server counts as errors of commands
EVERY_MS: Final = 2_000  # who asks sooner gets the last answer: probes and scrapes of any number write no more than this
WRITE_SECONDS: Final = 2.0  # for the write to be taken: probes of container platforms wait about so long
_log = logging.getLogger(__name__)


class WriteCheck:
    """Whether a part takes writes.

    part       "store" or "database"
    write      raises StoreError or LedgerUnavailableError, as `thorough` does
    thorough   instead of it now and then, and for as long as something is wrong
    now_ms     a monotonic clock
    """

    def __init__(
        self,
        part: str,
        write: Callable[[], Awaitable[None]],
        *,
        now_ms: Callable[[], int],
        thorough: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.part = part
        self._write = write
        self._thorough = thorough or write
        self._thorough_at_ms: int | None = None
        self._now_ms = now_ms
        self._turn = asyncio.Lock()
        self._at_ms: int | None = None
        self._last: Obstacle | None = None

    async def obstacle(self) -> Obstacle | None:
        """What keeps it from taking writes; None if it takes them. Never raises."""
        async with self._turn:
            now = self._now_ms()
            if self._at_ms is None or now - self._at_ms >= EVERY_MS:
                last, self._last, self._at_ms = self._last, await self._written(self._check_due(now)), now
                if self._last != last:
                    self._log_change(self._last)
            return self._last

    def was_taken(self) -> None:
        """Somebody else's write was just committed: it has shown all that the next check would."""
        if self._at_ms is not None and self._last is None:  # what was refused is tried until the check itself finds it taken
            self._at_ms = self._now_ms()

    def _check_due(self, now: int) -> Callable[[], Awaitable[None]]:
        if self._last is None and self._thorough_at_ms is not None and now - self._thorough_at_ms < THOROUGH_MS:
            return self._write
        self._thorough_at_ms = now
        return self._thorough

    async def _written(self, check: Callable[[], Awaitable[None]]) -> Obstacle | None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await check()
        except (StoreError, LedgerUnavailableError) as error:
            return error.obstacle or SILENT
        except TimeoutError:  # a lock, a stalled disk, a standby that must confirm and is away
            return SLOW
        return None

    def _log_change(self, found: Obstacle | None) -> None:
        if found is None:
            _log.info("the %s takes writes again", self.part)
        else:
            _log.error("the %s %s", self.part, found.text, extra={"fields": {"obstacle": found.name}})


async def write_samples(checks: Sequence[WriteCheck]) -> Mapping[Labels, float]:
    """Samples of `metrics.TAKES_WRITES`: none of a part that does not answer, which other metrics show."""
    found = await asyncio.gather(*(check.obstacle() for check in checks))
    return {
        (check.part, "" if obstacle is None else obstacle.name): int(obstacle is None)
        for check, obstacle in zip(checks, found, strict=True)
        if obstacle != SILENT
    }
