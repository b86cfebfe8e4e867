"""The clocks of a process."""

import time


def now_ms() -> int:
    """Unix time, for reports and prices; limits use the store's clock."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """A clock that nobody sets, and that runs on while the machine sleeps where the system has one."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


def monotonic_ms() -> int:
    """The machine's monotonic clock, which all its processes share."""
    return time.monotonic_ns() // 1_000_000
