"""An admission of one request of acme, for tests of what becomes of it: it holds something and has no limit."""

from tallygate.domain.admission import AdmissionRequest


def small_admission(name: str, *, event: bytes = b"{}") -> AdmissionRequest:
    """name: its reservation's id."""
    return AdmissionRequest(
        reservation_id=name,
        org="acme",
        rate=(),
        spend=(),
        hold_nano_usd=100,
        hold_min_nano_usd=100,
        floor_nano_usd=10,
        lease_ms=30_000,
        event=event,
    )
