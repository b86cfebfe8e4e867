"""Instants and durations as text."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

_UNIT_WORDS: Final = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000))
INSTANT_MAX_MS: Final = 253_402_300_799_000  # the last second of the year 9999, beyond which no text goes
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


def wait_words(milliseconds: int) -> str:
    """Rounded up to whole seconds, and from a minute on in the two largest units: "1 minute 30 seconds", "30 days 21 hours"."""
    waited = -(-milliseconds // 1_000) * 1_000
    for (unit, size), (lower, part) in pairwise(_UNIT_WORDS):
        if waited >= size:
            whole, rest = divmod(-(-waited // part), size // part)
            return f"{_counted(whole, unit)} {_counted(rest, lower)}" if rest else _counted(whole, unit)
    return _counted(waited // 1_000, "second")


def span_words(milliseconds: int) -> str:
    """A length as it stands after "per" or "in any": "minute", "7 days"."""
    for unit, size in _UNIT_WORDS:
        if milliseconds % size == 0:
            return _counted(milliseconds // size, unit).removeprefix("1 ")
    return f"{milliseconds} ms"


def _counted(count: int, unit: str) -> str:
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"
