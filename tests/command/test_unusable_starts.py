"""What `serve` cannot begin with: one line that names it, and the same of `doctor`; never a traceback."""

import asyncio
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result
from new_ledger import ledger_file

from tallygate.cli import main

SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"


@pytest.fixture(autouse=True)
def _upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_UPSTREAM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TALLYGATE_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("TALLYGATE_CONSOLE_LISTEN", "localhost:0")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory that may not be written, whoever runs the test."""
    place = tmp_path / "closed"
    place.mkdir(mode=0o500)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=True)
    yield place
    if os.geteuid() == 0:
        subprocess.run(["umount", place], check=True)


def refused(run: Result) -> str:
    """The one line of what is wrong."""
    assert run.exit_code == 78, run.output
    (line,) = [line for line in run.stderr.splitlines() if line.lower().startswith("error: ")]
    return line


def serve(data_dir: Path) -> Result:
    return CliRunner().invoke(main, ["serve", "--data-dir", str(data_dir)])


def ended_serve(data_dir: Path) -> tuple[int, str]:
    """Exit code and log of a process, for what is found once the log is set up."""
    command = [sys.executable, "-m", "tallygate", "serve", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stderr


def finding(data_dir: Path, check: str) -> tuple[bool, str]:
    found = json.loads(CliRunner().invoke(main, ["doctor", "--json", "--data-dir", str(data_dir)]).stdout)
    return next((one["is_good"], one["text"]) for one in found if one["check"] == check)


@pytest.mark.process
@pytest.mark.parametrize("below", ["", "data"])
def test_a_data_directory_that_is_read_only(closed: Path, below: str) -> None:
    told = refused(serve(closed / below))
    assert f"the data directory {closed / below}".rstrip("/") in told
    assert "cannot be written: " in told
    assert not finding(closed / below, "data")[0]


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file: name a directory" in refused(serve(tmp_path / "file"))
    assert not finding(tmp_path / "file", "data")[0]


def test_tables_of_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(asyncio.run(ledger_file()))
    with sqlite3.connect(tmp_path / "ledger.db") as changed:
        changed.execute("UPDATE ledger_version SET version_num = '9999'")
    told = refused(serve(tmp_path))
    assert "the ledger's tables are of version 9999, and this tallygate knows versions up to 00" in told
    assert told.removeprefix("error: ") == finding(tmp_path, "database")[1]
    assert "version 9999" in refused(CliRunner().invoke(main, ["orgs", "list", "--data-dir", str(tmp_path)]))


def test_a_ledger_whose_file_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    ended = serve(tmp_path)
    assert refused(ended) == f"error: the ledger's database {tmp_path}/ledger.db cannot be opened: Is a directory"
    assert finding(tmp_path, "database") == (False, refused(ended).removeprefix("error: "))


def test_a_ledger_where_no_file_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_DATABASE_URL", f"sqlite:///{tmp_path}/none/ledger.db")
    told = refused(serve(tmp_path / "data"))
    assert told.endswith(f"{tmp_path}/none/ledger.db cannot be made: {tmp_path}/none is no directory that this user may write")
    assert finding(tmp_path / "data", "database") == (False, told.removeprefix("error: "))


def test_parameters_of_a_sqlite_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_DATABASE_URL", f"sqlite:///{tmp_path}/ledger.db?mode=ro")
    assert "TALLYGATE_DATABASE_URL takes no parameters behind the path" in refused(serve(tmp_path / "data"))


def test_a_ledger_whose_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1_000)
    assert refused(serve(tmp_path)).endswith("ledger.db takes no writes: its file is damaged, or is no SQLite database")


@pytest.mark.process
@pytest.mark.parametrize("name", ["lock", "configuration.json", "running.json", "admin_token.sha256"])
def test_a_directory_in_the_place_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert ended_serve(tmp_path) == (1, f"Error: {tmp_path / name} cannot be used: Is a directory\n")


@pytest.mark.process
def test_a_reload_that_comes_too_early_ends_no_start(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "tallygate", "serve", "--data-dir", str(tmp_path)]
        starting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process = psutil.Process(starting.pid)
            while not any(file.path == lock.name for file in process.open_files()):  # it waits for the lock
                assert starting.poll() is None
            starting.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                starting.wait(0.5)
        finally:
            starting.kill()
            starting.wait()


@pytest.mark.process
def test_a_standard_output_without_room_ends_no_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tallygate", "serve", "--data-dir", str(tmp_path)]
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        told = next(line for line in serving.stderr if "cannot be shown" in line)
        serving.terminate()
        assert "for another admin token delete admin_token.sha256" in told
        assert serving.wait(60) == 0


@pytest.mark.process
def test_a_disk_that_is_full_at_the_first_start(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", tmp_path], check=True)
    try:
        ended = ended_serve(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert ended == (1, f"Error: {tmp_path} cannot be used: No space left on device\n")


@pytest.mark.process
def test_a_store_whose_log_is_broken_in_the_middle(tmp_path: Path) -> None:
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    log = folder / "appendonly.aof.1.incr.aof"
    log.write_bytes(SET * 3 + SET[:-5])
    assert finding(tmp_path, "store") == (True, "an embedded Valkey will be started")  # it drops what is cut off
    log.write_bytes(SET * 3 + b"no command" + SET)
    is_good, text = finding(tmp_path, "store")
    assert not is_good
    assert text.startswith(f"{log} is damaged")

    returncode, told = ended_serve(tmp_path)

    assert returncode == 1
    (line,) = [line for line in told.splitlines() if "did not start" in line]
    assert "valkey ended with 1 before it was ready: Bad file format reading the append only file" in line
    assert "Traceback" not in told


def test_a_snapshot_of_the_directory_that_no_worker_would_use(tmp_path: Path) -> None:
    (tmp_path / "directory.snapshot").write_bytes(b"no snapshot")
    is_fine, text = finding(tmp_path, "snapshot")
    assert (is_fine, text.rpartition(": ")[0].endswith("it is damaged")) == (False, True)
