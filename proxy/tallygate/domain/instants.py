"""Instants and durations as text."""

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def instant_text(at_ms: int, zone: str = "UTC") -> str:
    """RFC 3339 in that zone, with milliseconds only if they are not zero."""
    at = datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone)).replace(microsecond=at_ms % 1000 * 1000)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def optional_instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)


def millisecond_text(at_ms: int) -> str:
    """RFC 3339 in UTC, always with milliseconds, so that texts sort as times do: 2026-08-29T10:40:00.000Z."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def duration_text(milliseconds: int) -> str:
    """The shortest text of a duration: 60000 is "1m"."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds % UNIT_MS[unit] == 0 and milliseconds:
            return f"{milliseconds // UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms"
