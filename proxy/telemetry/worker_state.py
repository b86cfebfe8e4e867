"""What a process says about itself in its count file: that it lives, serves, and since when."""

from dataclasses import dataclass
from typing import Final

from proxy.telemetry.count_file import CountFile, Series

HEARTBEAT_MS: Final = 1_000
STALE_MS: Final = 10_000  # a worker silent for so long is stuck or stopped: not up

_PID: Final = "pid"
_SERVING: Final = "serving"
_HEARTBEAT: Final = "heartbeat_ms"
_STARTS: Final = "starts"


class WorkerState:
    """Writes the cells. Times are the machine's monotonic clock, which all its processes share."""

    def __init__(self, counts: CountFile, *, pid: int) -> None:
        self._cells = counts.cells
        self._serving = counts.allocate(_SERVING)
        self._heartbeat = counts.allocate(_HEARTBEAT)
        self._cells[counts.allocate(_PID)] = pid
        self._cells[counts.allocate(_STARTS)] += 1
        self._cells[self._serving] = 0

    def beat(self, now_ms: int) -> None:
        """Called every HEARTBEAT_MS from the event loop that serves, so that a stuck loop falls silent."""
        self._cells[self._heartbeat] = now_ms

    def serving(self, now: bool) -> None:  # noqa: FBT001 - reads as a sentence at the call
        self._cells[self._serving] = int(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReading:
    """pid 0: never started here."""

    pid: int
    starts: int
    up: bool

    @classmethod
    def of(cls, series: dict[Series, tuple[int, ...]], now_ms: int) -> "WorkerReading":
        def cell(name: str) -> int:
            return series.get((name, ()), (0,))[0]

        fresh = 0 <= now_ms - cell(_HEARTBEAT) <= STALE_MS
        return cls(pid=cell(_PID), starts=cell(_STARTS), up=bool(cell(_SERVING)) and fresh)
