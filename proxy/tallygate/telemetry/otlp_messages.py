"""What every message to an OpenTelemetry collector has: attributes, and the process that sends it.

OTLP's Protocol Buffers come from the package opentelemetry-proto, which is an extra: `pip install 'tallygate[otel]'`. Nothing
imports this module unless a collector is configured.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final
from urllib.parse import unquote

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

VERSION: Final = version("tallygate")
TEXT_CHARS_MAX: Final = 256  # of an attribute: a caller may make up a model's name
# The conventions whose names are used, of which a receiver may translate others (OpenTelemetry schemas).
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE: Final = InstrumentationScope(name="tallygate", version=VERSION)
Value = str | int | float | bool


def attributes_of(values: Iterable[tuple[str, Value]]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any_value(value)) for name, value in values]


def _any_value(value: Value) -> AnyValue:
    if isinstance(value, str):
        text = value[:TEXT_CHARS_MAX]
        return AnyValue(string_value=text if text.isascii() else text.encode(errors="replace").decode())
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


def resource_of(environ: Mapping[str, str], *, instance_id: str, worker: str, host: str) -> Resource:
    """The process as collectors name it. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to it, as in every OpenTelemetry SDK.

    instance_id   unique to this process: each worker counts for itself, from 0
    """
    values: dict[str, Value] = {"service.name": "tallygate", "service.version": VERSION, "host.name": host}
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = item.partition("=")
        if equals and name.strip():
            values[unquote(name.strip())] = unquote(value.strip())
    if service := environ.get("OTEL_SERVICE_NAME", "").strip():
        values["service.name"] = service
    values |= {"service.instance.id": instance_id, "tallygate.worker": worker}
    return Resource(attributes=attributes_of(values.items()))
