"""What every message to an OpenTelemetry collector has: attributes, and the process that sends it.

OTLP's Protocol Buffers come from the package opentelemetry-proto, which is an extra: `pip install 'tallygate[otel]'`. Nothing
imports this module unless a collector is configured.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Final
from urllib.parse import unquote

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

VERSION: Final = version("tallygate")
TEXT_CHARS_MAX: Final = 256  # of an attribute: a caller may make up a model's name
# The conventions whose names are used, of which a receiver may translate others (OpenTelemetry schemas).
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE: Final = InstrumentationScope(name="tallygate", version=VERSION)
Value = str | int | float | bool


def attributes_of(values: Iterable[tuple[str, Value]]) -> list[KeyValue]:
    found = KeyValueList()
    add_attributes(found.values.add, values)
    return list(found.values)


def add_attributes(add: Callable[[], KeyValue], values: Iterable[tuple[str, Value]]) -> None:
    """Write attributes into a message, each where `add` makes it: three times as fast as messages that are copied into it."""
    for name, value in values:
        attribute = add()
        attribute.key = name
        if isinstance(value, str):
            text = value[:TEXT_CHARS_MAX]
            attribute.value.string_value = text if text.isascii() else text.encode(errors="replace").decode()
        elif isinstance(value, bool):
            attribute.value.bool_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.double_value = value


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
