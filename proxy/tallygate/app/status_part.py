"""This machine's workers: whether they can serve, what they count, and their refusals for the ledger."""

from tallygate.app.clocks import monotonic_ms, now_ms
from tallygate.app.part import Part
from tallygate.app.resources import Resources
from tallygate.config.settings import Settings
from tallygate.console.readiness import workers_probe
from tallygate.console.workers import Workers
from tallygate.ledger.book import Book
from tallygate.ledger.refusal_intake import RefusalIntake, WorkerRefusals


def workers_part(settings: Settings) -> Part:
    """Ready if at least one worker is up."""
    workers = Workers(settings.data_dir / "metrics", workers=settings.workers, now_ms=monotonic_ms)
    return Part(workers=workers, probes=(workers_probe(workers),))


def refusals_part(resources: Resources) -> Part:
    """Stores what this machine's workers refused: their count files are on no other machine."""
    refusals = WorkerRefusals(resources.settings.data_dir / "metrics")
    intake = RefusalIntake(Book(resources.database), refusals.counts, now_ms=now_ms)
    return Part(beside=(intake.run,), closing=(intake.last,))
