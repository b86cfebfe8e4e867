"""`python -m tallygate.processes.worker SLOT SOCKET`: one gateway worker, started by the supervisor.

SLOT     0..N-1, under which it counts; its successor in the slot goes on counting there
SOCKET   descriptor of the inherited listening socket; the supervisor keeps its own copy, so the port outlives the worker
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from tallygate.app.clocks import monotonic_ms, new_file_identity
from tallygate.app.gateway import WorkerGateway, build_gateway
from tallygate.config.settings import Settings
from tallygate.processes import collector
from tallygate.processes.data_directory import DataDirectory
from tallygate.processes.lifeline import Lifeline
from tallygate.processes.process import run_process
from tallygate.processes.supervisor import Exit
from tallygate.telemetry.count_file import CountFile
from tallygate.telemetry.log import lines_dropped
from tallygate.telemetry.metrics import LOG_DROPPED
from tallygate.telemetry.worker_state import HEARTBEAT_MS, WorkerState

_LOG: Final = logging.getLogger(__name__)
CLOSE_SECONDS: Final = 2.0  # for settling what a hard end cut off; after it the leases speak


BuildGateway = Callable[[Settings, CountFile], Awaitable[WorkerGateway]]


async def work(lifeline: Lifeline, settings: Settings, sock: socket.socket, *, slot: int, build: BuildGateway) -> None:
    """Serve until asked to end."""
    collector.spare_the_start()
    counts = CountFile(DataDirectory(settings.data_dir).metrics, f"worker-{slot}")
    state = WorkerState(counts, pid=os.getpid(), new_identity=new_file_identity)
    gateway = await build(settings, counts)
    lifeline.attach(on_reload=gateway.reload, on_leaving=gateway.announce_leaving)
    collector.set_apart()
    async with asyncio.TaskGroup() as group:
        heart = group.create_task(_beat(state, counts))
        await gateway.start(sock)
        state.serving(True)
        lifeline.announce_ready()

        async def drain(grace_seconds: float) -> None:
            state.serving(False)
            await gateway.drain(grace_seconds)

        await lifeline.drained(drain, settings.drain_seconds)
        heart.cancel()
    try:
        await asyncio.wait_for(gateway.close(), CLOSE_SECONDS)
    except TimeoutError:
        _LOG.warning("not everything was settled before the end; leases will settle the rest")
    counts.close()


async def _beat(state: WorkerState, counts: CountFile) -> None:
    cell, counted = counts.allocate(LOG_DROPPED.name), 0
    while True:
        state.beat(monotonic_ms())
        dropped = lines_dropped()
        counts.cells[cell] += dropped - counted
        counted = dropped
        await asyncio.sleep(HEARTBEAT_MS / 1_000)


def run_worker(arguments: list[str], *, build: BuildGateway) -> Exit:
    """Run the process."""
    slot = int(arguments[0])
    return run_process(f"worker-{slot}", int(arguments[1]), partial(work, slot=slot, build=build))


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:], build=build_gateway))
