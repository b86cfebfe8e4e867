"""Threads for long work, in which organizations take turns: a large queue delays only the organization that filled it."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")
Work = Generator[None, None, Result]


@dataclass(slots=True, eq=False)
class _Job:
    org: str
    work: "Work[Any]"
    result: "asyncio.Future[Any]"


class Turns:
    """Runs the long work of one event loop a step at a time: what a generator does up to its next `yield`.

    Waiting organizations take turns, step by step; the work of each is done in order of arrival. So a newcomer waits
    for at most one step of each other organization, however much work those have queued.
    """

    def __init__(self, *, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._is_closed = False
        self._queued: dict[str, int] = {}
        self._waiting: dict[str, deque[_Job]] = {}  # by organization, in the order of their turns

    def queued(self, org: str) -> int:
        """The number of the organization's jobs that wait or run."""
        return self._queued.get(org, 0)

    async def run_in_turn(self, org: str, work: "Work[Result]") -> Result:
        """Run `work` in its turns and return its result. Raises what it raises."""
        job = _Job(org, work, asyncio.get_running_loop().create_future())
        self._queued[org] = self._queued.get(org, 0) + 1
        self._waiting.setdefault(org, deque()).append(job)
        self._begin()
        try:
            result: Result = await job.result
            return result
        finally:
            del job  # an error's traceback has this frame, and the job has the error: the cycle would keep the body in memory
            self._queued[org] -= 1
            if not self._queued[org]:
                del self._queued[org]

    def close(self) -> None:
        """Drop waiting work and let the threads end."""
        self._is_closed = True
        for jobs in self._waiting.values():
            for job in jobs:
                job.result.cancel()
        self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and self._waiting:
            org, jobs = next(iter(self._waiting.items()))
            del self._waiting[org]
            job = jobs.popleft()
            if jobs:
                self._waiting[org] = jobs  # at the end: the others come first
            if job.result.done():  # the caller has left
                continue
            self._free -= 1
            loop.run_in_executor(self._pool, _step, job.work).add_done_callback(partial(self._stepped, job))

    def _stepped(self, job: _Job, step: "asyncio.Future[tuple[bool, Any]]") -> None:
        self._free += 1
        if step.cancelled():
            job.result.cancel()
            return
        if not job.result.done():  # else the caller has left
            if (error := step.exception()) is not None:
                job.result.set_exception(error)
            else:
                self._go_on(job, *step.result())
        self._begin()

    def _go_on(self, job: _Job, is_over: bool, result: Any) -> None:  # noqa: FBT001 - what _step returns
        if is_over:
            job.result.set_result(result)
        elif self._is_closed:
            job.result.cancel()
        else:
            self._waiting.setdefault(job.org, deque()).appendleft(job)


def _step(work: "Work[Any]") -> tuple[bool, Any]:
    try:
        next(work)
    except StopIteration as end:
        return True, end.value
    return False, None


def at_once(call: Callable[[], Result]) -> "Work[Result]":
    """Work of a single step."""
    yield from ()
    return call()
