"""A process's own state in its count file: whether it lives and serves, and how often it was started."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tallygate.telemetry.count_file import CountFile, Series

HEARTBEAT_MS: Final = 1_000
STALE_MS: Final = 10_000  # a worker silent for this long is stuck or stopped: not up

_PID: Final = "pid"
_SERVING: Final = "serving"
_HEARTBEAT: Final = "heartbeat_ms"
_STARTS: Final = "starts"
STATE: Final = (_PID, _SERVING, _HEARTBEAT, _STARTS)
IDENTITY: Final = "identity"


class WorkerState:
    """Writes the cells. Times are the machine's monotonic clock, which all its processes share.

    new_identity   makes the number of a new file, 1 to 2**63 - 1, which distinguishes files of one slot on several machines
    """

    def __init__(self, counts: CountFile, *, pid: int, new_identity: Callable[[], int]) -> None:
        self._cells = counts.cells
        self._serving = counts.allocate(_SERVING)
        self._heartbeat = counts.allocate(_HEARTBEAT)
        self._cells[counts.allocate(_PID)] = pid
        starts, identity = counts.allocate(_STARTS), counts.allocate(IDENTITY)
        if self._cells[starts] == 0:
            self._cells[identity] = new_identity()
        self._cells[starts] += 1
        self._cells[self._serving] = 0

    def beat(self, now_ms: int) -> None:
        """Record a sign of life. The serving event loop calls it every HEARTBEAT_MS, so that a stuck loop falls silent."""
        self._cells[self._heartbeat] = now_ms

    def serving(self, now: bool) -> None:  # noqa: FBT001 - reads as a sentence at the call
        self._cells[self._serving] = int(now)


def identity_of(series: Mapping[Series, tuple[int, ...]]) -> int:
    """The identity of a file; 0 if the file is older than identities."""
    return series.get((IDENTITY, ()), (0,))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """The state of a worker. pid 0: never started here."""

    pid: int
    starts: int
    up: bool

    @classmethod
    def of(cls, series: Mapping[Series, tuple[int, ...]], now_ms: int) -> "WorkerStatus":
        def cell(name: str) -> int:
            return series.get((name, ()), (0,))[0]

        fresh = 0 <= now_ms - cell(_HEARTBEAT) <= STALE_MS
        return cls(pid=cell(_PID), starts=cell(_STARTS), up=bool(cell(_SERVING)) and fresh)
