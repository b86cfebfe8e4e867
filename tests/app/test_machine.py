"""What a process may open, and what follows from it."""

import logging
import resource
import subprocess
import sys

import pytest

from tallygate.app import machine
from tallygate.app.machine import DESCRIPTORS_RESERVED, connections_within, memory_bytes

RAISED = """
import resource
from tallygate.app.machine import raise_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
print(raise_descriptors(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", RAISED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1024", "1024", "1024"]


def test_connections_follow_from_the_descriptors_and_fewer_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 1_024))
    with caplog.at_level(logging.WARNING, logger=machine.__name__):
        assert connections_within(400, name="the gateway") == 400
        assert not caplog.records
        assert connections_within(10_000, name="the gateway") == (1_024 - DESCRIPTORS_RESERVED) // 2
    assert "instead of 10000" in caplog.text


def test_an_endless_limit_is_no_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections_within(10_000, name="the gateway") == 10_000


def test_memory_is_the_machines_or_less() -> None:
    assert 2**26 < memory_bytes() < 2**50
