"""A value that is kept fresh: one fetch at a time, an old value as long as it holds, and no haste after a failure."""

import asyncio

import pytest

from tallygate.outbound.refreshed import Fetched, Refreshed
from tallygate.outbound.session import FetchError

RETRY_MS = 500


class Numbers(Refreshed[int]):
    """1, 2, 3 …, each due after 1,000 ms and good for 3,000. `gate` holds fetches back; `failures` come first."""

    def __init__(self, kept: Fetched[int] | None = None) -> None:
        self.now_ms = 0
        self.slept: list[float] = []
        super().__init__(
            now_ms=lambda: self.now_ms, retry_ms=lambda _left_ms: RETRY_MS, pauses_s=(0.1,), sleep=self._note_sleep, kept=kept
        )
        self.fetches = 0
        self.failures: list[FetchError] = []
        self.logged: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def _note_sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def fetch(self) -> Fetched[int]:
        self.fetches += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return Fetched(self.fetches, due_ms=self.now_ms + 1_000, ends_ms=self.now_ms + 3_000)

    def log_failure(self, failure: FetchError) -> None:
        self.logged.append(str(failure))


@pytest.fixture
async def numbers() -> Numbers:
    return Numbers()


async def test_all_who_wait_share_one_fetch_and_one_who_leaves_does_not_end_it(numbers: Numbers) -> None:
    numbers.gate.clear()
    waiting = [asyncio.ensure_future(numbers.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    numbers.gate.set()

    assert await asyncio.gather(*waiting[1:]) == [1, 1]
    assert numbers.fetches == 1


async def test_one_renews_what_is_due_and_the_others_go_on_with_the_old_value(numbers: Numbers) -> None:
    assert await numbers.get() == 1
    numbers.now_ms = 999
    assert await numbers.get() == 1
    numbers.now_ms = 1_000
    numbers.gate.clear()
    renewing = asyncio.ensure_future(numbers.get())
    await asyncio.sleep(0)

    assert await numbers.get() == 1
    numbers.gate.set()
    assert await renewing == 2


async def test_after_a_failure_the_old_value_holds_to_its_end_and_is_asked_for_once_in_a_while(numbers: Numbers) -> None:
    await numbers.get()
    numbers.now_ms, numbers.failures = 1_000, [FetchError("down", is_lasting=True), FetchError("down", is_lasting=True)]
    assert await numbers.get() == 1
    numbers.now_ms += RETRY_MS - 1
    assert (await numbers.get(), numbers.fetches) == (1, 2)
    numbers.now_ms += 1
    assert (await numbers.get(), numbers.fetches) == (1, 3)
    numbers.now_ms = 2_999
    assert numbers.current() == 1
    numbers.now_ms = 3_000
    assert numbers.current() is None
    assert await numbers.get() == 4
    assert numbers.logged == ["down"]


async def test_a_passing_failure_is_tried_again_in_the_same_round_and_a_lasting_one_is_not(numbers: Numbers) -> None:
    numbers.failures = [FetchError("late")]
    assert await numbers.get() == 2
    assert (numbers.slept, numbers.logged) == ([0.1], [])
    numbers.forget()
    numbers.failures = [FetchError("refused", is_lasting=True)]
    with pytest.raises(FetchError, match="refused"):
        await numbers.get()
    assert (numbers.fetches, numbers.logged) == (3, ["refused"])


async def test_who_has_no_value_is_told_why_at_once_while_no_fetch_is_due(numbers: Numbers) -> None:
    numbers.failures = [FetchError("refused", is_lasting=True)]
    for _ in range(3):
        with pytest.raises(FetchError, match="refused"):
            await numbers.get()
    assert numbers.fetches == 1
    numbers.now_ms += RETRY_MS
    assert await numbers.get() == 2


async def test_a_fetch_that_is_abandoned_leaves_nobody_waiting(numbers: Numbers) -> None:
    numbers.gate.clear()
    waiting = asyncio.ensure_future(numbers.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    numbers.abandon()
    with pytest.raises(FetchError):
        await waiting
    assert not numbers.is_fetching


async def test_a_fixed_value_is_never_fetched() -> None:
    numbers = Numbers(kept=Fetched(7, due_ms=2**53))
    numbers.now_ms = 2**50
    assert (await numbers.get(), numbers.fetches) == (7, 0)
