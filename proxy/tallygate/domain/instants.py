"""Instants as people and programs read them."""

from datetime import UTC, datetime


def instant_text(at_ms: int) -> str:
    """RFC 3339 in UTC; milliseconds where there are some."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def optional_instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)
