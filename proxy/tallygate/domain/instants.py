"""Instants as people and programs read them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def instant_text(at_ms: int, zone: str = "UTC") -> str:
    """RFC 3339 in that zone; milliseconds where there are some."""
    at = datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone)).replace(microsecond=at_ms % 1000 * 1000)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def optional_instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)


def millisecond_text(at_ms: int) -> str:
    """RFC 3339 in UTC, always with milliseconds, so that texts sort as times do: 2026-08-29T10:40:00.000Z."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
