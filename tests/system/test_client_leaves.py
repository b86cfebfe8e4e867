"""`on_disconnect: drain`: the answer is read on without its client, within bounds, for the exact usage."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway

from tallygate.simulator.ledger import Served

AUTH = {"Authorization": f"Bearer {ACME_KEY}"}


def drained(**bounds: Any) -> dict[str, Any]:
    return {"upstreams": {"upstreams": {"default": {"on_disconnect": "drain"} | bounds}}}


def slow_stream(tokens: int = 40, tps: int = 40) -> dict[str, Any]:
    content = f"[[sim tokens={tokens} tps={tps} per_event=2]] Hello"
    return {"model": "gpt-4o-mini", "stream": True, "max_tokens": tokens, "messages": [{"role": "user", "content": content}]}


async def leave_midway(harness: Harness, body: dict[str, Any]) -> None:
    async with ClientSession() as session, session.post(f"{harness.url}/v1/chat/completions", json=body, headers=AUTH) as answer:
        assert answer.status == 200
        for _ in range(8):
            await answer.content.readline()


def true_cost(record: Served) -> int:
    return record.prompt_tokens * 150 + record.generated_tokens * 600


async def test_the_usage_after_a_client_left_is_exact(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=drained()) as harness:
        await leave_midway(harness, slow_stream())
        await harness.at_rest()

        (event,), (record,) = harness.events(), harness.ledger.records
        assert record.completed
        assert record.generated_tokens == 40
        assert (event["usage_source"], event["completion_tokens"], event["_cost"]) == ("upstream", 40, true_cost(record))
        assert (await harness.window()).held_nano_usd == 0


async def test_a_whole_answer_is_read_on_as_well(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=drained()) as harness:
        reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
        body = b'{"model":"gpt-4o-mini","max_tokens":20,"messages":[{"role":"user","content":"[[sim tokens=20 tps=40]] Hello"}]}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ACME_KEY}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while not harness.ledger.records:
            await asyncio.sleep(0.005)
        writer.transport.abort()
        await harness.at_rest()

        (event,), (record,) = harness.events(), harness.ledger.records
        assert record.completed
        assert (event["usage_source"], event["_cost"]) == ("upstream", true_cost(record))
        assert reader.at_eof()


async def test_reading_on_ends_with_its_time(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=drained(drain_timeout="200ms")) as harness:
        await leave_midway(harness, slow_stream(tokens=20_000, tps=40))
        await harness.at_rest()

        (event,), (record,) = harness.events(), harness.ledger.records
        assert not record.completed
        assert event["usage_source"] == "counted"
        assert 0 < event["completion_tokens"] <= record.generated_tokens < 20_000
        assert event["outcome"] == "client_gone"


async def test_past_the_most_that_are_read_on_the_next_is_cut_at_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=drained(drain_max=2)) as harness:
        left = [asyncio.ensure_future(leave_midway(harness, slow_stream(tokens=60))) for _ in range(5)]
        await asyncio.gather(*left)
        await harness.at_rest()

        assert sorted(record.completed for record in harness.ledger.records) == [False, False, False, True, True]
        sources = sorted(event["usage_source"] for event in harness.events())
        assert sources == ["counted"] * 3 + ["upstream"] * 2

        await leave_midway(harness, slow_stream(tokens=60))  # both places are free again
        await harness.at_rest()
        assert harness.ledger.records[-1].completed


async def test_the_end_of_the_gateway_cuts_what_is_read_on(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config=drained()) as harness:
        await leave_midway(harness, slow_stream(tokens=20_000, tps=40))
        await harness.gateway.drain(0)
        await harness.gateway.close()

        (event,) = harness.events()
        assert (event["usage_source"], event["_kind"]) == ("counted", "settled")
        assert (await harness.window()).held_nano_usd == 0
