"""A finished request as the gateway counts it."""

from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import FIRST_BYTE_SECONDS, OVERHEAD_SECONDS, REQUEST_SECONDS


def observe(
    metrics: Metrics, capability: str, seconds: float, first_byte_seconds: float | None, overhead_seconds: float, request_id: str
) -> None:
    metrics.observe(REQUEST_SECONDS, seconds, request_id, capability)
    if first_byte_seconds is not None:
        metrics.observe(FIRST_BYTE_SECONDS, first_byte_seconds, request_id, capability)
    metrics.observe(OVERHEAD_SECONDS, overhead_seconds, request_id)
