"""What a child is told by its signals."""

import os
import signal
import subprocess
import sys

import pytest
import uvloop

from tallygate.processes.lifeline import LEAVING, SECOND_AFTER_SECONDS, Lifeline


@pytest.mark.parametrize(("after", "ends"), [(0.0001, False), (SECOND_AFTER_SECONDS, True)])
def test_one_sigterm_told_twice_is_not_a_second_one(after: float, ends: bool) -> None:
    times = iter([100.0, 100.0 + after])
    lifeline = Lifeline(clock=lambda: next(times))
    lifeline._on_term()
    assert lifeline.drain.is_set()
    assert not lifeline.end.is_set()
    lifeline._on_term()
    assert lifeline.end.is_set() == ends


def test_a_sigterm_right_behind_another_signal_drains_and_does_not_end() -> None:
    """Uvloop calls the handler twice for some of them."""

    async def told() -> Lifeline:
        lifeline = Lifeline()
        lifeline.attach(on_reload=lambda: None, on_leaving=lambda: None)
        os.kill(os.getpid(), LEAVING)
        os.kill(os.getpid(), signal.SIGTERM)
        await lifeline.drain.wait()
        return lifeline

    for _ in range(200):
        assert not uvloop.run(told()).end.is_set()


_LIVES = {
    "it waits for a store": "await asyncio.Event().wait()",
    "it survives being cancelled": "while True:\n        with suppress(BaseException):\n            await asyncio.sleep(9)",
    "its loop is blocked": "time.sleep(60)",
    "it was ready and never ends": "lifeline.announce_ready()\n    await asyncio.Event().wait()",
}
_CHILD = """
import asyncio, sys, time
from contextlib import suppress
from tallygate.processes import lifeline as module

module.ABANDONED_SECONDS = 0.2

async def live(lifeline):
    print("begun", flush=True)
    {life}

lifeline = module.Lifeline()
asyncio.run(lifeline.run(live(lifeline)))
"""


@pytest.mark.process
@pytest.mark.parametrize("life", _LIVES)
def test_a_child_whose_supervisor_is_gone_ends_whatever_it_does(life: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD.format(life=_LIVES[life])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        try:
            assert child.stdout.readline() == b"begun\n"
            child.stdout.close()  # a supervisor that dies closes both of its ends
            child.stdin.close()
            child.wait(30)
        finally:
            child.kill()
