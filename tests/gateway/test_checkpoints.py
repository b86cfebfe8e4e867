"""Leases are renewed as long as their worker lives, whatever one round of it runs into."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, running_gateway

from tallygate.domain.errors import StoreError
from tallygate.gateway.exchange import account
from tallygate.gateway.exchange.account import checkpoint_all, checkpoint_forever

CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
KEY = {"Authorization": f"Bearer {ACME_KEY}"}


class Failing:
    """An open answer whose checkpoint fails twice, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.worked = asyncio.Event()

    @property
    def is_ending(self) -> bool:
        if self.errors:
            raise self.errors.pop()
        self.worked.set()
        return True


@pytest.mark.parametrize("error", [StoreError("away"), ValueError("a bug")])
async def test_a_failed_round_is_followed_by_the_next(error: Exception) -> None:
    answer = Failing(error, error)
    services: Any = SimpleNamespace(bounds=SimpleNamespace(checkpoint_seconds=0), loop=asyncio.get_running_loop())
    answers: Any = {answer}
    loop = asyncio.ensure_future(checkpoint_forever(services, answers))
    async with asyncio.timeout(10):
        await answer.worked.wait()
    loop.cancel()


class OpenAnswer:
    """An exchange whose count so far takes for ever, so many turns of the loop, is a bug, or is there at once."""

    def __init__(
        self, name: str, *, error: Exception | None = None, hangs: bool = False, turns: int = 0, is_ending: bool = False
    ) -> None:
        self.is_ending = is_ending
        self.sent_at = 1.0
        self._error, self._hangs, self._turns = error, hangs, turns
        admission = SimpleNamespace(reservation_id=name, floor_prompt_tokens=0, floor_completion_tokens=0, event=b"{}")
        treatment = SimpleNamespace(checkpoint=self.progress)
        call = SimpleNamespace(head=SimpleNamespace(treatment=treatment), facts=SimpleNamespace(job_kind=None))
        self.held: Any = SimpleNamespace(admission=admission, call=call)

    async def progress(self, _answer: object) -> Any:
        if self._error is not None:
            raise self._error
        if self._hangs:
            await asyncio.Event().wait()
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return SimpleNamespace(admission=self.held.admission)


class RenewedLeases:
    """Implements what checkpoints need of the limiter. fails: so many first calls are not answered."""

    def __init__(self, *, fails: int = 0) -> None:
        self.names: list[str] = []
        self._fails = fails

    async def checkpoint(self, accounts: Any) -> None:
        if self._fails:
            self._fails -= 1
            raise StoreError("no answer in time")
        self.names += [each.admission.reservation_id for each in accounts]


def services_of(limiter: RenewedLeases) -> Any:
    bounds = SimpleNamespace(checkpoint_seconds=0.05)
    return SimpleNamespace(bounds=bounds, loop=asyncio.get_running_loop(), limiter=limiter)


async def test_what_cannot_be_counted_in_time_or_at_all_is_renewed_all_the_same() -> None:
    answers: Any = {
        OpenAnswer("stuck", hangs=True),
        OpenAnswer("stuck-too", hangs=True),
        OpenAnswer("broken", error=ValueError("a bug")),
        OpenAnswer("ending", error=ValueError("asked for its progress"), is_ending=True),
        OpenAnswer("quick"),
    }
    limiter = RenewedLeases()

    async with asyncio.timeout(10):
        await checkpoint_all(services_of(limiter), answers)

    assert sorted(limiter.names) == ["broken", "ending", "quick", "stuck", "stuck-too"]


async def test_a_round_over_many_exchanges_takes_few_turns_of_a_busy_loop() -> None:
    """In each turn it serves all its connections: a round of one exchange after another would outlast the leases."""
    number, turns = 1_000, 0
    answers: Any = {OpenAnswer(str(each), turns=4) for each in range(number)}
    limiter = RenewedLeases()
    services = services_of(limiter)
    services.bounds.checkpoint_seconds = 60
    round_ = asyncio.ensure_future(checkpoint_all(services, answers))
    while not round_.done():
        await asyncio.sleep(0)
        turns += 1

    assert len(limiter.names) == number
    assert turns < number / 2


async def test_what_is_relayed_meanwhile_waits_for_a_few_exchanges_at_a_time() -> None:
    limiter = RenewedLeases()
    services = services_of(limiter)
    services.bounds.checkpoint_seconds = 60
    answers: Any = {OpenAnswer(str(each)) for each in range(400)}
    round_, most = asyncio.ensure_future(checkpoint_all(services, answers)), 0
    while not round_.done():
        before = len(limiter.names)
        await asyncio.sleep(0)  # a turn of the loop
        most = max(most, len(limiter.names) - before)

    assert len(limiter.names) == 400
    assert most == 8


async def test_a_round_trip_that_fails_is_not_missing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "CHECKPOINTS_AT_ONCE", 2)
    answers: Any = {OpenAnswer(str(number)) for number in range(6)}
    limiter = RenewedLeases(fails=1)

    with pytest.raises(StoreError):
        await checkpoint_all(services_of(limiter), answers)

    assert len(limiter.names) == 4


async def test_a_hold_does_not_expire_while_its_settlement_waits_in_a_living_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession(headers=KEY) as session:
        services, waits, goes_on = harness.gateway.services, asyncio.Event(), asyncio.Event()
        settle = services.settler.settle

        async def settle_late(found: Any) -> None:
            waits.set()
            await goes_on.wait()
            await settle(found)

        monkeypatch.setattr(services.settler, "settle", settle_late)
        asked = asyncio.ensure_future(session.post(f"{harness.url}/v1/chat/completions", json=CHAT))
        await waits.wait()
        for _ in range(3):
            harness.clock.offset_ms += 20_000  # of a lease of 30 s
            await checkpoint_all(services, harness.gateway.pipeline.answers)
        (hold,) = harness.limiter.orgs["acme"].holds.values()
        goes_on.set()
        assert hold.at_ms > harness.clock.now_ms() + 20_000
        async with await asked as answer:
            assert answer.status == 200
        await harness.at_rest()
        (event,) = harness.events()
        assert (event["outcome"], event["usage_source"]) == ("success", "upstream")
        assert not harness.gateway.pipeline.answers
