"""One recent observation that a histogram's bucket remembers, with the request it was: the way from a latency to a log line.

It lies in CELLS neighbouring cells of a count file: nanoseconds, Unix milliseconds, the request's id in four, and a checksum.
A reader in another process may meet it half written, or left so by a killed writer; the checksum then says that there is none.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

CELLS: Final = 7
AT: Final = 1  # the cell that tells when it was noted
EVERY_MS: Final = 1_000  # a bucket takes a new one no more often, so that remembering costs next to nothing
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
    """Remember an observation in the cells from `first` on. Callers ask the cell AT before: mostly there is nothing to do."""
    record = _RECORD.pack(nanos, at_ms, request_id.encode())
    cells[first : first + CELLS] = memoryview(record + _CHECKSUM.pack(crc32(record))).cast("q")


def read_exemplar(cells: Sequence[int]) -> Exemplar | None:
    """What CELLS cells remember; None if nothing, or if they were read or left half written."""
    *fields, checksum = cells
    record = _RECORD_CELLS.pack(*fields)
    if crc32(record) != checksum:
        return None
    nanos, at_ms, request_id = _RECORD.unpack(record)
    return Exemplar(nanos=nanos, at_ms=at_ms, request_id=request_id.rstrip(b"\0").decode(errors="replace"))
