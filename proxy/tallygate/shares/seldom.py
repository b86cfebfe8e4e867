"""Lines of the log about what lasts: at once, and then once a minute, however often it is tried."""

from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 60.0


class Seldom:
    """When a line is due, by the kind of what it says. Kinds are few and the program's own.

    clock   monotonic seconds
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def is_due(self, kind: str = "") -> bool:
        """Return whether to log now, and count it as logged if so."""
        now = self._clock()
        if now - self._logged_at.get(kind, float("-inf")) < EVERY_SECONDS:
            return False
        self._logged_at[kind] = now
        return True

    def forget(self, kind: str = "") -> None:
        """Note that it is over: the next time is the first again."""
        self._logged_at.pop(kind, None)
