"""Work that goes on after its answer, with real processes: killed gateways and an emptied store lose and double nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from stack import KEY, Stack, eventually, rows_of, running_stack

pytestmark = pytest.mark.timeout(300)
RESPONSES = 12
DELAY_MS = 5_000
LINES = 700


async def begin(client: openai.AsyncOpenAI, number: int) -> str:
    text = f"[[sim tokens={50 + number};delay={DELAY_MS}]] Think."
    begun = await client.responses.create(model="gpt-4o-mini", input=text, background=True, max_output_tokens=500)
    assert begun.status == "queued"
    return begun.id


async def order(client: openai.AsyncOpenAI) -> str:
    """A batch whose results are there at once: whoever reads them is killed in the middle."""
    lines = []
    for number in range(LINES):
        body = {
            "model": "gpt-4o-mini",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": f"[[sim tokens={number % 40 + 1}]]"}],
        }
        lines.append({"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    content = "\n".join(map(json.dumps, lines)).encode()
    uploaded = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    batch = await client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    return batch.id


async def film(client: openai.AsyncOpenAI) -> None:
    """A video of 80 cents at Google, and one of 24 at xAI, that nobody asks for."""
    body = {"instances": [{"prompt": f"[[sim delay={DELAY_MS}]] A cat"}], "parameters": {"durationSeconds": 4, "sampleCount": 2}}
    path = "/v1beta/models/veo-3.1-fast-generate-preview:predictLongRunning"
    await client.post(f"{client.base_url.join(path)}", body=body, cast_to=object)
    body = {"model": "grok-imagine-video-1.5", "prompt": f"[[sim delay={DELAY_MS}]] A cat", "duration": 3, "resolution": "480p"}
    await client.post("/videos/generations", body=body, cast_to=object)


def jobs(stack: Stack) -> list[dict[str, Any]]:
    return rows_of(stack.data_dir / "ledger.db", "SELECT id FROM jobs")


def results(stack: Stack) -> set[str]:
    return {
        row["event_id"] for row in rows_of(stack.data_dir / "ledger.db", "SELECT event_id FROM entries WHERE event_id LIKE '%-%'")
    }


async def test_background_responses_and_a_batch_are_settled_whatever_is_killed_or_lost(tmp_path: Path) -> None:
    async with running_stack(tmp_path, upstream_api_key="sk-operator", workers="2") as stack:
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=0)
        begun = await asyncio.gather(*(begin(client, number) for number in range(RESPONSES)))
        await film(client)
        await eventually(lambda: len(jobs(stack)) == RESPONSES + 2, "every job is in the ledger")
        held = stack.window()["held"]
        assert held >= RESPONSES * 500 * 600
        assert json.loads(stack.get("/api/spend?org=acme")[1]) != {}

        await order(client)
        await eventually(lambda: bool(results(stack)), "results of the batch are being entered")
        for worker in stack.workers():
            worker.kill()
        stack.store.flushall()
        await eventually(lambda: stack.window()["held"] >= held, "what was held is held again")
        await eventually(lambda: not jobs(stack), "every job is settled", 120)

        wanted = sorted(50 + number for number in range(RESPONSES))
        deferred = [event for event in stack.events() if "deferred" in event["flags"]]
        (batch,) = [event for event in deferred if event["endpoint"] == "/v1/batches"]
        assert (batch["_kind"], batch["_cost_nano_usd"]) == ("released", "0")
        filmed = [event for event in deferred if event["capability"] == "videos"]
        assert sorted(int(event["_cost_nano_usd"]) for event in filmed) == [240_000_000, 800_000_000]
        entries = [event for event in deferred if event is not batch and event not in filmed]
        assert sorted(event["completion_tokens"] for event in entries) == wanted
        assert {event["_kind"] for event in entries} == {"settled"}
        entered = results(stack)
        lines = [event for event in stack.events() if event["event_id"] in entered]
        assert sorted(event["client_request_id"] for event in lines) == sorted(f"line-{number}" for number in range(LINES))
        assert sorted(event["completion_tokens"] for event in lines) == sorted(number % 40 + 1 for number in range(LINES))
        entries += lines
        totals = stack.ledger.totals
        assert sum(event["prompt_tokens"] for event in entries) == totals.prompt_tokens
        assert sum(event["completion_tokens"] for event in entries) == totals.generated_tokens
        spent = sum(int(event["_cost_nano_usd"]) for event in entries + filmed)
        await eventually(lambda: stack.window() == {"spent": spent, "held": 0}, "the limiter has the same")

        response = await client.responses.retrieve(begun[0])  # its maker still has it
        assert response.status == "completed"
        await client.close()
        async with aiohttp.ClientSession() as session, session.get(f"{stack.console}/metrics") as answer:
            metrics = await answer.text()
        assert 'tallygate_jobs_open{kind="response"} 0' in metrics
        assert "tallygate_ledger_drift_nano_usd 0" in metrics or "tallygate_ledger_drift" not in metrics
