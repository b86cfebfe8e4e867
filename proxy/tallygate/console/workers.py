"""The workers as the console sees them: their count files, and the kernel's figures of their processes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tallygate.telemetry.count_file import CountReader, Series, opened, owners
from tallygate.telemetry.metric import Lasts, Samples
from tallygate.telemetry.metrics import (
    DIRECTORY_SNAPSHOT,
    DIRECTORY_UNREAD,
    SPOOL_FULL,
    WORKER_CPU,
    WORKER_FILES,
    WORKER_MEMORY,
    WORKER_METRICS,
    WORKER_STARTS,
    WORKER_UP,
)
from tallygate.telemetry.worker_state import STATE, WorkerStatus

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_STAT_BYTES_MAX: Final = 4_096  # it has some hundreds
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# A dead process has nothing open, but its spooled settlements wait; a slot that no longer runs has left its spool to another.
_STATE: Final = (*STATE, DIRECTORY_UNREAD.name, DIRECTORY_SNAPSHOT.name, SPOOL_FULL.name)
_GONE: Final = frozenset(metric.name for metric in WORKER_METRICS if metric.lasts is Lasts.PROCESS)
_GONE_FOR_GOOD: Final = frozenset(metric.name for metric in WORKER_METRICS if metric.lasts is not Lasts.FOR_GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """The process of one slot. The last three are None while it has none.

    is_hidden   its count file was there and is not any more: whether it is up cannot be seen
    is_unread   it could not read the organizations of the database yet
    is_behind   the same, and it serves them from a snapshot
    is_full     it admits nothing, since its spool has no room
    """

    worker: str
    up: bool
    is_unread: bool = False
    is_behind: bool = False
    is_full: bool = False
    is_hidden: bool = False
    starts: int
    cpu_seconds: float | None = None
    resident_bytes: int | None = None
    open_fds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSnapshot:
    """A snapshot. counted has every owner that ever counted here: if there are fewer workers than before, old counts remain."""

    processes: tuple[WorkerProcess, ...]
    counted: tuple[Mapping[Series, tuple[int, ...]], ...]

    def samples(self) -> Samples:
        """The samples of /metrics about the processes themselves."""
        all_ = self.processes
        return {
            WORKER_UP: {(at.worker,): int(at.up) for at in all_ if not at.is_hidden},
            WORKER_STARTS: {(at.worker,): at.starts for at in all_},
            WORKER_CPU: {(at.worker,): at.cpu_seconds for at in all_ if at.cpu_seconds is not None},
            WORKER_MEMORY: {(at.worker,): at.resident_bytes for at in all_ if at.resident_bytes is not None},
            WORKER_FILES: {(at.worker,): at.open_fds for at in all_ if at.open_fds is not None},
        }


class Workers:
    """Reads the slots 0..workers-1 of a metrics directory."""

    def __init__(self, directory: Path, *, workers: int, now_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._slots = tuple(f"worker-{slot}" for slot in range(workers))
        self._now_ms = now_ms
        self._reader = CountReader(directory)
        self._seen: set[str] = set()

    def snapshot(self) -> WorkersSnapshot:
        """The current state of every worker. Blocks on memory and /proc; with thousands of organizations, for a while."""
        by_owner = {owner: self._reader.counts_of(owner) for owner in sorted({*self._slots, *owners(self._directory)})}
        processes = tuple(self._process(slot, by_owner[slot]) for slot in self._slots)
        up = {slot for slot, process in zip(self._slots, processes, strict=True) if process.up}
        counted = tuple(
            series if owner in up else _without(_GONE if owner in self._slots else _GONE_FOR_GOOD, series)
            for owner, series in by_owner.items()
        )
        return WorkersSnapshot(processes=processes, counted=counted)

    def processes(self) -> tuple[WorkerProcess, ...]:
        """The part of `snapshot` about the processes, without their counts."""
        return tuple(self._process(slot, self._reader.counts_of(slot, only=_STATE)) for slot in self._slots)

    def _process(self, slot: str, series: Mapping[Series, tuple[int, ...]]) -> WorkerProcess:
        status = WorkerStatus.of(series, self._now_ms())
        up = status.up and _is_alive(status.pid)
        if series:
            self._seen.add(slot)
        cpu_seconds, resident_bytes, open_fds = _process_figures(status.pid) if up else (None, None, None)
        return WorkerProcess(
            worker=slot.removeprefix("worker-"),
            up=up,
            is_unread=up and bool(series.get((DIRECTORY_UNREAD.name, ()), (0,))[0]),
            is_behind=up and bool(series.get((DIRECTORY_SNAPSHOT.name, ()), (0,))[0]),
            is_full=up and bool(series.get((SPOOL_FULL.name, ()), (0,))[0]),
            is_hidden=not series and slot in self._seen,
            starts=status.starts,
            cpu_seconds=cpu_seconds,
            resident_bytes=resident_bytes,
            open_fds=open_fds,
        )


def _is_alive(pid: int) -> bool:
    """Return whether there is such a process: one that was killed could not say that it serves no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _without(names: frozenset[str], series: Mapping[Series, tuple[int, ...]]) -> dict[Series, tuple[int, ...]]:
    return {key: cells for key, cells in series.items() if key[0] not in names}


def _process_figures(pid: int) -> tuple[float | None, int | None, int | None]:
    """CPU seconds, resident bytes, open files (proc_pid_stat(5)); each is None without /proc or such a process."""
    try:
        with opened(f"/proc/{pid}/stat") as file:
            fields = os.read(file, _STAT_BYTES_MAX).rpartition(b")")[2].split()
        files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only their number
    except OSError:
        return None, None, None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND, int(fields[21]) * _PAGE_BYTES, files
