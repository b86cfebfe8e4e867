"""Named 64-bit integers of one process, in two small files that outlive it.

`<owner>.counts` is a memory map of integers, `<owner>.names` one JSON line per series: [metric, labels, cells], in the order of
their cells. A process that is killed loses nothing, since the pages belong to the kernel, and its successor under the same owner
name goes on where it stopped. Owners are slots (worker-0, worker-1, ...), never process ids: restarts make no new files.

One process and one thread write; any may read. An aligned cell is stored and loaded in one piece, so a reader never sees half a
number; it may see a histogram whose sum is one observation ahead of its buckets.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CELLS_MAX: Final = 1 << 17  # 1 MiB of sparse file a process; past it `allocate` raises and the caller counts under "other"
_CELL_BYTES: Final = 8

Series = tuple[str, tuple[str, ...]]


class CountsFullError(Exception):
    """No cells left for another series."""


class CountFile:
    """The counters of one owner, open for writing. `cells` is indexed by what `allocate` answers."""

    def __init__(self, directory: Path, owner: str, *, cells_max: int = CELLS_MAX) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.owner = owner
        self.owner = owner
        self._cells_max = cells_max
        self._places: dict[Series, tuple[int, int]] = {}
        self._used = 0
        self._names = os.open(directory / f"{owner}.names", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._recover_names(directory / f"{owner}.names")
        counts = os.open(directory / f"{owner}.counts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(counts, cells_max * _CELL_BYTES)
            self._map = mmap.mmap(counts, cells_max * _CELL_BYTES)
        finally:
            os.close(counts)
        self.cells = memoryview(self._map).cast("q")

    def allocate(self, metric: str, labels: tuple[str, ...] = (), *, cells: int = 1) -> int:
        """Index of the first of `cells` neighbouring cells, the same for the same series. Raises CountsFullError at cells_max."""
        known = self._places.get((metric, labels))
        if known is not None and known[1] == cells:
            return known[0]
        first = self._used
        if first + cells > self._cells_max:
            raise CountsFullError(metric)
        for cell in range(first, first + cells):
            self.cells[cell] = 0  # after a power failure a count may have reached the disk without its name
        # The name is on file before the first count: a reader meets no cell that it cannot name.
        os.write(self._names, json.dumps([metric, labels, cells], separators=(",", ":")).encode() + b"\n")
        self._places[metric, labels] = (first, cells)
        self._used += cells
        return first

    def close(self) -> None:
        self.cells.release()
        self._map.close()
        os.close(self._names)

    def _recover_names(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        os.ftruncate(self._names, whole)  # a line torn by the death of its writer
        for metric, labels, cells in _named(data[:whole]):
            self._places[metric, labels] = (self._used, cells)
            self._used += cells


def read_counts(directory: Path, owner: str) -> dict[Series, tuple[int, ...]]:
    """What `owner` has counted so far; empty if it never ran."""
    try:
        # Names first: counts written meanwhile are then at worst newer, never unnamed.
        names = (directory / f"{owner}.names").read_bytes()
        with (directory / f"{owner}.counts").open("rb") as file:
            named = tuple(_named(names[: names.rfind(b"\n") + 1]))
            data = file.read(sum(cells for _, _, cells in named) * _CELL_BYTES)
    except FileNotFoundError:
        return {}
    series: dict[Series, tuple[int, ...]] = {}
    offset = 0
    for metric, labels, cells in named:
        if offset + cells * _CELL_BYTES > len(data):
            break
        series[metric, labels] = struct.unpack_from(f"={cells}q", data, offset)
        offset += cells * _CELL_BYTES
    return series


def owners(directory: Path) -> tuple[str, ...]:
    """Every owner that ever counted here, in a stable order."""
    return tuple(sorted(path.stem for path in directory.glob("*.names")))


def _named(lines: bytes) -> Iterator[tuple[str, tuple[str, ...], int]]:
    for line in lines.splitlines():
        metric, labels, cells = json.loads(line)
        yield metric, tuple(labels), cells
