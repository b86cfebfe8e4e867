"""`python -m tallygate.processes.worker SLOT SOCKET`: one gateway worker, started by the supervisor.

SLOT     0..N-1, under which it counts; its successor in the slot goes on counting there
SOCKET   descriptor of the inherited listening socket; the supervisor keeps its own copy, so the port outlives the worker
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from tallygate.app.clocks import monotonic_ms, new_file_identity
from tallygate.app.gateway import WorkerGateway, build_gateway
from tallygate.app.machine import raise_descriptors
from tallygate.config.settings import Settings, load_settings
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.processes import collector
from tallygate.processes.data_directory import DataDirectory
from tallygate.processes.lifeline import Lifeline
from tallygate.processes.supervisor import Exit
from tallygate.telemetry.count_file import CountFile, CountsFullError
from tallygate.telemetry.log import lines_dropped, start_logging
from tallygate.telemetry.metrics import LOG_DROPPED
from tallygate.telemetry.worker_state import HEARTBEAT_MS, WorkerState

_LOG: Final = logging.getLogger(__name__)
CLOSE_SECONDS: Final = 2.0  # for settling what a hard end cut off; after it the leases speak


BuildGateway = Callable[[Settings, CountFile], Awaitable[WorkerGateway]]


async def work(lifeline: Lifeline, settings: Settings, *, slot: int, sock: socket.socket, build: BuildGateway) -> None:
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
    """The process: settings from the environment, logs on standard error, one event loop."""
    slot, descriptor = int(arguments[0]), int(arguments[1])
    raise_descriptors()
    try:
        settings = load_settings()
        start_logging(process=f"worker-{slot}", level=settings.log_level, clock=time.monotonic, log_format=settings.log_format)
        sock = socket.socket(fileno=descriptor)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            lifeline = Lifeline()
            runner.run(lifeline.run(work(lifeline, settings, slot=slot, sock=sock, build=build)))
    except ConfigError as error:
        for problem in error.problems:
            _LOG.error("configuration", extra={"fields": {"problem": problem}})
        return Exit.CONFIG
    except StoreError as error:
        _LOG.error("the limiter's store cannot be used", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    except CountsFullError as error:
        _LOG.error("no room on the disk for what a worker counts", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    except OSError as error:
        _LOG.error("a file cannot be used", extra={"fields": {"file": error.filename, "reason": error.strerror or str(error)}})
        return Exit.FAILED
    return Exit.CLEAN


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:], build=build_gateway))
