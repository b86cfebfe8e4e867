"""Traits of a dialect that decide which routes may use it."""

from typing import NamedTuple


class DialectTraits(NamedTuple):
    """is_billed: a provider bills its endpoints; speaks_frames: it is spoken over a WebSocket, and nothing else is."""

    is_billed: bool
    speaks_frames: bool = False
