"""What every hostile test is watched for: no key in any log line, no traceback, few bytes."""

import logging
from collections.abc import Iterator

import pytest
from log_recorder import LogRecorder
from raw_client import CANARIES


@pytest.fixture(autouse=True)
def log() -> Iterator[LogRecorder]:
    """Everything that is logged during the test; afterwards it must hold no key and no traceback."""
    recorder = LogRecorder()
    root = logging.getLogger()
    level = root.level
    root.addHandler(recorder)
    root.setLevel(logging.DEBUG)
    yield recorder
    root.removeHandler(recorder)
    root.setLevel(level)
    assert not recorder.tracebacks
    leaked = [line for line in recorder.lines if any(canary in line for canary in CANARIES)]
    assert not leaked
