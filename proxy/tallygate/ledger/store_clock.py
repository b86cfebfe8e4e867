"""The ledger's watch over the store's clock: whether it advances like this machine's monotonic clock, or was set.

The store's clock measures every limit. A restored virtual machine, or a wrong time server, may set it far ahead and
back again. Nobody can know which of two times is right, so after a step nothing is opened for spending until the clock has
returned to where it was, or has stayed for a while.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.limiter.script import ScriptStore, Store

STEP_MS: Final = 600_000  # a smaller step is an ordinary correction, which the limiter tolerates
BELIEVED_AFTER_MS: Final = 30_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Away:
    """An offset: since since_ms of the steady clock, the store's clock has been offset_ms ahead of it."""

    offset_ms: int
    since_ms: int


class StoreClock:
    """Watches the clock at each check. steady_ms: a clock that cannot be set, and that runs while the machine sleeps.

    steps   the number of detected steps of more than STEP_MS
    """

    def __init__(self, store: Store, *, steady_ms: Callable[[], int]) -> None:
        self._store = store
        self._steady_ms = steady_ms
        self._offset_ms: int | None = None  # of the trusted time
        self._away: _Away | None = None
        self.steps = 0

    @property
    def is_believed(self) -> bool:
        return self._away is None

    def now_ms(self) -> int:
        """The store's trusted time; undefined before the first check."""
        return self._steady_ms() + (self._offset_ms or 0)

    async def look(self) -> bool:
        """Return whether the clock was set since the last check. Raises StoreError."""
        offsets = [await self._offset_of(node.store) for node in self._store.nodes()]
        steady, trusted = self._steady_ms(), self._offset_ms or 0
        offset = max(offsets, key=lambda found: abs(found - trusted))  # of a cluster, the clock that is off the most
        if self._offset_ms is None:
            self._offset_ms = offset
            return False
        away = self._away
        if abs(offset - self._offset_ms) <= STEP_MS:
            self._offset_ms, self._away = offset, None
            return self._was_set(away is not None, offset)
        if away is None or abs(offset - away.offset_ms) > STEP_MS:
            self._away = _Away(offset, steady)
            return self._was_set(True, offset)
        if steady - away.since_ms >= BELIEVED_AFTER_MS:
            _log.warning("the store's clock is believed again", extra={"fields": {"seconds_ahead": self._ahead_s(offset)}})
            self._offset_ms, self._away = offset, None
        return False

    async def _offset_of(self, server: ScriptStore) -> int:
        before = self._steady_ms()
        seconds, micros = await server.command(b"TIME")
        return int(seconds) * 1000 + int(micros) // 1000 - (before + self._steady_ms()) // 2

    def counted_at(self, at_ms: int) -> int:
        """The time at which an event counts: now, if an untrusted clock dated it into the future.

        Raises StoreError before the first check.
        """
        if self._offset_ms is None:
            raise StoreError("the store's clock was not looked at yet")
        now = self.now_ms()
        return now if at_ms > now + STEP_MS else at_ms

    def _was_set(self, is_so: bool, offset: int) -> bool:  # noqa: FBT001
        if is_so:
            self.steps += 1
            fields = {"seconds_ahead": self._ahead_s(offset)}
            _log.error(
                "the store's clock was set: spending is closed until it is rebuilt from the ledger", extra={"fields": fields}
            )
        return is_so

    def _ahead_s(self, offset: int) -> int:
        return (offset - (self._offset_ms or 0)) // 1000
