"""A stream's cost in comments behind its last event, for those who ask for it; for all others the upstream's bytes."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway

ASKED = {"tallygate-stream-cost": "comment"}
MESSAGES = [{"role": "user", "content": "[[sim tokens=5]] Hello"}]
CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": MESSAGES}
STREAMS = {
    "chat": ("/v1/chat/completions", CHAT | {"stream": True, "stream_options": {"include_usage": True}}),
    "chat without usage": ("/v1/chat/completions", CHAT | {"stream": True}),
    "responses": ("/v1/responses", {"model": "gpt-4o-mini", "max_output_tokens": 50, "input": "Hello", "stream": True}),
    "anthropic": ("/v1/messages", {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": MESSAGES, "stream": True}),
}
CONTENT = {"contents": [{"parts": [{"text": "Hello"}]}]}
GEMINI = {
    "events": ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", CONTENT),
    "array": ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", CONTENT),
}


async def stream(harness: Harness, path: str, body: Any, **headers: str) -> bytes:
    async with ClientSession() as session:
        given = {"Authorization": f"Bearer {ACME_KEY}", **headers}
        async with session.post(harness.url + path, headers=given, json=body) as answer:
            assert answer.status == 200
            return await answer.read()


@pytest.mark.parametrize(("path", "body"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_ends_with_what_was_settled_if_that_is_asked_for(tmp_path: Path, path: str, body: Any) -> None:
    async with running_gateway(tmp_path) as harness:
        found = await stream(harness, path, body, **ASKED)
        comments = re.fullmatch(rb"(.*\n\r?\n): tallygate-cost-usd=([0-9.]+)\n: tallygate-usage-source=(\w+)\n\n", found, re.DOTALL)
        assert comments is not None, found[-200:]
        (event,) = harness.events()
        assert round(float(comments[2]) * 10**9) == event["cost_nano_usd"] > 0
        assert comments[3].decode() == event["usage_source"]
        assert b"tallygate" not in comments[1]


@pytest.mark.parametrize(("path", "body"), [*STREAMS.values(), *GEMINI.values()], ids=[*STREAMS, *GEMINI])
async def test_who_does_not_ask_gets_the_upstreams_bytes(tmp_path: Path, path: str, body: Any) -> None:
    async with running_gateway(tmp_path) as harness:
        assert b"tallygate" not in await stream(harness, path, body)
        assert b"tallygate" not in await stream(harness, path, body, **{"tallygate-stream-cost": "else"})


@pytest.mark.parametrize(("path", "body"), [*GEMINI.values(), ("/v1/chat/completions", CHAT)], ids=[*GEMINI, "whole"])
async def test_what_is_no_stream_or_has_clients_that_trip_over_comments_gets_none(tmp_path: Path, path: str, body: Any) -> None:
    async with running_gateway(tmp_path) as harness:
        assert b"tallygate" not in await stream(harness, path, body, **ASKED)
