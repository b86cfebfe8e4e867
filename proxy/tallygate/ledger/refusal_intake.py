"""The refusals of one machine's workers, brought into the ledger as long as they serve, and once more at the end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database import LedgerUnavailableError, UnstorableError

EVERY_SECONDS: Final = 1.0
LAST_SECONDS: Final = 2.0  # for the last round, which ends with the process
_log = logging.getLogger(__name__)


class RefusalIntake:
    """refusals: what each worker slot has refused so far, by slot. Counts stay with the workers: what is missed comes later."""

    def __init__(
        self, book: Book, refusals: Callable[[], Sequence[tuple[str, Sequence[RefusalCount]]]], *, now_ms: Callable[[], int]
    ) -> None:
        self._book = book
        self._refusals = refusals
        self._now_ms = now_ms
        self._taken: dict[str, frozenset[RefusalCount]] = {}

    async def take(self) -> None:
        """Bring rollups and lifetime totals up to the workers' counts. The database is asked only about counts that have changed.

        Raises LedgerUnavailableError, UnstorableError.
        """
        for source, counts in await asyncio.to_thread(self._refusals):
            taken = self._taken.get(source, frozenset())
            changed = [count for count in counts if count not in taken]
            if changed:
                await self._book.add_refusals(source, changed, at_ms=self._now_ms())
                self._taken[source] = frozenset(counts)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._attempt()
            await asyncio.sleep(EVERY_SECONDS)

    async def last(self) -> None:
        """What was counted since; at most for LAST_SECONDS. The next start brings what this one cannot."""
        try:
            await asyncio.wait_for(self._attempt(), LAST_SECONDS)
        except TimeoutError:
            _log.warning("the last refusals are brought to the ledger at the next start")

    async def _attempt(self) -> None:
        try:
            await self.take()
        except (LedgerUnavailableError, UnstorableError) as error:
            _log.warning("refusals wait for the ledger", extra={"fields": {"reason": str(error)}})
        except Exception:  # noqa: BLE001 - the outermost handler: the counts are still there, and taken the next time
            _log.exception("refusals could not be brought to the ledger")
