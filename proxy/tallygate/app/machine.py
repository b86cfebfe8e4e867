"""Resources of the machine, or of the container on it."""

import logging
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUP_MEMORY_MAX: Final = Path("/sys/fs/cgroup/memory.max")  # Linux, "Control Group v2": a number of bytes, or "max"

# Descriptors that a process keeps from clients: for its store and database, files, listening sockets and the runtime.
DESCRIPTORS_RESERVED: Final = 128
_log: Final = logging.getLogger(__name__)


def memory_bytes() -> int:
    """The memory that this process may use: the machine's, or less if its control group limits it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(machine, int(CGROUP_MEMORY_MAX.read_text()))
    return machine


def raise_descriptors() -> int:
    """Raise this process's descriptor limit to the hard limit, which children inherit; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # an unlimited hard limit can exceed the kernel's
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _descriptors()


def connections_within(wanted: int, *, name: str) -> int:
    """The number of client connections that the descriptors allow, at most `wanted`. A lower number is logged.

    Each may need a connection to an upstream as well.
    """
    descriptors = _descriptors()
    most = max(1, (descriptors - DESCRIPTORS_RESERVED) // 2)
    if most < wanted:
        _log.warning(
            "%s takes %d connections at most instead of %d: it may open %d descriptors. Raise the limit (ulimit -Hn, LimitNOFILE)",
            name,
            most,
            wanted,
            descriptors,
        )
    return min(wanted, most)


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**20
