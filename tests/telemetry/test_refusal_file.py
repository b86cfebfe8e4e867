"""The ring of lines between a worker and the process that brings them to the ledger."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tallygate.telemetry.refusal_file import LINE_BYTES_MAX, SLOT_BYTES, RefusalFile, RefusalFiles

_identities = itertools.count(17)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], RefusalFile]:
    return lambda: RefusalFile(tmp_path, "worker-0", new_identity=lambda: next(_identities), slots=3)


def lines_of(files: RefusalFiles, lines_max: int = 100) -> list[bytes]:
    return [line for waiting in files.waiting(lines_max) for _, line in waiting.lines]


def test_lines_wait_until_they_are_taken_whoever_wrote_them(tmp_path: Path, opened: Callable[[], RefusalFile]) -> None:
    files = RefusalFiles(tmp_path)
    first = opened()
    assert first.write(b"a")
    assert first.write(b"b")
    second = opened()  # the next process of the slot; the one before was killed, and closed nothing
    assert second.write(b"c")
    [waiting] = files.waiting(2)

    assert waiting.lines == [(0, b"a"), (1, b"b")]
    files.give_back(waiting)
    [rest] = files.waiting(2)
    assert (rest.lines, rest.upto, rest.source) == ([(2, b"c")], 3, waiting.source)
    files.give_back(rest)
    assert files.waiting(2) == []


def test_a_full_file_takes_no_line_until_some_are_given_back(tmp_path: Path, opened: Callable[[], RefusalFile]) -> None:
    file, files = opened(), RefusalFiles(tmp_path)
    assert [file.write(b"%d" % number) for number in range(5)] == [True, True, True, False, False]
    assert not opened().write(b"of a successor")
    [waiting] = files.waiting(1)
    files.give_back(waiting)

    assert [file.write(b"x"), file.write(b"y")] == [True, False]
    assert lines_of(files) == [b"1", b"2", b"x"]
    assert (tmp_path / "worker-0.ring").stat().st_size == 4 * SLOT_BYTES


def test_a_line_is_bounded(tmp_path: Path, opened: Callable[[], RefusalFile]) -> None:
    file = opened()
    assert not file.write(b"x" * (LINE_BYTES_MAX + 1))
    assert file.write(b"y" * LINE_BYTES_MAX)
    assert lines_of(RefusalFiles(tmp_path)) == [b"y" * LINE_BYTES_MAX]


def test_a_slot_that_did_not_reach_the_disk_is_left_out(tmp_path: Path, opened: Callable[[], RefusalFile]) -> None:
    """As after a power failure: the number of lines did, and one of the lines did not."""
    file = opened()
    for line in (b"a", b"b", b"c"):
        file.write(line)
    with (tmp_path / "worker-0.ring").open("r+b") as torn:
        torn.seek(2 * SLOT_BYTES)
        torn.write(bytes(SLOT_BYTES))

    assert lines_of(RefusalFiles(tmp_path)) == [b"a", b"c"]


def test_a_full_disk_takes_no_line_and_kills_nobody(
    tmp_path: Path, opened: Callable[[], RefusalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened()
    pwrite, room = os.pwrite, [3]

    def put(descriptor: int, data: bytes, at: int) -> int:
        """As of a disk with room for so many bytes."""
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(data), room[0])
        room[0] -= taken
        return pwrite(descriptor, data[:taken], at)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", put)
        assert [file.write(b"a"), file.write(b"b")] == [False, False]
        room[0] = 8 + 12 + 4  # the number of the file, and a slot without its line
        assert not file.write(b"long line")
    assert lines_of(RefusalFiles(tmp_path)) == []
    assert file.write(b"c")
    file.close()
    file.close()
    assert not file.write(b"d")
    assert lines_of(RefusalFiles(tmp_path)) == [b"c"]


def test_whether_lines_wait_is_told_without_reading_them(tmp_path: Path, opened: Callable[[], RefusalFile]) -> None:
    files = RefusalFiles(tmp_path)
    assert not RefusalFiles(tmp_path / "none").have_lines()
    file = opened()
    assert not files.have_lines()
    (tmp_path / "worker-7.ring").touch()  # a worker has just begun
    file.write(b"a")
    assert files.have_lines()
    for waiting in files.waiting(10):
        files.give_back(waiting)
    assert not files.have_lines()
