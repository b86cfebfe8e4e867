"""Exemplars: one recent observation of a histogram's bucket with its request's id, which leads from a latency to a log line.

It uses CELLS adjacent cells of a count file: nanoseconds, Unix milliseconds, the request's id in four, and a checksum.
A reader in another process may find it half written, even for good if its writer was killed; the checksum then does not match.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

CELLS: Final = 7
EVERY_MS: Final = 1_000  # the least time between two exemplars of a bucket, so that they cost next to nothing
_REQUEST_ID_BYTES_MAX: Final = 32
_RECORD: Final = struct.Struct(f"=qq{_REQUEST_ID_BYTES_MAX}s")
_RECORD_CELLS: Final = struct.Struct(f"={CELLS - 1}q")
_CHECKSUM: Final = struct.Struct("=q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """nanos: the observed value; at_ms: Unix time."""

    nanos: int
    at_ms: int
    request_id: str


def note_exemplar(cells: memoryview, first: int, nanos: int, at_ms: int, request_id: str) -> None:
    """Store an observation in the cells from `first` on. Callers do so seldom: see EVERY_MS."""
    record = _RECORD.pack(nanos, at_ms, request_id.encode())
    cells[first : first + CELLS] = memoryview(record + _CHECKSUM.pack(crc32(record))).cast("q")


def read_exemplar(cells: Sequence[int]) -> Exemplar | None:
    """Read the exemplar in CELLS cells; None if there is none, or if it is half written."""
    *fields, checksum = cells
    record = _RECORD_CELLS.pack(*fields)
    if crc32(record) != checksum:
        return None
    nanos, at_ms, request_id = _RECORD.unpack(record)
    return Exemplar(nanos=nanos, at_ms=at_ms, request_id=request_id.rstrip(b"\0").decode(errors="replace"))
