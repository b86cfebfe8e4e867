"""A child that cannot be started is tried again until it can, and says so."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from tallygate.processes.child import Child, ChildFailedError, ChildSpec
from tallygate.processes.uptime import Uptime

READY = "import signal; print('ready', flush=True); signal.pause()"
WITH_A_LOOP = """
import asyncio, sys, time
from tallygate.processes.lifeline import Lifeline
lifeline = Lifeline()
async def life():
    lifeline.announce_ready()
    if sys.argv[1:]:
        time.sleep(1_000)  # a thread still reads the pipe
    await lifeline.end.wait()
asyncio.run(lifeline.run(life()))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A name of this interpreter that can be taken away, as an upgrade does."""
    path = tmp_path / "python"
    path.symlink_to(sys.executable)
    return path


def child_of(program: Path, *code: str, ask_seconds: float = 0.0) -> Child:
    command = (str(program), "-c", *(code or (READY,)))
    spec = ChildSpec(name="worker-0", command=command, environment=dict(os.environ), descriptors=(), ask_seconds=ask_seconds)
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


async def test_a_process_that_answers_lives_on_and_is_replaced_once_it_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    be_patient(monkeypatch)
    child = child_of(Path(sys.executable), WITH_A_LOOP, ask_seconds=0.02)
    child.start()
    await child.first_ready
    async with asyncio.timeout(30):
        for wanted in (True, False, True, False):
            while bool(child._unanswered) != wanted:
                await asyncio.sleep(0.001)
    assert not caplog.records
    child.signal(signal.SIGSTOP)
    await until_replaced(child, monkeypatch, caplog)


async def test_a_process_whose_loop_stands_still_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    be_patient(monkeypatch)
    child = child_of(Path(sys.executable), WITH_A_LOOP, "stands still", ask_seconds=0.02)
    child.start()
    await child.first_ready
    await until_replaced(child, monkeypatch, caplog)


async def test_a_process_that_hangs_before_it_was_ever_ready_is_one_that_failed() -> None:
    child = child_of(Path(sys.executable), "import time; time.sleep(1_000)", ask_seconds=0.02)
    child.start()
    async with asyncio.timeout(30):
        with pytest.raises(ChildFailedError, match="worker-0 ended with -9 before it was ready"):
            await child.first_ready


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts answers late."""
    monkeypatch.setattr("tallygate.processes.child.UNANSWERED_MAX", 1_000_000)


async def until_replaced(child: Child, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("tallygate.processes.child.UNANSWERED_MAX", 3)
    async with asyncio.timeout(30):
        while child.is_ready:
            await asyncio.sleep(0.001)
        be_patient(monkeypatch)
        while not child.is_ready:
            await asyncio.sleep(0.001)
    child.kill()
    await child.ended
    assert [record.getMessage() for record in caplog.records][:2] == [
        "process does not answer, and is killed so that another takes its place",
        "process ended and is started again",
    ]


async def test_who_does_not_answer_is_not_asked(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = child_of(program)
    child.start()
    await child.first_ready
    await asyncio.sleep(0.5)
    assert child.is_ready
    assert not caplog.records
    child.kill()
    await child.ended
