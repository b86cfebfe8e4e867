"""A gateway in this process whose traces and metrics go to a collector."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from gateway_harness import ACME_KEY, Harness, running_gateway
from otlp_collector import Collector, SeenSpan, running_collector
from recording_metrics import RecordingMetrics

from tallygate.app.open_telemetry import OpenTelemetry, open_telemetry
from tallygate.config.settings import Settings

CHAT = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "[[sim tokens=7]] a secret prompt"}]}


class TracedGateway:
    def __init__(self, harness: Harness, session: ClientSession, collector: Collector, telemetry: OpenTelemetry) -> None:
        self.harness, self.session, self.collector, self.telemetry = harness, session, collector, telemetry
        self.counts = RecordingMetrics()

    async def ask(self, path: str = "/v1/chat/completions", body: Any = CHAT, key: str = ACME_KEY, **headers: str) -> int:
        headers |= {"Authorization": f"Bearer {key}"}
        async with self.session.post(self.harness.url + path, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def spans(self) -> list[SeenSpan]:
        """What was exported by now and since the last time."""
        await self.harness.at_rest()
        before = len(self.collector.spans)
        await self.telemetry.exporter.export_spans()
        return self.collector.spans[before:]

    async def points(self, name: str) -> list[Any]:
        await self.harness.at_rest()
        await self.telemetry.exporter.export_metrics()
        return self.collector.metrics[-1].get(name, [])


@asynccontextmanager
async def traced_gateway(tmp_path: Path, *, ratio: float = 1.0, **options: Any) -> AsyncIterator[TracedGateway]:
    async with running_collector() as collector, ClientSession() as session:
        settings = Settings(otlp_endpoint=collector.url, otlp_headers="x-tenant=a%2Cb", otlp_trace_ratio=ratio)  # type: ignore[arg-type]
        counts, configured = RecordingMetrics(), []
        telemetry = open_telemetry(settings, counts, lambda: configured[0].services.view.config.upstreams, worker="worker-3")
        try:
            observing = {"observers": (telemetry.exchanges,), "on_job": telemetry.exchanges.job_settled}
            async with running_gateway(tmp_path, **observing, **options) as harness:
                configured.append(harness.gateway)
                found = TracedGateway(harness, session, collector, telemetry)
                found.counts = counts
                yield found
        finally:
            await telemetry.exporter.close()
