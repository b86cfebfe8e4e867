"""For how long no process has been up is known to the moment, however short one was up."""

import asyncio
import os
import signal
import sys

from tallygate.processes.child import Child, ChildSpec
from tallygate.processes.uptime import Uptime

READY_UNTIL_TOLD = "import signal, sys; print('ready', flush=True); signal.pause()"


async def test_none_is_up_from_when_the_last_one_went_down() -> None:
    now = 100.0
    uptime = Uptime(lambda: now)
    now = 103.0
    assert (uptime.up.is_set(), uptime.down_seconds()) == (False, 3.0), "since it was made"
    uptime.came_up()
    uptime.came_up()
    uptime.went_down()
    assert (uptime.up.is_set(), uptime.down_seconds()) == (True, 0.0)
    now = 200.0
    uptime.went_down()
    now = 201.0
    assert (uptime.up.is_set(), uptime.down_seconds()) == (False, 1.0)


async def test_a_child_is_up_from_its_readiness_to_its_end() -> None:
    now = 100.0
    uptime = Uptime(lambda: now)
    command = (sys.executable, "-c", READY_UNTIL_TOLD)
    child = Child(
        ChildSpec(name="worker-0", command=command, environment=dict(os.environ), descriptors=()), uptime, clock=lambda: now
    )
    now = 200.0
    assert (child.is_ready, uptime.down_seconds()) == (False, 100.0)
    child.start()
    await child.first_ready
    assert (child.is_ready, uptime.down_seconds()) == (True, 0.0)

    now = 300.0
    child.signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        while child.is_ready:
            await asyncio.sleep(0.01)
    now = 301.0
    assert uptime.down_seconds() == 1.0, "not since it was made, nor since it was started"
    child.kill()
    await child.ended
    assert uptime.down_seconds() == 1.0
