"""This machine's workers: whether they can serve, what they count, and their refusals for the ledger."""

from proxy.app.clocks import monotonic_ms
from proxy.app.part import Part
from proxy.config.settings import Settings
from proxy.console.readiness import workers_probe
from proxy.console.workers import Workers


def status_part(settings: Settings) -> Part:
    """Ready if at least one worker is up."""
    workers = Workers(settings.data_dir / "metrics", workers=settings.workers, now_ms=monotonic_ms)
    return Part(workers=workers, probes=(workers_probe(workers),))
