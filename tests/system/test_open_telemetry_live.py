"""`tallygate serve` with two workers and a collector: each exports for itself, at its interval and at its end."""

import asyncio
import time

from aiohttp import ClientSession
from otlp_collector import CLIENT, running_collector
from stack import KEY, PATIENCE_SECONDS, running_stack

CHAT = {"model": "gpt-4o", "max_tokens": 20, "messages": [{"role": "user", "content": "[[sim tokens=7]] hi"}]}


async def test_each_worker_exports_for_itself_and_nothing_is_left_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our-gateway")
    async with running_collector() as collector:
        options = {"workers": "2", "otlp_endpoint": collector.url, "otlp_metrics_seconds": "1"}
        asked = 0
        async with running_stack(tmp_path, **options) as stack:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len({span.resource["service.instance.id"] for span in collector.spans}) < 2:
                assert time.monotonic() < deadline, "only one worker exports"
                async with ClientSession() as session:  # a connection of its own, which either worker may accept
                    for _ in range(4):
                        headers = {"Authorization": f"Bearer {KEY}"}
                        async with session.post(f"{stack.url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
                            assert answer.status == 200
                            asked += 1
                await asyncio.sleep(0.1)
        calls = {span.span_id: span for span in collector.spans if span.kind == CLIENT}.values()
        last = {}
        for metrics, resource in zip(collector.metrics, collector.resources, strict=False):
            last[resource["service.instance.id"]] = metrics

    assert len(calls) == asked
    assert {span.resource["service.name"] for span in calls} == {"our-gateway"}
    assert {span.resource["tallygate.worker"] for span in calls} == {"worker-0", "worker-1"}
    assert {span.resource["service.instance.id"] for span in calls} == set(last)
    output = [
        point
        for metrics in last.values()
        for point in metrics["gen_ai.client.token.usage"]
        if point.values["gen_ai.token.type"] == "output"
    ]
    assert (sum(point.count for point in output), sum(point.total for point in output)) == (asked, 7 * asked)
