"""Threads for what blocks, called from one event loop.

An executor's way there and back takes 170 µs of CPU where it is taken seldom, of which 100 are its own: futures of two kinds, their
locks, and a second thread that is woken with the first. None of that code is in the processor's caches any more.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, TypeVar

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    result: "asyncio.Future[Any]"
    ended: Callable[["_Jobs", "_Job", Any, BaseException | None], None]  # to be called in the loop


_Jobs = SimpleQueue[_Job | None]  # of one thread; None: it ends


class Threads:
    """At most so many threads, each begun when all others are busy. Work that finds none is done in the order in which it came.

    Whoever is cancelled leaves to its end what has begun, and what waits is not done. `close` at the end.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most: Final = most
        self._name: Final = name
        self._begun = 0
        self._idle: list[_Jobs] = []  # the last one was busy last: its memory is at hand
        self._waiting: deque[_Job] = deque()
        self._is_closed = False

    async def do(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, done in a thread. Raises what it raises."""
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), self._ended)
        if self._idle:
            loop.call_soon(self._idle.pop().put, job)  # behind what else is due now, or it would wait for Python's lock at once
        elif self._begun < self._most:
            self._begin(job)
        else:
            self._waiting.append(job)
        try:
            result: Result = await job.result
            return result
        finally:
            del job  # an error's traceback has this frame, and the job has the error

    def close(self) -> None:
        """Let the threads end once nothing is left to do."""
        self._is_closed = True
        while self._idle:
            self._end(self._idle.pop())

    def _begin(self, job: _Job) -> None:
        self._begun += 1
        jobs: _Jobs = SimpleQueue()
        jobs.put(job)
        threading.Thread(target=_do_forever, args=(jobs,), name=f"{self._name}_{self._begun}", daemon=True).start()

    def _ended(self, jobs: _Jobs, job: _Job, result: Any, error: BaseException | None) -> None:
        self._go_on(jobs)
        if job.result.done():
            return  # cancelled
        if error is None:
            job.result.set_result(result)
        else:
            job.result.set_exception(error)

    def _go_on(self, jobs: _Jobs) -> None:
        while self._waiting:
            job = self._waiting.popleft()
            if not job.result.done():
                jobs.put(job)
                return
        if self._is_closed:
            self._end(jobs)
        else:
            self._idle.append(jobs)

    def _end(self, jobs: _Jobs) -> None:
        self._begun -= 1
        jobs.put(None)


def _do_forever(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        result, error = None, None
        try:
            result = job.work()
        except BaseException as raised:  # noqa: BLE001 - it is the caller's
            error = raised
        try:
            job.result.get_loop().call_soon_threadsafe(job.ended, jobs, job, result, error)
        except RuntimeError:
            return  # the loop was closed meanwhile: nobody waits
        del job, result, error  # nothing of it is kept while there is nothing to do
