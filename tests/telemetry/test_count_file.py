"""Counts that outlive their process."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tallygate.telemetry import count_file
from tallygate.telemetry.count_file import CELLS_MAX, CountFile, CountReader, CountsFullError, owners


def test_a_count_is_read_back_under_its_name(tmp_path):
    counts = CountFile(tmp_path, "worker-0")
    cell = counts.allocate("refused", ("acme", "chat"))
    counts.cells[cell] += 3

    assert CountReader(tmp_path).counts_of("worker-0") == {("refused", ("acme", "chat")): (3,)}
    counts.close()


def test_a_successor_goes_on_where_a_killed_process_stopped(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from tallygate.telemetry.count_file import CountFile
counts = CountFile(Path({str(tmp_path)!r}), "worker-0")
cell = counts.allocate("requests", ("acme",))
counts.cells[cell] += 7
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL

    counts = CountFile(tmp_path, "worker-0")
    counts.cells[counts.allocate("requests", ("acme",))] += 1

    assert CountReader(tmp_path).counts_of("worker-0") == {("requests", ("acme",)): (8,)}
    counts.close()


def test_restarts_add_no_files_and_no_bytes(tmp_path):
    for _ in range(50):
        counts = CountFile(tmp_path, "worker-0")
        counts.cells[counts.allocate("requests", ("acme",))] += 1
        counts.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0.counts", "worker-0.names"]
    assert len((tmp_path / "worker-0.names").read_bytes().splitlines()) == 1
    assert owners(tmp_path) == ("worker-0",)


def test_a_name_torn_by_a_crash_is_dropped_and_its_cell_reused_from_zero(tmp_path):
    counts = CountFile(tmp_path, "w")
    first = counts.allocate("a")
    counts.cells[first] = 1
    counts.cells[first + 1] = 99  # counted, but its name did not reach the disk
    counts.close()
    with (tmp_path / "w.names").open("ab") as names:
        names.write(b'["b",["x"')

    again = CountFile(tmp_path, "w")
    again.allocate("c")

    assert CountReader(tmp_path).counts_of("w") == {("a", ()): (1,), ("c", ()): (0,)}
    again.close()


def test_the_last_cell_can_be_taken_and_the_next_is_refused(tmp_path):
    counts = CountFile(tmp_path, "w", cells_max=3)
    counts.allocate("a", cells=2)
    counts.allocate("b")

    with pytest.raises(CountsFullError):
        counts.allocate("c")

    assert counts.allocate("b") == 2, "what is there is still found"
    counts.close()


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(directory):
    with (directory / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4_096))


@pytest.mark.process
def test_on_a_full_disk_counting_goes_on_and_names_are_not_torn(small_disk):
    counts = CountFile(small_disk, "w")
    counts.allocate("a")
    fill(small_disk)
    before = (small_disk / "w.names").read_bytes()

    counts.cells[CELLS_MAX - 1] = 7  # a page that was never written: it would kill this process

    name = "b" * 8_192
    with pytest.raises(CountsFullError, match="No space left"):
        counts.allocate(name)
    assert (small_disk / "w.names").read_bytes() == before
    (small_disk / "filler").unlink()
    counts.allocate(name)
    assert CountReader(small_disk).counts_of("w") == {("a", ()): (0,), (name, ()): (0,)}
    counts.close()


@pytest.mark.process
def test_without_room_a_new_file_says_so_and_one_that_is_there_opens(small_disk):
    CountFile(small_disk, "there").close()
    fill(small_disk)

    with pytest.raises(CountsFullError, match=r"^1048576 bytes for counts in .*: No space left"):
        CountFile(small_disk, "new")
    CountFile(small_disk, "there").close()


def test_a_file_system_that_gives_no_blocks_beforehand_gets_a_sparse_file(tmp_path, monkeypatch):
    def refuse(_file, _offset, _size):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    counts = CountFile(tmp_path, "w")
    counts.cells[counts.allocate("a")] = 3
    assert (tmp_path / "w.counts").stat().st_size == 8 * CELLS_MAX
    counts.close()


def test_a_series_of_another_size_gets_new_cells(tmp_path):
    old = CountFile(tmp_path, "w")
    old.cells[old.allocate("seconds", cells=3)] = 5
    old.close()

    new = CountFile(tmp_path, "w")
    new.cells[new.allocate("seconds", cells=4)] = 6

    assert CountReader(tmp_path).counts_of("w")["seconds", ()] == (6, 0, 0, 0)
    new.close()


def test_a_reader_that_comes_again_sees_new_names_and_new_counts(tmp_path):
    counts, reader = CountFile(tmp_path, "w"), CountReader(tmp_path)
    assert reader.counts_of("w") == {}
    first = counts.allocate("a", cells=2)
    counts.cells[first + 1] = 5
    assert reader.counts_of("w") == {("a", ()): (0, 5)}

    counts.cells[first] = 1
    counts.cells[counts.allocate("b", ("x",))] = 7

    assert reader.counts_of("w") == {("a", ()): (1, 5), ("b", ("x",)): (7,)}
    assert reader.counts_of("w", only=["b", "never"]) == {("b", ("x",)): (7,)}
    counts.close()


def test_a_reader_parses_a_name_once(tmp_path, monkeypatch):
    counts, reader, parsed = CountFile(tmp_path, "w"), CountReader(tmp_path), []
    parse = json.loads
    monkeypatch.setattr(count_file.json, "loads", lambda line: parsed.append(line) or parse(line))
    counts.allocate("a")
    reader.counts_of("w")
    counts.allocate("b")
    reader.counts_of("w")
    reader.counts_of("w")

    assert [parse(line)[0] for line in parsed] == ["a", "b"]
    counts.close()


def test_a_reader_notices_files_that_were_replaced(tmp_path):
    reader = CountReader(tmp_path)
    for name in ("a_long_name_of_before", "b"):
        for path in tmp_path.iterdir():
            path.unlink()
        counts = CountFile(tmp_path, "w")
        counts.cells[counts.allocate(name)] = 3

        assert reader.counts_of("w") == {(name, ()): (3,)}
        counts.close()


def test_cells_of_files_that_were_replaced_are_not_told_by_the_names_of_before(tmp_path):
    before = CountFile(tmp_path, "worker-0")
    before.cells[before.allocate("a")] = 1
    reader = CountReader(tmp_path)
    assert reader.cells_of("worker-0", ("a",)) is None, "its names are not read yet"
    reader.counts_of("worker-0")
    assert reader.cells_of("worker-0", ("a",)) == (1).to_bytes(8, sys.byteorder)
    for kind in ("counts", "names"):
        (tmp_path / f"worker-0.{kind}").rename(tmp_path / f"before.{kind}")
    after = CountFile(tmp_path, "worker-0")
    after.allocate("b")  # as many bytes of names
    assert reader.cells_of("worker-0", ("a",)) is None
    before.close()
    after.close()


def test_nobody_else_may_read_the_files(tmp_path):
    CountFile(tmp_path / "metrics", "w").close()

    assert {path.stat().st_mode & 0o077 for path in [tmp_path / "metrics", *(tmp_path / "metrics").iterdir()]} == {0}


def test_an_owner_that_never_ran_has_counted_nothing(tmp_path):
    assert CountReader(tmp_path).counts_of("worker-9") == {}
