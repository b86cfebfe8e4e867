"""What the embedded store has answered is in its file before the answer, and on the disk within about a second."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from tallygate.processes.child import ChildSpec
from tallygate.processes.file_sync import FileSync
from tallygate.processes.supervisor import Exit, Fleet, Supervisor
from tallygate.processes.valkey import EmbeddedValkey

BULK = os.urandom(4_000_000)  # of which a sync takes its time
SYNCS = 4
MARKERS = 200


def connected(store: EmbeddedValkey) -> redis.Redis:
    client = redis.Redis(unix_socket_path=str(store.socket))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.ping()
        except redis.RedisError:
            time.sleep(0.01)
        else:
            return client
    raise AssertionError("the store did not start")


def is_written(directory: Path, marker: bytes) -> bool:
    """At the end of an append-only file: of the newest, if it is just being rewritten."""
    return any(marker in tail(path) for path in (directory / "appendonlydir").glob("*.incr.aof"))


def tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, 200), os.SEEK_END)
            return file.read()
    except FileNotFoundError:  # a rewrite has ended
        return b""


def test_what_the_store_has_answered_is_in_its_file_also_while_a_sync_is_under_way(tmp_path: Path) -> None:
    store = EmbeddedValkey(tmp_path / "valkey")
    lock = os.open(tmp_path, os.O_RDONLY)
    spec = store.spec(dict(os.environ), lock=lock)
    process = subprocess.Popen(spec.command, env=spec.environment, stdout=subprocess.DEVNULL)
    try:
        with connected(store) as client:
            for number in range(SYNCS):
                ends_at = time.monotonic() + 1.1  # a store that syncs by itself does so once a second
                index = 0
                while time.monotonic() < ends_at or index < MARKERS:
                    if index % MARKERS == 0:
                        client.set("bulk", BULK)
                    marker = b"marker-%d-%d;" % (number, index)
                    client.set("marker", marker)
                    assert is_written(tmp_path / "valkey", marker)
                    index += 1
    finally:
        process.kill()
        process.wait()
        os.close(lock)
        store.clean_up()


def test_a_file_is_synced_when_it_has_grown_and_forgotten_when_it_is_gone(tmp_path: Path, monkeypatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name))
    first, second = tmp_path / "1.aof", tmp_path / "2.aof"
    first.write_bytes(b"one")
    (tmp_path / "manifest").write_bytes(b"of another kind")
    files = FileSync(tmp_path, "*.aof")
    assert (files.step(), synced) == (1, ["1.aof"])
    assert files.step() == 0
    second.write_bytes(b"two")
    first.write_bytes(b"one more")
    assert (files.step(), synced) == (2, ["1.aof", "1.aof", "2.aof"])
    first.unlink()
    assert files.step() == 0
    first.write_bytes(b"one more")
    assert files.step() == 1


def test_a_sync_that_failed_is_done_at_the_next_step(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "1.aof").write_bytes(b"one")
    files = FileSync(tmp_path, "*.aof")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.step()
    assert files.step() == 1


class Watched(FileSync):
    """Tells when it runs and when it is ended."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), "*")
        self.is_running = asyncio.Event()
        self.is_ended = False

    async def sync_forever(self) -> None:
        self.is_running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_ended = True


async def test_the_supervisor_syncs_for_as_long_as_it_runs() -> None:
    files = Watched()
    waiting = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('ready', flush=True); signal.pause()"
    with socket.socket() as bound:
        fleet = Fleet(
            workers=(),
            console=ChildSpec(
                name="console", command=(sys.executable, "-c", waiting), environment=dict(os.environ), descriptors=()
            ),
            valkey=None,
            gateway_socket=None,
            console_socket=bound,
            delay_seconds=0.0,
            drain_seconds=30.0,
            file_sync=files,
        )
        ready = asyncio.Event()
        running = asyncio.ensure_future(Supervisor(fleet, on_ready=ready.set).supervise())
        async with asyncio.timeout(60):
            await ready.wait()
            await files.is_running.wait()
            assert not files.is_ended
            signal.raise_signal(signal.SIGTERM)  # which the supervisor takes
            assert await running == Exit.CLEAN
            await asyncio.sleep(0)
    assert files.is_ended
