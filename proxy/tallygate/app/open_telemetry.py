"""A worker's traces and metrics for an OpenTelemetry collector: made of parts only where one is configured.

Nothing else imports this module by name, or what it imports: without a collector a worker has neither the code nor the packages.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from uuid import UUID

from tallygate.app.configuration import process_way_out
from tallygate.config.model import Upstream
from tallygate.config.settings import Settings
from tallygate.gateway.exchange_spans import ExchangeSpans
from tallygate.outbound.session import open_session
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.otlp_exporter import Collector, OtlpExporter
from tallygate.telemetry.otlp_messages import resource_of
from tallygate.telemetry.otlp_metrics import OtlpMetrics
from tallygate.telemetry.trace_context import TraceSource


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTelemetry:
    """exporter: to be run beside the gateway, and closed after it; exchanges: the observer of its exchanges."""

    exporter: OtlpExporter
    exchanges: ExchangeSpans


def open_telemetry(
    settings: Settings, counts: Metrics, upstreams: Callable[[], Mapping[str, Upstream]], *, worker: str
) -> OpenTelemetry:
    """Build what a worker exports with. upstreams: as they are configured now; worker: the name of its slot."""
    random = Random(int.from_bytes(os.urandom(32)))
    series = OtlpMetrics(started_ns=time.time_ns())
    exporter = OtlpExporter(
        Collector(settings.otlp_endpoint, settings.otlp_header_fields),
        open_session(process_way_out(settings, os.environ)),
        resource_of(
            os.environ, instance_id=str(UUID(int=random.getrandbits(128), version=4)), worker=worker, host=socket.gethostname()
        ),
        series,
        counts,
        metrics_seconds=settings.otlp_metrics_seconds,
        now_ns=time.time_ns,
        clock=time.monotonic,
    )
    traces = TraceSource(settings.otlp_trace_ratio, random.getrandbits)
    return OpenTelemetry(exporter=exporter, exchanges=ExchangeSpans(traces, exporter, series, upstreams, clock=time.perf_counter))
