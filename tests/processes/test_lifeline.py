"""What a child is told by its signals."""

import os
import signal

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

    reading, writing = os.pipe()
    stdin = os.dup(0)
    os.dup2(reading, 0)
    try:
        for _ in range(200):
            assert not uvloop.run(told()).end.is_set()
    finally:
        os.dup2(stdin, 0)
        for descriptor in (reading, writing, stdin):
            os.close(descriptor)
