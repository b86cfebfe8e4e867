"""Since when a child is down is known to the moment, however short it was up: whoever looks once a second may miss that it was."""

import asyncio
import os
import signal
import sys

from tallygate.processes.child import Child, ChildSpec

READY_UNTIL_TOLD = "import signal, sys; print('ready', flush=True); signal.pause()"


async def test_a_child_is_down_since_it_was_last_ready() -> None:
    now = 100.0
    child = Child(
        ChildSpec(name="worker-0", command=(sys.executable, "-c", READY_UNTIL_TOLD), environment=dict(os.environ), descriptors=()),
        clock=lambda: now,
    )
    assert child.down_since == 100.0
    now = 200.0
    child.start()
    await child.first_ready
    assert (child.is_ready, child.down_since) == (True, None)

    now = 300.0
    child.signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        while child.is_ready:
            await asyncio.sleep(0.01)
    assert child.down_since == 300.0, "not since it was made, nor since it was started"
    child.kill()
    await child.ended
    assert child.down_since is not None
