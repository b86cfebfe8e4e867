"""The store's clock as the ledger watches it: whether it goes on as this machine's steady clock does, or was set.

Every limit is measured by the store's clock. A virtual machine that is restored, or a wrong time server, may set it far ahead and
back again. Nobody can know which of two times is right; so after a step nothing is opened for spending until the clock has come
back to where it was, or has stayed where it is for a while.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.limiter.script import ScriptStore

STEP_MS: Final = 600_000  # less is an ordinary correction, which the limiter takes as it comes
BELIEVED_AFTER_MS: Final = 30_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Away:
    """Since since_ms of the steady clock, the store's clock has been offset_ms ahead of it."""

    offset_ms: int
    since_ms: int


class StoreClock:
    """Look at it again and again. steady_ms: a clock that nobody sets, and that runs on while the machine sleeps.

    steps   how often it was seen to have been set, by more than STEP_MS
    """

    def __init__(self, store: ScriptStore, *, steady_ms: Callable[[], int]) -> None:
        self._store = store
        self._steady_ms = steady_ms
        self._offset_ms: int | None = None  # of the time that is believed
        self._away: _Away | None = None
        self.steps = 0

    @property
    def is_believed(self) -> bool:
        return self._away is None

    def now_ms(self) -> int:
        """The store's time as it is believed; of no use before the first look."""
        return self._steady_ms() + (self._offset_ms or 0)

    async def look(self) -> bool:
        """Whether the clock was set since the last look. Raises StoreError."""
        before = self._steady_ms()
        seconds, micros = await self._store.command(b"TIME")
        steady = self._steady_ms()
        offset = int(seconds) * 1000 + int(micros) // 1000 - (before + steady) // 2
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

    def counted_at(self, at_ms: int) -> int:
        """When an event of that time counts: now, if a clock that is not believed has dated it into the future.

        Raises StoreError before the first look.
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
