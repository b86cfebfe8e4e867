"""The parent of each command that serves: it owns the ports and keeps the other processes running.

The order matters: Valkey starts first, since the others need it, then console and workers together. Workers end first, then the
console, which shows their last counts, and Valkey last. The parent itself serves nothing and so has little that can
fail; while no worker is up, it says so to their clients (`stand_in.py`).
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, Final

from tallygate.config.reloading import ConfigWatch, watch_forever
from tallygate.processes.child import Child, ChildFailedError, ChildSpec
from tallygate.processes.file_sync import FileSync
from tallygate.processes.stand_in import StandIn
from tallygate.processes.uptime import Uptime

_LOG: Final = logging.getLogger(__name__)
HARD_STOP_SECONDS: Final = 3.0  # from closing the lifeline to SIGKILL
LAST_SECONDS: Final = 2.0  # for the console to end after the workers have used up the grace
VALKEY_STOP_SECONDS: Final = 15.0  # it writes and syncs its append-only file, and is not killed before


class Exit(IntEnum):
    """Exit codes of the commands that serve, and of their children."""

    CLEAN = 0
    FAILED = 1  # a process did not start
    FORCED = 3  # stopped, but open requests were cut off
    CONFIG = 78  # EX_CONFIG of sysexits.h: the configuration cannot be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The processes to run.

    workers        none for a command that serves no gateway
    console        the process behind the console's port
    sockets        the parent's copies of the workers' and the console's port: closed as each begins to drain, so that new
                   connections are refused
    delay_seconds  between reporting not ready and closing the ports
    drain_seconds  for requests that are then open
    watched        the configuration's files: a change on disk causes a reload, like SIGHUP
    file_sync      of Valkey's files
    stand_in       makes what answers on the workers' port while none is up, of that port and their uptime
    """

    workers: Sequence[ChildSpec]
    console: ChildSpec
    valkey: ChildSpec | None
    gateway_socket: socket.socket | None
    console_socket: socket.socket
    delay_seconds: float
    drain_seconds: float
    watched: ConfigWatch = field(default_factory=partial(ConfigWatch, None))
    file_sync: FileSync | None = None
    stand_in: Callable[[socket.socket, Uptime], StandIn] | None = None


class Supervisor:
    """Runs a Fleet until a signal stops it.

    SIGTERM, SIGINT   drain: report not ready, keep serving for delay_seconds, stop accepting, let open requests finish within
                      drain_seconds, then end. A second one: end now.
    SIGHUP            workers and console reload the configuration, as they also do when its files change
    """

    def __init__(self, fleet: Fleet, *, on_ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._on_ready = on_ready
        self._fleet = fleet
        self._uptime = Uptime(loop.time)  # of the workers together
        self._workers = [Child(spec, self._uptime, clock=loop.time) for spec in fleet.workers]
        self._console = Child(fleet.console, Uptime(loop.time), clock=loop.time)
        self._valkey = () if fleet.valkey is None else (Child(fleet.valkey, Uptime(loop.time), clock=loop.time),)
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def supervise(self) -> Exit:
        """Serve until stopped; return how it ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        syncing = None if self._fleet.file_sync is None else asyncio.ensure_future(self._fleet.file_sync.sync_forever())
        standing_in = self._stand_in()
        try:
            await self._start(self._valkey)
            await self._start((self._console, *self._workers))
            if not self._stop.is_set():
                self._on_ready()
            await self._watch_until_stopped()
            await _cancelled(standing_in)
        except ChildFailedError as failure:
            _LOG.error("a process did not start", extra={"fields": {"reason": str(failure)}})
            self._stop_now.set()
            await self._end()
            return Exit.CONFIG if failure.returncode == Exit.CONFIG else Exit.FAILED
        else:
            return Exit.CLEAN if await self._end() else Exit.FORCED
        finally:
            for beside in (syncing, standing_in):
                if beside is not None:
                    beside.cancel()

    def _stand_in(self) -> "asyncio.Future[None] | None":
        bound, make = self._fleet.gateway_socket, self._fleet.stand_in
        if bound is None or make is None:
            return None
        return asyncio.ensure_future(make(bound, self._uptime).stand_in_forever())

    async def _watch_until_stopped(self) -> None:
        watching = asyncio.ensure_future(watch_forever(self._fleet.watched, self._reload))
        await self._stop.wait()
        watching.cancel()

    async def _start(self, children: Sequence[Child]) -> None:
        """Start all and wait until each was ready once, or a signal stops the fleet. Raises ChildFailedError."""
        if self._stop.is_set():
            return
        for child in children:
            child.start()
        await _all_unless([child.first_ready for child in children], self._stop, seconds=None)

    async def _end(self) -> bool:
        """End all in order. True if every worker and the console finished their open requests."""
        for child in (self._console, *self._workers):
            child.announce_leaving()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_now.wait(), self._fleet.delay_seconds)
        deadline = asyncio.get_running_loop().time() + self._fleet.drain_seconds
        is_drained = True
        for bound, children in ((self._fleet.gateway_socket, self._workers), (self._fleet.console_socket, (self._console,))):
            is_drained &= await self._drain(bound, children, deadline)
        for valkey in self._valkey:
            valkey.expect_end()
            valkey.signal(signal.SIGTERM)
        if not await self._ended(self._valkey, VALKEY_STOP_SECONDS):
            await self._kill(self._valkey)
        return is_drained

    async def _drain(self, bound: socket.socket | None, children: Sequence[Child], deadline: float) -> bool:
        """Close a port and end its processes. True if they finished their open requests before the deadline."""
        if bound is not None:
            bound.close()
        for child in children:
            child.expect_end()
            child.signal(signal.SIGTERM)
        left = max(deadline - asyncio.get_running_loop().time(), LAST_SECONDS)
        is_drained = await self._ended(children, left, unless=self._stop_now)
        if not is_drained:
            await self._hang_up(children)
        return is_drained

    async def _hang_up(self, children: Sequence[Child]) -> None:
        for child in children:
            child.hang_up()
        if not await self._ended(children, HARD_STOP_SECONDS):
            await self._kill(children)

    async def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            child.kill()
        await self._ended(children, HARD_STOP_SECONDS)

    async def _ended(self, children: Sequence[Child], seconds: float, *, unless: asyncio.Event | None = None) -> bool:
        return await _all_unless([child.ended for child in children], unless or asyncio.Event(), seconds=seconds)

    def _ask_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    def _reload(self) -> None:
        for child in (self._console, *self._workers):
            child.reload()


async def _cancelled(task: "asyncio.Future[None] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


async def _all_unless(futures: Iterable["asyncio.Future[None]"], event: asyncio.Event, *, seconds: float | None) -> bool:
    """Wait for all futures, at most `seconds` and not beyond the event. True if all are done; raises what the first one raises."""
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    stopped = asyncio.ensure_future(event.wait())
    pending: set[asyncio.Future[Any]] = set(futures)
    try:
        while pending and not stopped.done():
            left = None if deadline is None else max(0.0, deadline - loop.time())
            done, _ = await asyncio.wait({*pending, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for future in done & pending:
                future.result()
            pending -= done
    finally:
        stopped.cancel()
    return not pending
