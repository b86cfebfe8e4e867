"""A caller who wants to spend more than the limit through input that is not in the request, or less than a whole maximum."""

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import ACME_KEY, running_gateway
from hostile_upstream import saying, scripted, whole
from raw_client import ask, chat

KEY = f"Authorization: Bearer {ACME_KEY}\r\n".encode()
USD = 10**9


def response(**usage: int) -> bytes:
    return json.dumps({"object": "response", "status": "completed", "model": "gpt-5", "output": [], "usage": usage}).encode()


async def test_earlier_answers_do_not_carry_spend_past_a_limit(tmp_path: Path) -> None:
    """Forty requests that continue an answer of a model's whole window: $60 of a limit of $1 before it was held."""
    answer = whole(response(input_tokens=272_000, output_tokens=64, total_tokens=272_064))
    async with (
        scripted(saying(answer)) as upstream,
        running_gateway(tmp_path, acme_usd="1", upstream_url=upstream.url) as harness,
    ):
        body = {"model": "gpt-5", "input": "Go on", "previous_response_id": "resp_1", "max_output_tokens": 64}
        statuses = [(await ask(harness.port, chat(body, headers=KEY, path="/v1/responses"))).status for _ in range(40)]
        window = await harness.window()
        assert set(statuses) == {200, 429}
        assert 0 < window.spent_nano_usd <= USD
        assert not any("overrun" in event.get("flags", ()) for event in harness.events())


@pytest.mark.parametrize(
    ("path", "body", "member"),
    [
        ("/v1/chat/completions", {"model": "gpt-5"}, ("max_completion_tokens",)),
        ("/v1/chat/completions", {"model": "gpt-5", "max_tokens": 0}, ("max_tokens",)),
        ("/v1/chat/completions", {"model": "gpt-5", "max_tokens": 90_000}, ("max_tokens",)),
        ("/v1/responses", {"model": "gpt-5", "input": "Hi"}, ("max_output_tokens",)),
        ("/v1/messages", {"model": "claude-opus-4-6", "max_tokens": 100_000}, ("max_tokens",)),
        ("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": []}, ("generationConfig", "maxOutputTokens")),
        ("/ai/v2/chat/completions", {"model": "gpt-5"}, ("max_tokens",)),
    ],
)
async def test_a_cheap_request_without_a_maximum_is_clamped_not_refused(
    tmp_path: Path, path: str, body: dict[str, Any], member: tuple[str, ...]
) -> None:
    usd = "0.10"  # a whole maximum is ten times as much
    if "input" not in body and "contents" not in body:
        body = {"messages": [{"role": "user", "content": "Hi"}]} | body
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, acme_usd=usd, upstream_url=upstream.url) as harness,
    ):
        answer = await ask(harness.port, chat(body, headers=KEY, path=path))
        assert answer.status == 200
        sent: Any = json.loads(upstream.bodies[-1])
        for name in member:
            sent = sent[name]
        assert 750 <= sent < 90_000
        assert answer.header("tallygate-max-output-tokens") == str(sent)
        assert harness.events()[0]["flags"] == ["output_clamped"] or "output_clamped" in harness.events()[0]["flags"]


async def test_a_clamp_leaves_a_thinking_budget_its_room(tmp_path: Path) -> None:
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, acme_usd="0.10", upstream_url=upstream.url) as harness,
    ):
        for budget, status in ((2_000, 200), (30_000, 429)):
            thinking = {"type": "enabled", "budget_tokens": budget}
            body = {"model": "claude-opus-4-6", "max_tokens": 64_000, "messages": [], "thinking": thinking}
            assert (await ask(harness.port, chat(body, headers=KEY, path="/v1/messages"))).status == status
        assert json.loads(upstream.bodies[-1])["max_tokens"] > 2_000
        assert len(upstream.bodies) == 1


async def test_without_a_spend_limit_nothing_is_clamped(tmp_path: Path) -> None:
    async with (
        scripted(saying(whole())) as upstream,
        running_gateway(tmp_path, upstream_url=upstream.url) as harness,
    ):
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
        answer = await ask(harness.port, chat(body, headers=KEY))
        assert answer.status == 200
        assert answer.header("tallygate-max-output-tokens") is None
        assert b"max" not in upstream.bodies[-1]
