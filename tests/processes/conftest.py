"""Fixtures of real processes."""

import contextlib
import signal

import psutil
import pytest
from supervised import Supervised, start_supervisor


@pytest.fixture
def supervisors(tmp_path):
    """Starts supervisors; whatever is left of them is ended after the test."""
    started = []

    def start(name: str = "data", **options) -> Supervised:
        supervised = start_supervisor(tmp_path / name, **options)
        started.append(supervised)
        return supervised

    yield start
    for supervised in started:
        leftovers = supervised.children() if supervised.process.poll() is None else []
        for process in leftovers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if supervised.process.poll() is None:
            supervised.process.send_signal(signal.SIGKILL)
        supervised.process.wait()
        supervised.process.stdout.close()


@pytest.fixture
def supervised(supervisors) -> Supervised:
    return supervisors()
