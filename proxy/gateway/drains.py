"""Answers that are read on after their clients have left, for the exact usage."""


class Drains:
    """A worker's bound on those of one upstream: at most count_max at once, each for at most `seconds`."""

    def __init__(self, *, count_max: int, seconds: float) -> None:
        self.seconds = seconds
        self._count_max = count_max
        self._count = 0

    def begin(self) -> bool:
        """Whether one more may be read on. If so, `end` has to follow."""
        if self._count >= self._count_max:
            return False
        self._count += 1
        return True

    def end(self) -> None:
        self._count -= 1
