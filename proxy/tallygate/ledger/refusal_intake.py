"""Brings the refusals of one machine's workers into the ledger while they serve, and once more at the end.

These are counts, and lines of the log of refused requests.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tallygate.domain.errors import ErrorCode
from tallygate.ledger.book import Book, RefusalCount
from tallygate.ledger.database_errors import LedgerUnavailableError, UnstorableError
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.shares.seldom import Seldom
from tallygate.shares.ticks import tick
from tallygate.telemetry.count_file import CountReader, owners
from tallygate.telemetry.metrics import REFUSED
from tallygate.telemetry.refusal_file import RefusalFiles, Waiting
from tallygate.telemetry.worker_state import IDENTITY, identity_of

EVERY_SECONDS: Final = 2.0  # as late as an event may be
LINES_AT_ONCE: Final = 500  # of one worker in one round: a flood cannot keep the database busy
LAST_SECONDS: Final = 2.0  # for the last round, which ends with the process
_LIMIT_STATUS: Final = 429  # anything but an error code is the name of a limit
_STATUS: Final[Mapping[str, int]] = {code.value: code.status for code in ErrorCode}
_READ: Final = (REFUSED.name, IDENTITY)  # of a count file
_log = logging.getLogger(__name__)


class RefusalIntake:
    """The intake. Counts and lines stay with the workers, so a missed round is made up later.

    refusals   counts by worker slot
    files      lines for the log of refused requests
    state      equal to the one before if the counts are the same as then; waits for no disk
    """

    def __init__(
        self,
        book: Book,
        refusals: Callable[[], Sequence[tuple[str, Sequence[RefusalCount]]]],
        *,
        log: RefusedRequests,
        files: RefusalFiles,
        now_ms: Callable[[], int],
        state: Callable[[], object] = object,
    ) -> None:
        self._book = book
        self._refusals = refusals
        self._log = log
        self._files = files
        self._now_ms = now_ms
        self._seldom = Seldom(lambda: now_ms() / 1_000)  # lines of the log about what waits
        self._state = state
        self._taken: dict[str, frozenset[RefusalCount]] = {}
        self._taken_in: object = None  # the state in which all counts were taken

    async def collect(self) -> None:
        """Update rollups and lifetime totals to the workers' counts, and move lines into the log of refused requests.

        Only changed counts cost a query, and a thread. Raises LedgerUnavailableError, UnstorableError.
        """
        state = self._state()
        if state == self._taken_in and not self._files.have_lines():
            return
        counts, lines = await asyncio.to_thread(self._look)
        await self._add(counts)
        self._taken_in = state
        await self._enter(lines)

    def _look(self) -> tuple[Sequence[tuple[str, Sequence[RefusalCount]]], Sequence[Waiting]]:
        return self._refusals(), self._files.waiting(LINES_AT_ONCE)

    async def _add(self, refusals: Sequence[tuple[str, Sequence[RefusalCount]]]) -> None:
        for source, counts in refusals:
            taken = self._taken.get(source, frozenset())
            changed = [count for count in counts if count not in taken]
            if changed:
                await self._book.add_refusals(source, changed, at_ms=self._now_ms())
                self._taken[source] = frozenset(counts)

    async def _enter(self, lines: Sequence[Waiting]) -> None:
        """Each line once. Those that the database cannot store are left out."""
        for waiting in lines:
            try:
                await self._log.add(waiting)
            except UnstorableError as error:
                _log.warning("refused requests are left out of their log", extra={"fields": {"reason": str(error)}})
            await asyncio.to_thread(self._files.give_back, waiting)

    async def store_forever(self) -> None:
        """Run until cancelled."""
        while True:
            await self._attempt()
            await tick(EVERY_SECONDS)

    async def last(self) -> None:
        """Take in the last counts, for at most LAST_SECONDS. The next start takes in the rest."""
        try:
            await asyncio.wait_for(self._attempt(), LAST_SECONDS)
        except TimeoutError:
            _log.warning("the last refusals are brought to the ledger at the next start")

    async def _attempt(self) -> None:
        try:
            await self.collect()
        except (LedgerUnavailableError, UnstorableError, OSError) as error:
            if self._seldom.is_due():
                _log.warning("refusals wait for the ledger", extra={"fields": {"reason": str(error)}})
        except Exception:  # noqa: BLE001 - the outermost handler: the counts are still there, and taken the next time
            _log.exception("refusals could not be brought to the ledger")
        else:
            self._seldom.forget()


class WorkerRefusals:
    """Reads the count files of one machine's workers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = CountReader(directory)

    def state(self) -> object:
        """Equal to the one before if no count has changed. What `counts` read before is compared, and anything else has changed."""
        found = {owner: self._reader.cells_of(owner, _READ) for owner in owners(self._directory)}
        return object() if None in found.values() else found

    def counts(self) -> list[tuple[str, list[RefusalCount]]]:
        """The refusals of each organization by worker slot, since the slot first counted; `other` if there was no organization.

        A slot's name includes its file's identity, since workers of several machines count for one ledger, each with a slot 0.
        """
        found = []
        for owner in owners(self._directory):
            series = self._reader.counts_of(owner, only=_READ)
            counts = [
                RefusalCount(
                    org=labels[0],
                    credential=labels[1],
                    capability=labels[2],
                    refused_by=labels[3],
                    status=_STATUS.get(labels[3], _LIMIT_STATUS),
                    requests=cells[0],
                )
                for (metric, labels), cells in series.items()
                if metric == REFUSED.name and cells[0] > 0
            ]
            if counts:
                identity = identity_of(series)
                found.append((f"{owner}-{identity:x}" if identity else owner, counts))
        return found
