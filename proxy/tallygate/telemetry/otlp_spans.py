"""Spans of ended exchanges, as OpenTelemetry's trace protocol has them."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tallygate.telemetry.otlp_messages import SCHEMA_URL, SCOPE, Value, attributes_of

_ERROR = Status(code=Status.STATUS_CODE_ERROR)


class SpanKind(IntEnum):
    SERVER = Span.SPAN_KIND_SERVER
    CLIENT = Span.SPAN_KIND_CLIENT


class SpanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A span. Times in Unix nanoseconds; parent_id: 0 for none; values: its attributes, of which empty texts are left out."""

    trace_id: int
    span_id: int
    parent_id: int
    name: str
    kind: SpanKind
    started_ns: int
    ended_ns: int
    values: Mapping[str, Value]
    is_error: bool = False


def encoded_spans(records: Sequence[SpanRecord], resource: Resource) -> bytes:
    """A message of these spans. Several of them in a row are one message, too: fields that repeat are joined."""
    scope = ScopeSpans(scope=SCOPE, spans=[_span(record) for record in records], schema_url=SCHEMA_URL)
    message = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope], schema_url=SCHEMA_URL)]
    )
    return bytes(message.SerializeToString())


def _span(record: SpanRecord) -> Span:
    return Span(
        trace_id=record.trace_id.to_bytes(16, "big"),
        span_id=record.span_id.to_bytes(8, "big"),
        parent_span_id=record.parent_id.to_bytes(8, "big") if record.parent_id else b"",
        name=record.name,
        kind=record.kind.value,
        start_time_unix_nano=record.started_ns,
        end_time_unix_nano=record.ended_ns,
        attributes=attributes_of((name, value) for name, value in record.values.items() if value != ""),
        status=_ERROR if record.is_error else None,
    )
