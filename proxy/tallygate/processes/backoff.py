"""How long to wait before starting a crashed process again."""

from typing import Final

FIRST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 5.0
HEALTHY_SECONDS: Final = 10.0  # a process that lived so long had a good start: its next crash is a first one


class Backoff:
    """0.1 s, doubled at each early death, at most 5 s."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def after(self, lived_seconds: float) -> float:
        """Seconds to wait, given how long the process lived."""
        if lived_seconds >= HEALTHY_SECONDS:
            self._next = FIRST_SECONDS
        delay = self._next
        self._next = min(self._next * 2, MOST_SECONDS)
        return delay
