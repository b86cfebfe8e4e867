"""An OpenTelemetry collector for tests: takes OTLP over HTTP, and decodes it with the protocol's own messages."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from valkey_process import free_port

SERVER, CLIENT = 2, 3
ERROR = 2


def read(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@dataclass(kw_only=True)
class SeenSpan:
    resource: dict[str, Any]
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    is_error: bool
    values: dict[str, Any]


@dataclass(kw_only=True)
class Point:
    """value: of a sum. start_ns, at_ns: Unix time."""

    values: dict[str, Any]
    count: int = 0
    total: float = 0.0
    value: int = 0
    buckets: list[int] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    start_ns: int = 0
    at_ns: int = 0
    is_cumulative: bool = False


@dataclass(kw_only=True)
class Collector:
    """What came, oldest first. answers: statuses of the next answers; then 200."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list)
    metrics: list[dict[str, list[Point]]] = field(default_factory=list)  # one for each message
    resources: list[dict[str, Any]] = field(default_factory=list)  # of messages with metrics
    headers: list[dict[str, str]] = field(default_factory=list)
    schemas: set[str] = field(default_factory=set)
    answers: list[int] = field(default_factory=list)
    rejects: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.content.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if self.answers and (status := self.answers.pop(0)) != 200:
            return web.Response(status=status)
        assert request.headers["Content-Type"] == "application/x-protobuf"
        if request.path == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            assert request.path == "/v1/metrics"
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.rejects
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def _take_spans(self, message: ExportTraceServiceRequest) -> None:
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.schemas.add(scope.schema_url)
                for span in scope.spans:
                    self.spans.append(
                        SeenSpan(
                            resource=read(resource.resource.attributes),
                            name=span.name,
                            kind=span.kind,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            started_ns=span.start_time_unix_nano,
                            ended_ns=span.end_time_unix_nano,
                            is_error=span.status.code == ERROR,
                            values=read(span.attributes),
                        )
                    )

    def _take_metrics(self, message: ExportMetricsServiceRequest) -> None:
        found: dict[str, list[Point]] = {}
        self.resources.append(read(message.resource_metrics[0].resource.attributes))
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                self.schemas.add(scope.schema_url)
                for metric in scope.metrics:
                    points = found.setdefault(metric.name, [])
                    points += [
                        Point(
                            values=read(each.attributes),
                            count=each.count,
                            total=each.sum,
                            buckets=list(each.bucket_counts),
                            bounds=list(each.explicit_bounds),
                            start_ns=each.start_time_unix_nano,
                            at_ns=each.time_unix_nano,
                            is_cumulative=metric.histogram.aggregation_temporality == 2,
                        )
                        for each in metric.histogram.data_points
                    ]
                    points += [
                        Point(
                            values=read(each.attributes),
                            value=each.as_int,
                            start_ns=each.start_time_unix_nano,
                            at_ns=each.time_unix_nano,
                            is_cumulative=metric.sum.aggregation_temporality == 2 and metric.sum.is_monotonic,
                        )
                        for each in metric.sum.data_points
                    ]
        self.metrics.append(found)


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application(client_max_size=2**26)

    async def take(request: web.Request) -> web.Response:
        return await collector.take(request)

    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    collector.url = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
