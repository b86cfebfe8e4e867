"""What Anthropic bills beside plain tokens, from the hold to the usage event."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout
from gateway_harness import ACME_KEY, Harness, running_gateway

from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.organization import Plan
from tallygate.domain.price import Price
from tallygate.domain.usage import Conditions, Usage, usage_of_totals
from tallygate.gateway.exchange.estimate import estimate

OPUS, SONNET = "claude-opus-5-5", "claude-sonnet-5"
ROWS = [
    {
        "model": OPUS,
        "effective": "2026-01-01",
        "input": "4",
        "output": "20",
        "cached_input": "0.2",
        "cache_write_5m": "5",
        "cache_write_1h": "8",
        "web_search": "10",
        "max_output_tokens": 64_000,
        "max_input_tokens": 200_000,
        "when": [{"speed": "fast", "input": "8", "output": "40"}, {"geography": "us", "times": "1.1"}],
    },
    {"model": SONNET, "effective": "2026-01-01", "input": "2", "output": "10", "max_input_tokens": 200_000},
]
PLAN = Plan(id="p", api_access=True)
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def price_of_row(row: dict[str, Any]) -> Price:
    document = read_document("prices.yaml", json.dumps({"prices": [row]}).encode(), Problems())
    assert document is not None
    price = read_prices(document).find(row["model"], 10**13)
    assert price is not None
    return price


@asynccontextmanager
async def answering(tmp_path: Path, answer: dict[str, Any], **more: Any) -> AsyncIterator[tuple[Harness, ClientSession]]:
    """A gateway whose upstream always answers so."""
    body = json.dumps({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}], **answer}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(asked.partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.write(head + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        running_gateway(tmp_path, config={"prices": {"prices": ROWS}}, upstream_url=url, **more) as harness,
        ClientSession(timeout=ClientTimeout(total=20)) as session,
    ):
        yield harness, session


async def ask(harness: Harness, session: ClientSession, **members: Any) -> tuple[int, Any]:
    headers = {"x-api-key": ACME_KEY, "anthropic-version": "2023-06-01"}
    body = {"model": OPUS, "max_tokens": 1_000, **HELLO, **members}
    async with session.post(harness.url + "/v1/messages", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def only_event(harness: Harness) -> dict[str, Any]:
    await harness.at_rest()
    (event,) = harness.events()
    return event


@pytest.mark.parametrize(
    ("usage", "members", "nano_usd", "billed"),
    [
        ({"speed": "fast"}, {"speed": "fast"}, 120_000_000, {"conditions": {"speed": "fast"}}),
        ({"inference_geo": "us"}, {}, 66_000_000, {"conditions": {"geography": "us"}}),
        (
            {"server_tool_use": {"web_search_requests": 2}},
            {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]},
            80_000_000,
            {"quantities": {"web_search": 2}},
        ),
        (
            {
                "iterations": [
                    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
                    {"type": "message", "input_tokens": 10_000, "output_tokens": 1_000},
                ]
            },
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            60_000_000 + 180_000 * 4_000 + 3_500 * 20_000,
            {
                "passes": [
                    {"quantities": {"input": 10_000, "output": 1_000}},
                    {"quantities": {"input": 180_000, "output": 3_500}},
                ]
            },
        ),
    ],
)
async def test_an_event_has_what_was_billed(
    tmp_path: Path, usage: dict[str, Any], members: dict[str, Any], nano_usd: int, billed: dict[str, Any]
) -> None:
    whole = {"model": OPUS, "usage": {"input_tokens": 10_000, "output_tokens": 1_000, "service_tier": "standard", **usage}}
    async with answering(tmp_path, whole) as (harness, session):
        assert (await ask(harness, session, **members))[0] == 200
        event = await only_event(harness)
    assert event["_cost"] == event["cost_nano_usd"] == nano_usd
    assert json.loads(event["billed"]) == billed
    assert event["usage_source"] == "upstream"
    assert not [flag for flag in event["flags"] if flag != "overrun"]


async def test_a_refusal_before_any_output_releases_its_hold(tmp_path: Path) -> None:
    refused = {"model": OPUS, "content": [], "stop_reason": "refusal", "usage": {"input_tokens": 5_000, "output_tokens": 1}}
    async with answering(tmp_path, refused) as (harness, session):
        assert (await ask(harness, session))[0] == 200
        event = await only_event(harness)
        window = await harness.window()
    assert (event["_cost"], event["prompt_tokens"], event["completion_tokens"]) == (0, 0, 0)
    assert event["flags"] == ["declined"]
    assert (window.spent_nano_usd, window.held_nano_usd) == (0, 0)


async def test_a_search_without_a_price_is_refused_before_it_runs(tmp_path: Path) -> None:
    async with answering(tmp_path, {"model": SONNET, "usage": {"input_tokens": 1, "output_tokens": 1}}) as (harness, session):
        status, answer = await ask(harness, session, model=SONNET, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert status == 400
    assert "web_search" in answer["error"]["message"]


def facts_of(**members: Any) -> RequestFacts:
    body = json.dumps({"model": OPUS, "max_tokens": 1_000, **HELLO, **members}).encode()
    return AnthropicMessages().read_request(body, path={}, query={})


MOST = usage_of_totals(prompt=10_000, completion=1_000)


@pytest.mark.parametrize(
    ("members", "usage", "conditions"),
    [
        ({}, MOST, Conditions()),
        ({}, MOST, Conditions(geography="us")),
        ({"speed": "fast"}, MOST, Conditions(speed="fast", geography="us")),
        ({"speed": "fast", "inference_geo": "us"}, MOST, Conditions(speed="fast", geography="us")),
        ({"inference_geo": "us", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
         usage_of_totals(prompt=10_000, completion=1_000, cache_write_1h=10_000), Conditions(geography="us")),
        ({"tools": [{"type": "web_search_20250305", "max_uses": 4}]}, MOST.with_calls({"web_search": 4}), Conditions()),
        ({"tools": [{"type": "web_search_20250305"}]}, MOST.with_calls({"web_search": 30}), Conditions(geography="us")),
    ],
)  # fmt: skip
def test_the_hold_covers_the_dearest_that_the_request_allows(members: dict[str, Any], usage: Usage, conditions: Conditions) -> None:
    price = price_of_row(ROWS[0])
    asked = estimate(facts_of(**members), PLAN, price, 10_000)
    assert price.cost_nano_usd(usage, conditions) <= asked.hold_nano_usd
    if "tools" not in members:  # whose results are further input
        assert asked.hold_nano_usd <= price.cost_nano_usd(usage, conditions) * 110 // 100


def test_a_request_that_rules_out_what_is_dearer_is_held_for_less() -> None:
    price = price_of_row(ROWS[0])
    everywhere = estimate(facts_of(), PLAN, price, 10_000).hold_nano_usd
    assert estimate(facts_of(inference_geo="global"), PLAN, price, 10_000).hold_nano_usd == 60_000_000 < everywhere == 66_000_000
