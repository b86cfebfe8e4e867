"""Real processes: a supervisor with two placeholder workers, the real console and the embedded Valkey."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).parent
PATIENCE_SECONDS = 60.0  # a process that is started on a busy machine


def eventually(condition, what: str):
    """The condition's first true value; it is asked until then, since another process makes it true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


def get(url: str, timeout: float = PATIENCE_SECONDS) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@dataclass
class Supervised:
    """A running supervisor."""

    process: subprocess.Popen
    data_dir: Path
    log: Path
    serving: dict = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return self.serving["gateway_url"]

    @property
    def console(self) -> str:
        return self.serving["console_url"]

    def worker_pids(self) -> set[int]:
        return {child.pid for child in self.children() if "placeholder_worker" in " ".join(child.cmdline())}

    def children(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    def metric(self, line_start: str) -> float | None:
        _, text = get(f"{self.console}/metrics")
        for line in text.splitlines():
            if line.startswith(line_start):
                return float(line.rsplit(" ", 1)[1])
        return None

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        return self.process.wait(seconds)


def start_supervisor(data_dir: Path, *, role: str = "serve", wait_ready: bool = True, **settings: str) -> Supervised:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")},
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "TALLYGATE_LISTEN": "127.0.0.1:0",
        "TALLYGATE_CONSOLE_LISTEN": "localhost:0",
        "TALLYGATE_UPSTREAM_URL": "http://127.0.0.1:9",
        "TALLYGATE_DATA_DIR": str(data_dir),
        "TALLYGATE_WORKERS": "2",
        "TALLYGATE_DRAIN_SECONDS": "20",
        **{f"TALLYGATE_{name.upper()}": value for name, value in settings.items()},
    }
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "placeholder_serve", role],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=data_dir.parent,
        )
    supervised = Supervised(process=process, data_dir=data_dir, log=log)
    if wait_ready:
        line = process.stdout.readline()
        assert line, f"did not start: {log.read_text()}"
        supervised.serving = json.loads(line)
    return supervised
