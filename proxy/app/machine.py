"""What the machine, or the container on it, has."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUP_MEMORY_MAX: Final = Path("/sys/fs/cgroup/memory.max")  # Linux, "Control Group v2": a number of bytes, or "max"


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less if its control group says so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(machine, int(CGROUP_MEMORY_MAX.read_text()))
    return machine
