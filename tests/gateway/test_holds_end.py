"""What was held for a request ends with it, also where something unforeseen happens between the grant and the sending."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, running_gateway

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.gateway.settling import recent, settler
from tallygate.gateway.settling.recent import KEPT_MS
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.reference_state import Hold
from tallygate.limiter.wire import DemandWords

CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
HEADERS = {"Authorization": f"Bearer {ACME_KEY}"}


class HangingLimiter(ReferenceLimiter):
    """Holds what it is asked for, and does not answer. asked: by which task."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms)
        self.asked: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()

    async def admit(self, request: AdmissionRequest, words: DemandWords | None = None) -> Decision:
        await super().admit(request, words)
        self.asked.set_result(asyncio.current_task())
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


def holds(limiter: ReferenceLimiter) -> list[Hold]:
    return [hold for hold in limiter.orgs["acme"].holds.values() if isinstance(hold, Hold)]


async def test_a_request_that_cannot_be_rewritten_is_answered_and_holds_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession(headers=HEADERS) as session:

        def fail(*_arguments: object, **_named: object) -> bytes:
            raise ValueError("a bug")

        monkeypatch.setattr(type(harness.gateway.services.dialects["openai_chat"]), "rewrite_request", fail)
        async with session.post(f"{harness.url}/v1/chat/completions", json=CHAT) as answer:
            assert answer.status == 500
            assert (await answer.json())["error"]["code"] == "internal_error"
        await harness.at_rest()

        assert not harness.ledger.records
        assert not holds(harness.limiter)
        assert (await harness.window()).held_nano_usd == 0
        (event,) = harness.events()
        assert (event["_kind"], event["cost_nano_usd"], event["outcome"]) == ("released", 0, "upstream_error")


async def test_the_store_forgets_an_exchange_once_its_worker_keeps_it_no_longer(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(settler, "FORGET_EVERY_S", 0.01)
    monkeypatch.setattr(recent, "GROUP", 2)
    async with running_gateway(tmp_path) as harness, ClientSession(headers=HEADERS) as session:
        for _ in range(3):
            async with session.post(f"{harness.url}/v1/chat/completions", json=CHAT) as answer:
                assert answer.status == 200
                await answer.read()
            harness.clock.offset_ms += KEPT_MS + 1
        last = harness.events()[-1]["event_id"]
        async with asyncio.timeout(10):
            while [*harness.limiter.orgs["acme"].holds] != [last]:
                await asyncio.sleep(0.01)
        assert (await harness.window()).held_nano_usd == 0


async def test_what_is_cut_off_while_it_waits_for_its_hold_is_withdrawn(tmp_path: Path) -> None:
    limiter = HangingLimiter(lambda: 1_767_225_600_000)
    async with running_gateway(tmp_path, limiter=limiter) as harness, ClientSession(headers=HEADERS) as session:
        asking = asyncio.create_task(session.post(f"{harness.url}/v1/chat/completions", json=CHAT))
        async with asyncio.timeout(10):
            handler = await limiter.asked
            assert holds(limiter)
            assert handler is not None
            handler.cancel()
            await asyncio.wait({asking})
            while holds(limiter):
                await asyncio.sleep(0.005)
