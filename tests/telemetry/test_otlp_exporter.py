"""The way to a collector: bounded, fair, retried, and counted where it fails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from otlp_collector import Collector as FakeCollector
from otlp_collector import running_collector
from recording_metrics import RecordingMetrics

from tallygate.telemetry.metrics import OTLP_EXPORTS_FAILED, OTLP_SPANS_DROPPED
from tallygate.telemetry.otlp_exporter import Collector, OtlpExporter
from tallygate.telemetry.otlp_messages import resource_of
from tallygate.telemetry.otlp_metrics import OperationKey, OtlpMetrics, RequestKey
from tallygate.telemetry.otlp_spans import SpanKind, SpanRecord

RESOURCE = resource_of({}, instance_id="one", worker="worker-0", host="here")


class World:
    def __init__(self, exporter: OtlpExporter, collector: FakeCollector, counts: RecordingMetrics, series: OtlpMetrics) -> None:
        self.exporter, self.collector, self.counts, self.series = exporter, collector, counts, series
        self.now = 0.0

    def dropped(self, reason: str) -> int:
        return self.counts.added[OTLP_SPANS_DROPPED, (reason,)]


@asynccontextmanager
async def world(*, endpoint: str | None = None, series_max: int = 2_000, **options: Any) -> AsyncIterator[World]:
    async with running_collector() as collector:
        counts, series = RecordingMetrics(), OtlpMetrics(started_ns=1, series_max=series_max)
        found: list[World] = []
        exporter = OtlpExporter(
            Collector(endpoint or collector.url, {}),
            ClientSession(),
            RESOURCE,
            series,
            counts,
            metrics_seconds=60,
            now_ns=lambda: 2,
            clock=lambda: found[0].now,
            **options,
        )
        found.append(World(exporter, collector, counts, series))
        yield found[0]
        await exporter.close()


def spans(number: int, **more: Any) -> list[SpanRecord]:
    fixed = {"trace_id": 5, "parent_id": 0, "name": "GET", "kind": SpanKind.SERVER, "started_ns": 1, "ended_ns": 2, "values": {}}
    return [SpanRecord(span_id=each, **(fixed | more)) for each in range(1, number + 1)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the exporter would have slept between tries."""
    waited, sleep = [], asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("tallygate.telemetry.otlp_exporter.asyncio.sleep", note)
    return waited


async def test_many_spans_arrive_once_each_and_compressed():
    async with world() as tried:
        tried.exporter.add("acme", spans(1_200, values={"text": "é\ud800" + "x" * 300, "empty": "", "flag": True, "part": 0.5}))
        await tried.exporter.export_spans()
        await tried.exporter.export_spans()
    assert [int(span.span_id, 16) for span in tried.collector.spans] == list(range(1, 1_201))
    assert tried.collector.spans[0].values == {"text": "é?" + "x" * 254, "flag": True, "part": 0.5}
    assert {headers.get("content-encoding") for headers in tried.collector.headers} == {"gzip"}
    assert len(tried.collector.headers) == 3


async def test_an_organization_that_fills_the_queue_leaves_room_for_others_and_what_has_none_is_counted():
    async with world(spans_max=100) as tried:
        for _ in range(100):
            tried.exporter.add("loud", spans(2))
        tried.exporter.add("quiet", spans(2))
        await tried.exporter.export_spans()
        assert (len(tried.collector.spans), tried.dropped("queue_full")) == (74 + 2, 200 - 74), "three times what it leaves free"
        tried.exporter.add("loud", spans(2))
        await tried.exporter.export_spans()
        assert (len(tried.collector.spans), tried.dropped("queue_full")) == (78, 126), "what was sent has left room"


async def test_a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not(no_waiting, caplog):
    async with world() as tried:
        tried.collector.answers = [503, 429]
        tried.exporter.add("acme", spans(1))
        await tried.exporter.export_spans()
        assert len(tried.collector.spans) == 1
        assert no_waiting == [1.0, 2.0]
        tried.collector.answers = [401]
        tried.exporter.add("acme", spans(3))
        await tried.exporter.export_spans()
        assert tried.dropped("not_sent") == 3
        tried.collector.answers = [500]
        await tried.exporter.export_metrics()
    assert tried.counts.counted[OTLP_EXPORTS_FAILED] == ["traces"] * 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.fields for record in warnings] == [{"signal": "traces", "reason": "it answered 503"}], "once a minute"


async def test_one_that_is_not_there_is_tried_a_few_times_and_told_once_a_minute(unused_tcp_port, caplog):
    async with world(endpoint=f"http://127.0.0.1:{unused_tcp_port}") as tried:
        for now in (0.0, 59.0, 60.0):
            tried.now = now
            tried.exporter.add("acme", spans(2))
            await tried.exporter.export_spans()
        assert tried.dropped("not_sent") == 6
        assert len(tried.counts.counted[OTLP_EXPORTS_FAILED]) == 15
    assert [record.message for record in caplog.records] == ["OpenTelemetry's collector does not take what is sent"] * 2


async def test_spans_that_the_collector_rejects_are_counted():
    async with world() as tried:
        tried.collector.rejects = 4
        tried.exporter.add("acme", spans(5))
        await tried.exporter.export_spans()
    assert tried.dropped("rejected") == 4


async def test_a_batch_that_is_full_goes_at_once_and_what_is_left_at_the_end(monkeypatch):
    monkeypatch.setattr("tallygate.telemetry.otlp_exporter.SPANS_EVERY_S", 60.0)
    async with world() as tried:
        exporting = asyncio.ensure_future(tried.exporter.export_forever())
        await asyncio.sleep(0)
        tried.exporter.add("acme", spans(512))
        async with asyncio.timeout(10):
            while len(tried.collector.spans) < 512:
                await asyncio.sleep(0)
        tried.exporter.add("acme", spans(3))
        exporting.cancel()
    assert len(tried.collector.spans) == 515


async def test_a_worker_that_ends_while_it_exports_sends_the_rest_at_its_end():
    async with world() as tried:
        begun, ends, sent = asyncio.Event(), asyncio.Event(), tried.collector.take

        async def hang(_request: web.Request) -> web.Response:
            begun.set()
            await ends.wait()
            return web.Response()

        tried.collector.take = hang
        tried.exporter.add("acme", spans(600))
        exporting = asyncio.ensure_future(tried.exporter.export_spans())
        await begun.wait()
        exporting.cancel()
        await asyncio.gather(exporting, return_exceptions=True)
        ends.set()
        tried.collector.take = sent
    assert len(tried.collector.spans) == 600


async def test_what_cannot_be_encoded_is_counted_and_the_next_goes_on():
    async with world() as tried:
        tried.exporter.add("acme", spans(2, values={"number": 2**70}))
        with pytest.raises(ValueError, match="range"):
            await tried.exporter.export_spans()
        assert tried.dropped("not_sent") == 2
        tried.exporter.add("acme", spans(1))
        await tried.exporter.export_spans()
    assert len(tried.collector.spans) == 1


def key(org: str, model: str) -> OperationKey:
    return OperationKey("chat", "openai", model, "", "h", 443, org, "chat", "")


async def test_made_up_models_use_up_a_share_and_no_more():
    async with world(series_max=40) as tried:
        for number in range(200):
            tried.series.operations(key("loud", f"model-{number}")).cost_nano_usd += 1
        tried.series.operations(key("quiet", "gpt-4o")).cost_nano_usd += 1
        for number in range(100):
            tried.series.operations(key(f"org-{number}", "gpt-4o")).cost_nano_usd += 1
            tried.series.requests(RequestKey("GET", "http", f"/{number}", 200, "loud", "")).duration.note(1)
        await tried.exporter.export_metrics()
    metrics = tried.collector.metrics[0]
    costs = metrics["tallygate.cost.nano_usd"]
    assert sum(point.value for point in costs) == 301
    assert len(costs) <= 41
    by_model = {
        point.values.get("gen_ai.request.model"): point
        for point in costs
        if point.values.get("tallygate.organization.id") == "loud"
    }
    assert by_model["_OTHER"].value > 160
    assert any(point.values.get("tallygate.organization.id") == "quiet" for point in costs)
    assert any(point.values == {"otel.metric.overflow": True} for point in costs)
    requests = metrics["http.server.request.duration"]
    assert (len(requests), sum(point.count for point in requests)) == (41, 100)


def test_the_process_is_named_by_opentelemetrys_own_variables():
    environ = {
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod, team=a%20b,,broken,service.name=x",
        "OTEL_SERVICE_NAME": "gate",
    }
    found = resource_of(environ, instance_id="one", worker="worker-0", host="here")
    values = {each.key: each.value.string_value for each in found.attributes}
    assert (
        values.items()
        >= {"service.name": "gate", "team": "a b", "deployment.environment.name": "prod", "host.name": "here"}.items()
    )
    assert values.items() >= {"service.instance.id": "one", "tallygate.worker": "worker-0"}.items()
    assert "broken" not in values
