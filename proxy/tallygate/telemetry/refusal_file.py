"""The lines of the log of refused requests that one worker has written and nobody has taken yet: a ring in a file.

A killed worker loses nothing of it, since the pages belong to the kernel. Its size is fixed: with every slot taken, a line is not
written, and its writer is told. One process writes lines, one other takes them. The file is written and not mapped: a full disk
then refuses a line, where a page without a block would kill the worker.

`<owner>.ring`: three numbers of 64 bits (identity, lines ever written, lines ever taken), then from SLOT_BYTES on SLOTS slots, each
with the number of its line, its length, and the line.
"""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tallygate.telemetry.count_file import opened

DIRECTORY: Final = "refusals"  # within the data directory
SLOT_BYTES: Final = 4_096
SLOTS: Final = 1_024  # a sparse file of 4 MiB a worker
_HEAD: Final = struct.Struct("=qqq")
_OF_SLOT: Final = struct.Struct("=qi")
_NUMBER: Final = struct.Struct("=q")
_WRITTEN_AT: Final = 8
_TAKEN_AT: Final = 16
LINE_BYTES_MAX: Final = SLOT_BYTES - _OF_SLOT.size


class RefusalFile:
    """The file of one owner, open for writing. new_identity: makes the number of a new file, 1 to 2**63 - 1."""

    def __init__(self, directory: Path, owner: str, *, new_identity: Callable[[], int], slots: int = SLOTS) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._slots = slots
        self._new_identity = new_identity
        self._file = os.open(directory / f"{owner}.ring", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, SLOT_BYTES * (slots + 1))
        self._identity, self._written, _ = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0))

    def write(self, line: bytes) -> bool:
        """Append a line. False: it is too long, too many wait to be taken, the disk is full, or the file is closed."""
        start = SLOT_BYTES * (1 + self._written % self._slots)
        try:
            (taken,) = _NUMBER.unpack(os.pread(self._file, _NUMBER.size, _TAKEN_AT))
            if self._written - taken >= self._slots or len(line) > LINE_BYTES_MAX:
                return False
            if self._identity == 0:
                self._identity = self._put(self._new_identity(), 0)
            _put_all(self._file, _OF_SLOT.pack(self._written, len(line)) + line, start)
            self._written = self._put(self._written + 1, _WRITTEN_AT)  # last: a reader never sees a line that is not there
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Write no more; closing again does nothing."""
        file, self._file = self._file, -1  # a number that never is another file's
        if file >= 0:
            os.close(file)

    def _put(self, number: int, at: int) -> int:
        _put_all(self._file, _NUMBER.pack(number), at)
        return number


def _put_all(file: int, data: bytes, at: int) -> None:
    """Write all of it, or raise OSError: a full disk may take a part."""
    if os.pwrite(file, data, at) != len(data):
        raise OSError(errno.ENOSPC, "no room on the disk")


class Waiting(NamedTuple):
    """Lines that wait, with their numbers. source: their file's name and identity; upto: the number after the last of them."""

    path: Path
    source: str
    upto: int
    lines: list[tuple[int, bytes]]


class RefusalFiles:
    """Takes the lines of one machine's workers, of those too whose slot is served no more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def have_lines(self) -> bool:
        """Return whether some line waits: a few calls of the kernel, which wait for no disk."""
        for name in _rings(self._directory):
            with opened(f"{self._directory}/{name}") as file:
                head = os.pread(file, _HEAD.size, 0)
            if head[_WRITTEN_AT:_TAKEN_AT] != head[_TAKEN_AT:]:
                return True
        return False

    def waiting(self, lines_max: int) -> list[Waiting]:
        """The oldest lines of each file that has some, at most so many. What a power failure tore is left out."""
        found = []
        for name in _rings(self._directory):
            path = self._directory / name
            with path.open("rb") as file:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    continue
                identity, written, taken = _HEAD.unpack(head)
                slots = os.fstat(file.fileno()).st_size // SLOT_BYTES - 1
                first = max(taken, written - slots)
                upto = min(written, first + lines_max)
                if first >= upto:
                    continue
                lines = []
                for number in range(first, upto):
                    slot = os.pread(file.fileno(), SLOT_BYTES, SLOT_BYTES * (1 + number % slots))
                    of_line, length = _OF_SLOT.unpack_from(slot)
                    if of_line == number and 0 <= length <= LINE_BYTES_MAX:
                        lines.append((number, slot[_OF_SLOT.size : _OF_SLOT.size + length]))
                found.append(Waiting(path, f"{path.stem}-{identity:x}", upto, lines))
        return found

    @staticmethod
    def give_back(taken: Waiting) -> None:
        """Let the slots of lines that were taken be written again."""
        file = os.open(taken.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(file, _NUMBER.pack(taken.upto), _TAKEN_AT)
        finally:
            os.close(file)


def _rings(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(".ring"))  # noqa: PTH208 - in a tenth of glob's time
    except FileNotFoundError:
        return []
