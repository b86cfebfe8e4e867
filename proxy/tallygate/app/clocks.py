"""The clocks of a process, and the ids of its exchanges and files."""

import secrets
import time
from collections.abc import Callable
from random import Random


def now_ms() -> int:
    """Unix time, for reports and prices; limits use the store's clock."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """A clock that cannot be set and, if the system has one, keeps running while the machine sleeps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


def monotonic_ms() -> int:
    """The machine's monotonic clock, which all its processes share."""
    return time.monotonic_ns() // 1_000_000


def event_id_source(clock_ms: Callable[[], int], random: Random) -> Callable[[], str]:
    """A source of ids that sort by time and do not repeat: 48 bits of milliseconds and 80 random ones, as a ULID has.

    random   must be seeded from the system's entropy
    """
    bits = random.getrandbits

    def new_id() -> str:
        return f"{clock_ms():012x}{bits(80):020x}"

    return new_id


def new_file_identity() -> int:
    """A number for a file that no other machine's file of this name has, 1 to 2**62."""
    return secrets.randbits(62) + 1
