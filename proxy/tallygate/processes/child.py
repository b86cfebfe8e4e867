"""A child process that is kept running: started, watched, restarted after a crash or where it hangs, ended."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.processes.lifeline import ALIVE, LEAVING, READY
from tallygate.processes.uptime import Uptime

_LOG: Final = logging.getLogger(__name__)
FIRST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 5.0
HEALTHY_SECONDS: Final = 10.0  # a process that lived this long started well: its next crash counts as the first
UNANSWERED_MAX: Final = 3  # questions. They are counted, and not the time: a machine that was suspended is nobody's fault
LINE_BYTES_MAX: Final = 8_192  # of a child's standard output; longer lines are split


def python_module(module: str, *arguments: object) -> tuple[str, ...]:
    """The command that runs a module by this interpreter; nothing in the working directory can be imported in its place (`-P`)."""
    return (sys.executable, "-P", "-m", module, *map(str, arguments))


class Backoff:
    """The delay before a crashed process is restarted: 0.1 s, doubled at each early death, at most 5 s."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def after(self, lived_seconds: float) -> float:
        """Seconds to wait, given how long the process lived."""
        if lived_seconds >= HEALTHY_SECONDS:
            self._next = FIRST_SECONDS
        delay = self._next
        self._next = min(self._next * 2, MOST_SECONDS)
        return delay


class ChildFailedError(Exception):
    """A child ended before it was ever ready, or could not even be started, so trying again would fail again."""

    def __init__(self, name: str, returncode: int | None, fault: str) -> None:
        """returncode: None if no process was started. fault: its last words about what is wrong, if any, or why none was."""
        ended = "cannot be started" if returncode is None else f"ended with {returncode} before it was ready"
        super().__init__(f"{name} {ended}{': ' if fault else ''}{fault}")
        self.returncode = returncode


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """The specification of a child.

    command       the program and its arguments
    environment   its whole environment
    descriptors   inherited under their own numbers
    ready_mark    bytes in the line of its standard output that reports readiness
    fault_mark    bytes before what a line of its standard output says is wrong; empty: it says so elsewhere
    ask_seconds   between two questions whether it is alive; 0: it is not asked, since it does not answer
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: tuple[int, ...]
    ready_mark: bytes = READY
    fault_mark: bytes = b""
    ask_seconds: float = 0.0


class Child:
    """Keeps one ChildSpec running, from `start` until its end is requested.

    Only the supervisor has the other end of its standard input, a pipe: end of file means that the supervisor has died, or
    wants the child to end now; anything that comes through it asks for an answer (`lifeline.py`). The child has a process group of
    its own, so that Ctrl-C in a terminal reaches the supervisor alone.

    first_ready   done at its first readiness; ChildFailedError if its first process ended before
    ended         done when it has ended for good
    """

    def __init__(self, spec: ChildSpec, uptime: Uptime, *, clock: Callable[[], float]) -> None:
        """uptime: is told when it is ready and when it has ended."""
        loop = asyncio.get_running_loop()
        self.first_ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._spec = spec
        self._uptime = uptime
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._is_ready = False
        self._fault = ""
        self._unanswered = 0
        self._is_reload_due = False
        self._is_leaving = False
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._spec.name)

    @property
    def is_ready(self) -> bool:
        """Return whether its process runs and has reported readiness."""
        return self._is_ready

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the child does not run."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def reload(self) -> None:
        """Send SIGHUP, at the earliest when it is ready: before, the signal would end it, and the old configuration may be read."""
        if self.is_ready:
            self.signal(signal.SIGHUP)
        else:
            self._is_reload_due = True

    def announce_leaving(self) -> None:
        """Announce the end, now or as soon as the child is ready; if it crashes, to its successor."""
        self._is_leaving = True
        if self.is_ready:
            self.signal(LEAVING)

    def expect_end(self) -> None:
        """Expect the child to end: it is not restarted."""
        self._stopping.set()
        if self._task is None and not self.ended.done():
            self.ended.set_result(None)

    def hang_up(self) -> None:
        """Close the child's lifeline: it ends at once, by itself."""
        self.expect_end()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        self.expect_end()
        self.signal(signal.SIGKILL)

    async def _run(self) -> None:
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                started = self._clock()
                returncode = await self._live()
                if self._stopping.is_set():
                    return
                if not self.first_ready.done():
                    self.first_ready.set_exception(ChildFailedError(self._spec.name, returncode, self._fault))
                    self.first_ready.exception()  # one reported failure is enough: mark the others as retrieved
                    return
                delay = backoff.after(self._clock() - started)
                if returncode is None:
                    _LOG.error(
                        "process cannot be started: it is tried again",
                        extra={"fields": {"child": self._spec.name, "reason": self._fault, "after_seconds": delay}},
                    )
                else:
                    _LOG.warning(
                        "process ended and is started again",
                        extra={"fields": {"child": self._spec.name, "status": returncode, "after_seconds": delay}},
                    )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
        finally:
            self.ended.set_result(None)

    async def _live(self) -> int | None:
        """Run one process from start to end; return its exit code, negative for a signal; None if it cannot be started now."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._spec.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self._spec.environment),
                pass_fds=self._spec.descriptors,
                process_group=0,
                limit=LINE_BYTES_MAX,
            )
        except (OSError, RuntimeError) as error:  # no room for one more process, or an upgrade replaces the interpreter
            self._fault = str(error)
            return None
        self._process = process
        asking = asyncio.ensure_future(self._ask_forever(process))
        try:
            if self._stopping.is_set():
                process.kill()
            await self._follow_output(process)
            return await process.wait()
        finally:
            asking.cancel()
            if self._is_ready:
                self._is_ready = False
                self._uptime.went_down()
            self._process = None

    async def _ask_forever(self, process: asyncio.subprocess.Process) -> None:
        """Ask whether it is alive, now and then; kill it once it has not answered a few times, so that another takes its place."""
        self._unanswered = 0
        while self._spec.ask_seconds and process.stdin is not None:
            await asyncio.sleep(self._spec.ask_seconds)
            if self._stopping.is_set():
                return
            if self._unanswered >= UNANSWERED_MAX:
                _LOG.error(
                    "process does not answer, and is killed so that another takes its place",
                    extra={"fields": {"child": self._spec.name, "seconds": UNANSWERED_MAX * self._spec.ask_seconds}},
                )
                process.kill()
                return
            self._unanswered += 1
            process.stdin.write(b"?")

    async def _follow_output(self, process: asyncio.subprocess.Process) -> None:
        """Read its standard output to the end: the mark makes it ready, everything else is logged."""
        output = process.stdout
        if output is None:
            raise RuntimeError("standard output is always a pipe")
        while True:
            try:
                line = await output.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial
            except asyncio.LimitOverrunError as overrun:
                line = await output.read(overrun.consumed)
            if not line:
                return
            if line == ALIVE:
                self._unanswered = 0
            elif self._spec.ready_mark in line and not self.is_ready:
                self._became_ready()
            else:
                self._note_fault(line)
                _LOG.debug("output", extra={"fields": {"child": self._spec.name, "line": os.fsdecode(line.rstrip())}})

    def _note_fault(self, line: bytes) -> None:
        mark = self._spec.fault_mark
        if mark and mark in line:
            self._fault = os.fsdecode(line.partition(mark)[2].strip())

    def _became_ready(self) -> None:
        self._is_ready = True
        self._uptime.came_up()
        if not self.first_ready.done():
            self.first_ready.set_result(None)
        if self._is_reload_due:
            self._is_reload_due = False
            self.signal(signal.SIGHUP)
        if self._is_leaving:
            self.signal(LEAVING)
