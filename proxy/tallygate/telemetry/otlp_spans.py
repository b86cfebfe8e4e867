"""Spans of ended exchanges, as OpenTelemetry's trace protocol has them."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tallygate.telemetry.otlp_messages import SCHEMA_URL, SCOPE, Value, add_attributes


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
    message = ExportTraceServiceRequest()
    whole = message.resource_spans.add(resource=resource, schema_url=SCHEMA_URL)
    scope = whole.scope_spans.add(scope=SCOPE, schema_url=SCHEMA_URL)
    for record in records:
        _write(scope.spans.add(), record)
    return bytes(message.SerializeToString())


def _write(span: Span, record: SpanRecord) -> None:
    span.trace_id = record.trace_id.to_bytes(16, "big")
    span.span_id = record.span_id.to_bytes(8, "big")
    if record.parent_id:
        span.parent_span_id = record.parent_id.to_bytes(8, "big")
    span.name = record.name
    span.kind = record.kind.value
    span.start_time_unix_nano = record.started_ns
    span.end_time_unix_nano = record.ended_ns
    if record.is_error:
        span.status.code = Status.STATUS_CODE_ERROR
    add_attributes(span.attributes.add, [item for item in record.values.items() if item[1] != ""])
