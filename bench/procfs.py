"""What Linux knows about processes: CPU time used, memory held, bytes written, children."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h


def parse_parent(stat: str) -> int:
    """The parent's process id: field 4 of /proc/<pid>/stat, counted after the name, which may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def parse_pss_kib(smaps_rollup: str) -> int:
    """Proportional set size of /proc/<pid>/smaps_rollup, in KiB: shared pages count in part."""
    for line in smaps_rollup.splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0])
    raise ValueError("no Pss line")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes, all threads, since they started.

    It is utime + stime of /proc/<pid>/stat, but in nanoseconds where that has ticks of 10 ms: read from the clock that Linux keeps
    for each process, whose id is made of the process id as in clock_getcpuclockid(3).
    """
    return sum(time.clock_gettime_ns((~pid << 3) | _SCHEDULER_CLOCK) for pid in pids) / 1e9


def cpu_seconds_of_family(root: int) -> float:
    """User and system time of a process and its descendants, also of children that have ended (fields 16 and 17 of its stat)."""
    ended = sum(map(int, (PROC / str(root) / "stat").read_text().rpartition(")")[2].split()[13:15]))
    return cpu_seconds(family(root)) + ended / os.sysconf("SC_CLK_TCK")


def written_bytes(pids: Iterable[int]) -> int:
    """Bytes that processes have caused to be written to disks since they started: whole pages, each once until it is written."""
    return sum(parse_written((PROC / str(pid) / "io").read_text()) for pid in pids)


def parse_written(io: str) -> int:
    """`write_bytes` of /proc/<pid>/io."""
    return next(int(line.split()[1]) for line in io.splitlines() if line.startswith("write_bytes:"))


def pss_bytes(pids: Iterable[int]) -> int:
    return 1024 * sum(parse_pss_kib((PROC / str(pid) / "smaps_rollup").read_text()) for pid in pids)


def command_line(pid: int) -> str:
    return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def family(root: int) -> tuple[int, ...]:
    """A process and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parent = parse_parent((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return tuple(found)
