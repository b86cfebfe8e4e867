"""What waits to be withdrawn while the store is away."""

import asyncio
import logging

import pytest
from small_admission import small_admission

from tallygate.domain.admission import AdmissionRequest
from tallygate.domain.errors import NothingSentError, StoreError
from tallygate.gateway.settling import withdrawals as withdrawals_module
from tallygate.gateway.settling.withdrawals import AT_ONCE, WAITING_MAX, Withdrawals

AWAY = StoreError("away")


class SlowToAnswer:
    """A limiter that withdraws, or fails as told."""

    def __init__(self) -> None:
        self.is_up = False
        self.withdrawn: list[str] = []

    async def withdraw(self, admission: AdmissionRequest) -> None:
        if not self.is_up:
            raise StoreError("away")
        self.withdrawn.append(admission.reservation_id)


async def test_withdrawals_wait_in_order_until_the_store_answers() -> None:
    limiter = SlowToAnswer()
    withdrawals = Withdrawals(limiter)  # type: ignore[arg-type]
    for number in range(2 * AT_ONCE + 1):
        withdrawals.note(small_admission(f"r{number}"), after=AWAY)
    with pytest.raises(StoreError):
        await withdrawals.attempt()
    assert withdrawals.count == 2 * AT_ONCE + 1
    limiter.is_up = True
    await withdrawals.attempt()
    assert withdrawals.count == 0
    assert limiter.withdrawn == [f"r{number}" for number in range(2 * AT_ONCE + 1)]


async def test_what_was_never_sent_needs_no_withdrawal() -> None:
    withdrawals = Withdrawals(SlowToAnswer())  # type: ignore[arg-type]
    withdrawals.note(small_admission("r1"), after=NothingSentError("no connection"))
    assert withdrawals.count == 0


async def test_past_the_maximum_the_leases_speak_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    limiter = SlowToAnswer()
    withdrawals = Withdrawals(limiter)  # type: ignore[arg-type]
    for number in range(WAITING_MAX + 3):
        withdrawals.note(small_admission(f"r{number}"), after=AWAY)
    assert withdrawals.count == WAITING_MAX
    assert caplog.text.count("end with their leases") == 1
    limiter.is_up = True
    await withdrawals.attempt()
    assert len(limiter.withdrawn) == WAITING_MAX


async def test_the_log_has_one_line_when_they_begin_to_wait_and_one_when_none_does(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(withdrawals_module, "RETRY_SECONDS", 0)
    limiter = SlowToAnswer()
    withdrawals = Withdrawals(limiter)  # type: ignore[arg-type]
    trying = asyncio.ensure_future(withdrawals.withdraw_forever())
    for outage in range(2):
        limiter.is_up = False
        withdrawals.note(small_admission(f"r{outage}"), after=AWAY)
        for _ in range(100):
            await asyncio.sleep(0)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * outage + ["WARNING"]
        limiter.is_up = True
        async with asyncio.timeout(10):
            while "INFO" not in caplog.records[-1].levelname:
                await asyncio.sleep(0)
    trying.cancel()
    assert limiter.withdrawn == ["r0", "r1"]
