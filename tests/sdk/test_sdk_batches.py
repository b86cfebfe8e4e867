"""Work that goes on after its answer, driven to its end by the providers' own SDKs: batches, background responses and videos."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateway_harness import ACME_KEY, Harness, running_gateway
from google import genai
from google.genai import types
from memory_jobs import poller_of
from sdk_sides import PRICES

from tallygate.gateway.jobs.poller import Poller

HALF = [{"service_tier": "batch", "times": "0.5"}]
KEPT = {"kind": "bearer", "secret_env": "UPSTREAM_KEY_OF_A_TEST"}
POLL_MS = 10_000


@asynccontextmanager
async def side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prices: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Harness, Poller]]:
    """A gateway whose upstream has the operator's key, where a batch costs half."""
    monkeypatch.setenv("UPSTREAM_KEY_OF_A_TEST", "sk-operators")
    prices = prices or {"prices": [{**row, "when": HALF} for row in PRICES["prices"]]}
    config = {"upstreams": {"upstreams": {"default": {"auth": KEPT}}}, "prices": prices}
    async with running_gateway(tmp_path, config=config, enters=True) as harness:
        yield harness, poller_of(harness)[0]


async def settled(harness: Harness, poller: Poller) -> list[tuple[str | None, int, int]]:
    """Model, output and cost of what has been entered, once everything is done."""
    harness.clock.offset_ms += POLL_MS
    assert await poller.poll_due() == 1
    window = await harness.window()
    charged = [event for event in harness.events() if event["cost_nano_usd"]]
    assert (window.held_nano_usd, window.spent_nano_usd) == (0, sum(event["cost_nano_usd"] for event in charged))
    return sorted((event["response_model"], event["completion_tokens"], event["cost_nano_usd"]) for event in charged)


def costs(harness: Harness, rates: Iterable[int]) -> list[int]:
    """What the simulator's own account comes to, at nano-USD per token of input and output."""
    prompt, output = rates
    records = [record for record in harness.ledger.records if record.tier == "batch"]
    return sorted(record.prompt_tokens * prompt // 1000 + record.generated_tokens * output // 1000 for record in records)


async def test_openai_drives_a_batch_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path, monkeypatch) as (harness, poller):
        client = openai.AsyncOpenAI(base_url=f"{harness.url}/v1", api_key=ACME_KEY, max_retries=0)
        body = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=8]] Hi"}]}
        lines = [{"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} for number in range(2)]
        content = "\n".join(map(json.dumps, lines)).encode()
        uploaded = await client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = await client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "nightly"}
        )
        batch = await client.batches.retrieve(batch.id)
        assert (batch.status, batch.output_file_id is not None) == ("completed", True)
        output = await client.files.content(str(batch.output_file_id))
        assert [json.loads(line)["response"]["status_code"] for line in output.text.splitlines()] == [200, 200]
        assert [each.id async for each in client.batches.list()] == [batch.id]
        found = await settled(harness, poller)
        assert [each[:2] for each in found] == [("gpt-4o-mini", 8)] * 2
        assert [cost for *_, cost in found] == costs(harness, (75_000, 300_000))
        odd = await client.files.create(file=("in.jsonl", b'{"custom_id": "a"}'), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="Request 1 of the batch"):
            await client.batches.create(input_file_id=odd.id, endpoint="/v1/chat/completions", completion_window="24h")
        await client.close()


async def test_openai_drives_a_background_response_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path, monkeypatch) as (harness, poller):
        client = openai.AsyncOpenAI(base_url=f"{harness.url}/v1", api_key=ACME_KEY, max_retries=0)
        begun = await client.responses.create(
            model="gpt-4o-mini", input="[[sim tokens=8]] Hi", background=True, max_output_tokens=50
        )
        assert begun.status == "queued"
        assert (await client.responses.retrieve(begun.id)).status == "completed"
        assert [each[:2] for each in await settled(harness, poller)] == [("gpt-4o-mini", 8)]
        await client.close()


async def test_openai_continues_a_stream_cancels_and_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left is streamed on from where it was left, and counts once."""
    async with side(tmp_path, monkeypatch) as (harness, poller):
        client = openai.AsyncOpenAI(base_url=f"{harness.url}/v1", api_key=ACME_KEY, max_retries=0)
        asked: Any = {"model": "gpt-4o-mini", "background": True, "max_output_tokens": 50}
        begun = await client.responses.create(input="[[sim tokens=8]] Hi", stream=True, **asked)
        last, id_ = 0, ""
        async for event in begun:
            last, id_ = event.sequence_number, id_ or event.response.id  # type: ignore[union-attr]
            if last == 5:
                break
        await begun.close()
        more = await client.responses.retrieve(id_, stream=True, starting_after=last)
        numbers = [event.sequence_number async for event in more]
        assert numbers == list(range(6, numbers[-1] + 1))
        await harness.at_rest()
        await poller.poll_due()  # unless the gateway has read the first stream to its end
        (served,) = harness.ledger.records
        spent = served.prompt_tokens * 150 + 8 * 600
        assert [event["cost_nano_usd"] for event in harness.events() if event["cost_nano_usd"]] == [spent]
        assert (await harness.window()).held_nano_usd == 0

        running = await client.responses.create(input="[[sim delay=600000]] Hi", **asked)
        assert (await client.responses.cancel(running.id)).status == "cancelled"
        await client.responses.delete(running.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(running.id)
        await client.close()


async def test_anthropic_drives_a_batch_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path, monkeypatch) as (harness, poller):
        client = anthropic.AsyncAnthropic(base_url=harness.url, api_key=ACME_KEY, max_retries=0)
        params: Any = {"model": "claude-haiku-4-5", "max_tokens": 50}
        params["messages"] = [{"role": "user", "content": "[[sim tokens=8]] Hi"}]
        requests: Any = [{"custom_id": f"r-{number}", "params": params} for number in range(2)]
        batch = await client.messages.batches.create(requests=requests)
        batch = await client.messages.batches.retrieve(batch.id)
        assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 2)
        results = [each async for each in await client.messages.batches.results(batch.id)]
        assert sorted(each.custom_id for each in results) == ["r-0", "r-1"]
        found = await settled(harness, poller)
        assert [each[:2] for each in found] == [("claude-haiku-4-5", 8)] * 2
        assert [cost for *_, cost in found] == costs(harness, (500_000, 2_500_000))
        beta = await client.beta.messages.batches.create(requests=requests)
        assert beta.id != batch.id
        await client.close()


async def test_google_drives_a_batch_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path, monkeypatch) as (harness, poller):
        client = genai.Client(api_key=ACME_KEY, http_options=types.HttpOptions(base_url=harness.url)).aio
        request = types.InlinedRequest(
            contents=types.Content(role="user", parts=[types.Part(text="[[sim tokens=8]] Hi")]),
            config=types.GenerateContentConfig(max_output_tokens=50),
        )
        batch = await client.batches.create(model="gemini-2.5-flash", src=[request, request])
        batch = await client.batches.get(name=str(batch.name))
        assert batch.state == types.JobState.JOB_STATE_SUCCEEDED
        assert batch.dest is not None
        assert len(batch.dest.inlined_responses or []) == 2
        found = await settled(harness, poller)
        assert [each[:2] for each in found] == [("gemini-2.5-flash", 8)] * 2
        assert [cost for *_, cost in found] == costs(harness, (150_000, 1_250_000))
        await client.aclose()


async def test_google_drives_videos_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two services that its SDK speaks to, Vertex AI alone has Veo by now."""
    prices = {
        "prices": [
            {"model": "veo-3.1-generate-001", "input": "0", "output": "0", "video_second": "0.60", "video_second:720p": "0.40"}
        ]
    }
    async with side(tmp_path, monkeypatch, prices=prices) as (harness, poller):
        client = genai.Client(vertexai=True, api_key=ACME_KEY, http_options=types.HttpOptions(base_url=harness.url)).aio
        operation = await client.models.generate_videos(
            model="veo-3.1-generate-001",
            source=types.GenerateVideosSource(prompt="[[sim]] A cat"),
            config=types.GenerateVideosConfig(duration_seconds=6, number_of_videos=2),
        )
        assert not operation.done
        assert (await harness.window()).held_nano_usd == 7_200_000_000
        operation = await client.operations.get(operation)
        assert operation.result is not None
        videos = [each.video.video_bytes for each in operation.result.generated_videos or () if each.video]
        assert [b"ftyp" in (video or b"") for video in videos] == [True, True]
        await client.operations.get(operation)
        assert await settled(harness, poller) == [(None, 0, 4_800_000_000)]
        await client.aclose()
