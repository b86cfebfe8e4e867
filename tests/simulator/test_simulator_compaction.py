"""A compaction that the last item of an input asks for, as Codex does: one item in place of a message, and its usage."""

import json

import aiohttp
import pytest

from tallygate.simulator.server import Simulator

INPUT = [{"type": "message", "role": "user", "content": "hi"}, {"type": "compaction_trigger"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_trigger_is_answered_by_a_compaction(sim: Simulator, stream: bool) -> None:
    body = {"model": "gpt-5.1", "input": INPUT, "stream": stream}
    async with aiohttp.ClientSession() as session, session.post(f"{sim.url}/v1/responses", json=body) as response:
        text = await response.text()

    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    final = events[-1]["response"] if stream else json.loads(text)
    (item,) = final["output"]
    assert item["type"] == "compaction"
    assert item["encrypted_content"]
    assert final["usage"]["output_tokens"] == sim.ledger.totals.generated_tokens > 0
    assert [event["item"]["type"] for event in events if "item" in event] == ["compaction"] * (2 * stream)
    assert not [event for event in events if event["type"].endswith(".delta")]
