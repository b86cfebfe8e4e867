"""What must be true once every client has gone, whatever it did."""

import asyncio

from gateway_harness import Harness

from tallygate.limiter.reference_state import Hold
from tallygate.telemetry.metrics import OPEN_REQUESTS


async def come_to_rest(harness: Harness, seconds: float = 5.0) -> None:
    """Wait until gateway and simulator have ended every exchange; fails if they do not. Then nothing is held or counted as open."""
    await harness.at_rest(seconds)
    async with asyncio.timeout(seconds):
        while harness.ledger.totals.open:
            await asyncio.sleep(0.002)
    for state in harness.limiter.orgs.values():
        assert not [hold for hold in state.holds.values() if isinstance(hold, Hold)]
        assert not any(window.held for window in state.windows.values())
        assert not any(state.open.values())
    assert harness.metrics.levels[OPEN_REQUESTS] == 0


def assert_paid(harness: Harness, *, outcome: str | None = None) -> None:
    """Every accepted request has one event, which charges its prompt and no more output than was generated."""
    events = {event["event_id"]: event for event in harness.events()}
    accepted = [record for record in harness.ledger.records if record.accepted]
    assert {record.request_id for record in accepted} == {name for name, event in events.items() if event["cost_nano_usd"]}
    for record in accepted:
        event = events[str(record.request_id)]
        assert event["prompt_tokens"] == record.prompt_tokens
        assert event["completion_tokens"] <= record.generated_tokens
        if outcome is not None:
            assert event["outcome"] == outcome


async def until_accepted(harness: Harness, count: int = 1) -> None:
    """Wait until the simulator works on so many requests."""
    async with asyncio.timeout(10):
        while sum(record.accepted for record in harness.ledger.records) < count:
            await asyncio.sleep(0.002)
