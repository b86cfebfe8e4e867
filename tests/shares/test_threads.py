"""Work in threads, called from an event loop."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest

from tallygate.shares.threads import Threads

PATIENCE_SECONDS = 10.0


@pytest.fixture
def name() -> str:
    """Of this test's threads alone: those of others may still be about to end."""
    return uuid4().hex


@pytest.fixture
async def threads(name: str) -> AsyncIterator[Threads]:
    made = Threads(2, name=name)
    yield made
    made.close()


def running(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_work_is_done_in_another_thread_and_its_error_is_the_callers(threads: Threads) -> None:
    assert await threads.do(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await threads.do(lambda: 1 // 0)
    assert await threads.do(lambda: 7) == 7


async def test_one_thread_is_enough_for_what_comes_one_after_the_other(threads: Threads, name: str) -> None:
    assert len({await threads.do(threading.get_ident) for _ in range(5)}) == 1
    assert [thread.name for thread in running(name)] == [f"{name}_1"]


async def test_work_beyond_the_most_waits_and_is_done_in_its_order(name: str) -> None:
    threads, gate, done = Threads(1, name=name), threading.Event(), list[int]()
    blocked = asyncio.ensure_future(threads.do(gate.wait))
    later = [asyncio.ensure_future(threads.do(lambda number=number: done.append(number))) for number in range(4)]  # type: ignore[misc]
    await asyncio.sleep(0)
    assert [thread.name for thread in running(name)] == [f"{name}_1"]
    later[1].cancel()
    gate.set()
    await asyncio.gather(blocked, *later, return_exceptions=True)
    threads.close()
    assert done == [0, 2, 3]


async def test_a_thread_begins_when_the_loop_has_done_what_else_was_due(threads: Threads) -> None:
    done: list[str] = []
    await threads.do(lambda: None)  # which is idle from now on
    work = asyncio.ensure_future(threads.do(lambda: done.append("thread")))
    asyncio.get_running_loop().call_soon(lambda: (time.sleep(0.05), done.append("loop")))
    await work
    assert done == ["loop", "thread"]


async def test_what_blocks_keeps_nothing_else_from_its_thread(threads: Threads) -> None:
    gate = threading.Event()
    blocked = asyncio.ensure_future(threads.do(gate.wait))
    await asyncio.sleep(0)
    assert await threads.do(gate.set) is None
    assert await blocked


async def test_what_has_begun_is_left_to_its_end_and_its_thread_goes_on(threads: Threads) -> None:
    gate, ended, faults = threading.Event(), threading.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    def work() -> None:
        gate.wait(PATIENCE_SECONDS)
        ended.set()

    left = asyncio.ensure_future(threads.do(work))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    gate.set()
    assert await threads.do(lambda: ended.wait(PATIENCE_SECONDS))
    assert [await threads.do(lambda: 1) for _ in range(3)] == [1, 1, 1]
    assert not faults


async def test_nothing_of_what_was_done_is_kept(threads: Threads) -> None:
    class Large: ...

    def work(large: Large) -> None:
        raise ValueError(large)

    large = Large()
    seen = weakref.ref(large)
    gc.disable()  # not even until the next collection
    try:
        with suppress(ValueError):
            await threads.do(partial(work, large))
        del large
        until = time.monotonic() + PATIENCE_SECONDS
        while seen() is not None and time.monotonic() < until:
            await asyncio.sleep(0.001)  # the thread puts away what it did
        assert seen() is None
    finally:
        gc.enable()


async def test_threads_end_once_nothing_is_left_to_do(name: str) -> None:
    closed, gate = Threads(1, name=name), threading.Event()
    first = asyncio.ensure_future(closed.do(gate.wait))
    second = asyncio.ensure_future(closed.do(lambda: 2))
    await asyncio.sleep(0)
    (thread,) = running(name)
    closed.close()
    gate.set()
    assert await first
    assert await second == 2
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_loop_that_was_closed_meanwhile_disturbs_nobody(capfd: pytest.CaptureFixture[str], name: str) -> None:
    gate, threads = threading.Event(), Threads(1, name=name)

    async def leave() -> None:
        asyncio.ensure_future(threads.do(gate.wait))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave())
    gate.set()
    until = time.monotonic() + PATIENCE_SECONDS
    while running(name) and time.monotonic() < until:
        time.sleep(0.001)
    assert not running(name)
    assert not capfd.readouterr().err
