"""What the limiter is given at admission is a whole usage event, of an exchange that may never be heard of again."""

from pathlib import Path

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, running_gateway
from usage_events import read_event

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.ledger.entry import entry_of_stream
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.wire import DemandWords

CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=7]] Hello there"}]}


class Recording(ReferenceLimiter):
    """Remembers what it was asked."""

    async def admit(self, request: AdmissionRequest, words: DemandWords | None = None) -> Decision:
        self.asked = request
        return await super().admit(request, words)


async def _asked(tmp_path: Path, method: str, path: str, body: object = None, *, request_id: str = "client-1") -> AdmissionRequest:
    limiter = Recording(lambda: 1_767_225_600_000)
    async with running_gateway(tmp_path, limiter=limiter) as harness, ClientSession() as session:
        headers = {"Authorization": f"Bearer {ACME_KEY}", "x-request-id": request_id}
        async with session.request(method, harness.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200
    return limiter.asked


async def test_the_ledger_can_enter_an_exchange_of_which_only_the_admission_is_known(tmp_path: Path) -> None:
    asked = await _asked(tmp_path, "POST", "/v1/chat/completions", CHAT)

    words = {b"event_id": asked.reservation_id.encode(), b"kind": b"expired", b"settled_at_ms": b"1767225660000"}
    words |= {b"cost_nano_usd": b"%d" % asked.floor_nano_usd, b"posted_nano_usd": b"%d" % asked.floor_nano_usd}
    words |= {b"prompt_tokens": b"%d" % asked.floor_prompt_tokens, b"completion_tokens": b"%d" % asked.floor_completion_tokens}
    entry = entry_of_stream(asked.event, words)
    assert (entry.org, entry.credential, entry.capability, entry.upstream) == ("acme", "acme-prod", "chat", "default")
    assert (entry.endpoint, entry.method, entry.request_model) == ("/v1/chat/completions", "POST", "gpt-4o-mini")
    assert (entry.outcome, entry.usage_source, entry.flags) == ("expired", "checkpoint", "assumed,uncertain")
    assert (entry.status, entry.response_model, entry.first_byte_ms, entry.response_bytes) == (0, None, None, 0)
    assert entry.request_bytes > 100
    assert entry.client_request_id == "client-1"
    assert entry.price_version


async def test_its_input_and_what_can_be_generated_until_the_hold_expires_is_what_it_costs(tmp_path: Path) -> None:
    asked = await _asked(tmp_path, "POST", "/v1/chat/completions", CHAT)

    event = read_event(asked.event)
    assert event["cost_nano_usd"] == asked.floor_nano_usd > 0
    assert event["prompt_tokens"] == asked.floor_prompt_tokens > 0
    assert event["completion_tokens"] == asked.floor_completion_tokens == CHAT["max_tokens"]
    assert asked.floor_nano_usd == asked.hold_nano_usd


async def test_of_a_request_whose_model_the_provider_chooses_the_bound_is_charged_and_said(tmp_path: Path) -> None:
    routed = {"auto_routing": True, "max_tokens": 50, "messages": CHAT["messages"]}
    event = read_event((await _asked(tmp_path, "POST", "/ai/v2/chat/completions", routed)).event)

    assert event["price_version"].startswith("dearest.")
    assert event["flags"] == ["assumed", "uncertain", "charged_at_bound"]


async def test_an_exchange_without_a_meter_costs_nothing_for_certain(tmp_path: Path) -> None:
    event = read_event((await _asked(tmp_path, "GET", "/v1/models")).event)

    assert (event["usage_source"], event["cost_nano_usd"], event["flags"]) == ("none", 0, [])


async def test_what_has_not_happened_is_not_written(tmp_path: Path) -> None:
    asked = await _asked(tmp_path, "POST", "/v1/chat/completions", CHAT)

    assert b"null" not in asked.event
    assert b":0" not in asked.event


async def test_a_key_that_slips_into_the_request_id_is_kept_nowhere(tmp_path: Path) -> None:
    event = (await _asked(tmp_path, "GET", "/v1/models", request_id=f"for {ACME_KEY}")).event

    assert ACME_KEY.encode() not in event
    assert read_event(event)["client_request_id"] is None
