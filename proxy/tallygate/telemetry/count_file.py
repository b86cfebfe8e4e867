"""Named 64-bit integers of one process, in two small files that outlive it.

`<owner>.counts` is a memory map of integers, `<owner>.names` one JSON line per series: [metric, labels, cells], in the order of
their cells. A killed process loses nothing, since the pages belong to the kernel, and its successor under the same owner
name continues where it stopped. Owners are slots (worker-0, worker-1, ...), never process ids: restarts make no new files.

One process and one thread write; any may read. An aligned cell is stored and loaded in one piece, so a reader never sees half a
number; the sum of a histogram may be one observation ahead of its buckets.
"""

import errno
import json
import mmap
import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CELLS_MAX: Final = (
    1 << 17
)  # a file of 1 MiB a process, whose blocks are taken at once; beyond it `allocate` raises and the caller counts under "other"
PLACES_MAX: Final = 200  # series that `cells_of` reads, a call each
_CELL_BYTES: Final = 8
_NAMES: Final = ".names"

Series = tuple[str, tuple[str, ...]]


class CountsFullError(Exception):
    """No cells left for another series, or no room on the disk for its name."""


class CountFile:
    """The counters of one owner, open for writing. `cells` is indexed by what `allocate` answers.

    Raises CountsFullError where the disk has no room for the whole file: once it is open, no count needs any.
    """

    def __init__(self, directory: Path, owner: str, *, cells_max: int = CELLS_MAX) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.owner = owner
        self._cells_max = cells_max
        self._places: dict[Series, tuple[int, int]] = {}
        self._used = 0
        self._names = os.open(directory / f"{owner}.names", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._recover_names(directory / f"{owner}.names")
        counts = os.open(directory / f"{owner}.counts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take_blocks(counts, cells_max * _CELL_BYTES, directory)
            self._map = mmap.mmap(counts, cells_max * _CELL_BYTES)
        except CountsFullError:
            os.close(self._names)
            raise
        finally:
            os.close(counts)
        self.cells = memoryview(self._map).cast("q")

    def allocate(self, metric: str, labels: tuple[str, ...] = (), *, cells: int = 1) -> int:
        """The index of the first of `cells` adjacent cells, always the same for a series. Raises CountsFullError."""
        known = self._places.get((metric, labels))
        if known is not None and known[1] == cells:
            return known[0]
        first = self._used
        if first + cells > self._cells_max:
            raise CountsFullError(metric)
        for cell in range(first, first + cells):
            self.cells[cell] = 0  # after a power failure a count may have reached the disk without its name
        # The name is on file before the first count, so every cell that a reader meets has a name.
        self._write_name(json.dumps([metric, labels, cells], separators=(",", ":")).encode() + b"\n")
        self._places[metric, labels] = (first, cells)
        self._used += cells
        return first

    def close(self) -> None:
        self.cells.release()
        self._map.close()
        os.close(self._names)

    def _write_name(self, line: bytes) -> None:
        """Write all of it, or nothing: a full disk may take a part."""
        length = os.fstat(self._names).st_size
        try:
            written = os.write(self._names, line)
        except OSError as error:
            raise CountsFullError(error.strerror) from error
        if written < len(line):
            os.ftruncate(self._names, length)
            raise CountsFullError(os.strerror(errno.ENOSPC))

    def _recover_names(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        os.ftruncate(self._names, whole)  # a line torn by the death of its writer
        for metric, labels, cells in _named(data[:whole]):
            self._places[metric, labels] = (self._used, cells)
            self._used += cells


def _take_blocks(file: int, size: int, directory: Path) -> None:
    """Give each page of the map its block: one without would kill the process as it is written on a full disk (SIGBUS, mmap(2)).

    Raises CountsFullError where there is no room. A file system that cannot give blocks beforehand gets a sparse file.
    """
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            os.ftruncate(file, size)
            return
        raise CountsFullError(f"{size} bytes for counts in {directory}: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The part of a names file that has been read: its inode, the number of bytes, and by metric the cells of each series."""

    inode: int
    read_bytes: int
    places: dict[str, dict[Series, tuple[int, int]]]
    cells: int


class CountReader:
    """Reads owners' files repeatedly, as scrapes do, and parses each name once. Threads may share one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: dict[str, _Names] = {}

    def counts_of(self, owner: str, only: Collection[str] | None = None) -> dict[Series, tuple[int, ...]]:
        """The counts of `owner` so far, or `only` those of some metrics; empty if it never ran."""
        try:
            # Names first: counts written meanwhile are then at worst newer, never unnamed.
            names = self._names_of(owner)
            with opened(f"{self._directory}/{owner}.counts") as file:
                if only is not None:
                    return {
                        series: struct.unpack(f"={cells}q", os.pread(file, cells * _CELL_BYTES, first * _CELL_BYTES))
                        for metric in only
                        for series, (first, cells) in names.places.get(metric, {}).items()
                    }
                data = os.read(file, names.cells * _CELL_BYTES)
        except FileNotFoundError:
            return {}
        if len(data) < names.cells * _CELL_BYTES:
            return {}
        values = struct.unpack(f"={names.cells}q", data)
        return {
            series: values[first : first + cells] for places in names.places.values() for series, (first, cells) in places.items()
        }

    def cells_of(self, owner: str, only: Collection[str]) -> bytes | None:
        """The cells of some metrics by now, of names that were read before: a few calls of the kernel, which wait for no disk.

        None where these may not be all, or are many.
        """
        known = self._names.get(owner)
        if known is None:
            return None
        places = [place for metric in only for place in known.places.get(metric, {}).values()]
        if len(places) > PLACES_MAX:
            return None
        try:
            if not self._is_all(owner, known):
                return None
            with opened(f"{self._directory}/{owner}.counts") as file:
                return b"".join([os.pread(file, cells * _CELL_BYTES, first * _CELL_BYTES) for first, cells in places])
        except FileNotFoundError:
            return None

    def _names_of(self, owner: str) -> _Names:
        """Read new names: names are only ever added, unless the file is replaced."""
        known = self._names.get(owner)
        if known is not None and self._is_all(owner, known):
            return known
        with (self._directory / f"{owner}.names").open("rb") as file:
            now = os.fstat(file.fileno())
            if known is None or known.inode != now.st_ino or known.read_bytes > now.st_size:
                known = _Names(inode=now.st_ino, read_bytes=0, places={}, cells=0)
            file.seek(known.read_bytes)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        places, used = {metric: dict(of_metric) for metric, of_metric in known.places.items()}, known.cells
        for metric, labels, cells in _named(whole):
            places.setdefault(metric, {})[metric, labels] = (used, cells)
            used += cells
        known = _Names(inode=known.inode, read_bytes=known.read_bytes + len(whole), places=places, cells=used)
        self._names[owner] = known
        return known

    def _is_all(self, owner: str, known: _Names) -> bool:
        """Whether the file of names is as it was when it was read. Raises FileNotFoundError."""
        now = os.stat(f"{self._directory}/{owner}.names")  # noqa: PTH116 - cheaper than a Path, and done again and again
        return (now.st_ino, now.st_size) == (known.inode, known.read_bytes)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A file to read from by the kernel's own calls, in a third of the time that a Path and its reader take."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def owners(directory: Path) -> tuple[str, ...]:
    """Every owner that ever counted here, in a stable order."""
    try:
        return tuple(sorted(name.removesuffix(_NAMES) for name in os.listdir(directory) if name.endswith(_NAMES)))  # noqa: PTH208 - in a tenth of glob's time
    except FileNotFoundError:
        return ()


def _named(lines: bytes) -> Iterator[tuple[str, tuple[str, ...], int]]:
    for line in lines.splitlines():
        metric, labels, cells = json.loads(line)
        yield metric, tuple(labels), cells
