"""Time-ordered ids for exchanges: 48 bits of milliseconds and 80 random bits, in hexadecimal (the layout of a ULID)."""

from collections.abc import Callable
from random import Random


def event_id_source(now_ms: Callable[[], int], random: Random) -> Callable[[], str]:
    """A source of ids that sort by time and do not repeat. `random` must be seeded from the system's entropy."""
    bits = random.getrandbits

    def new_id() -> str:
        return f"{now_ms():012x}{bits(80):020x}"

    return new_id
