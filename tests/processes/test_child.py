"""A child that cannot be started is tried again until it can, and says so."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest

from tallygate.processes.child import Child, ChildFailedError, ChildSpec
from tallygate.processes.uptime import Uptime

READY = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A name of this interpreter that can be taken away, as an upgrade does."""
    path = tmp_path / "python"
    path.symlink_to(sys.executable)
    return path


def child_of(program: Path) -> Child:
    spec = ChildSpec(name="worker-0", command=(str(program), "-c", READY), environment=dict(os.environ), descriptors=())
    return Child(spec, Uptime(lambda: 0.0), clock=lambda: 0.0)


async def test_a_program_that_is_away_for_a_while(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = child_of(program)
    child.start()
    await child.first_ready
    program.rename(program.with_name("away"))
    child.signal(9)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(20):
            while not any("cannot be started" in record.message for record in caplog.records):
                await asyncio.sleep(0.01)
            program.with_name("away").rename(program)
            while not child.is_ready:
                await asyncio.sleep(0.01)
    (told, *_) = [record.fields for record in caplog.records if "cannot be started" in record.message]
    assert told["child"] == "worker-0"
    assert "No such file or directory" in told["reason"]
    child.kill()
    await child.ended


async def test_a_program_that_was_never_there(program: Path) -> None:
    program.unlink()
    child = child_of(program)
    child.start()
    async with asyncio.timeout(10):
        with pytest.raises(ChildFailedError, match=r"worker-0 cannot be started: .*No such file or directory"):
            await child.first_ready
        await child.ended
