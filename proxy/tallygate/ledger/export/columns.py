"""What an exported row holds, in every format: the columns, their order, and their types.

A row is one ledger entry. Rows of one event add up to what it came to: sequence 0 is the original, later ones are corrections.
What the limiter posted to its windows is left out: it is about limits, not about usage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final


class ColumnType(Enum):
    TEXT = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    TIME = auto()  # held as Unix milliseconds
    USD = auto()  # held as nano-USD


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """source: the column of `entries` that it is made from."""

    name: str
    type: ColumnType
    source: str
    is_nullable: bool = False


Row = Sequence[Any]  # one value for each of COLUMNS, as the database holds it


def _of(type_: ColumnType, *names: str, is_nullable: bool = False) -> tuple[Column, ...]:
    suffix = "_ms" if type_ is ColumnType.TIME else ""
    return tuple(Column(name=name, type=type_, source=f"{name}{suffix}", is_nullable=is_nullable) for name in names)


COLUMNS: Final[tuple[Column, ...]] = (
    *_of(ColumnType.TEXT, "event_id"),
    *_of(ColumnType.INTEGER, "sequence"),
    *_of(ColumnType.TEXT, "kind"),
    *_of(ColumnType.TIME, "settled_at", "entered_at", "started_at"),
    *_of(ColumnType.TEXT, "org", "credential", "capability", "endpoint", "method"),
    *_of(ColumnType.TEXT, "request_model", "response_model", is_nullable=True),
    *_of(ColumnType.TEXT, "upstream"),
    *_of(ColumnType.INTEGER, "status"),
    *_of(ColumnType.TEXT, "outcome"),
    *_of(ColumnType.BOOLEAN, "stream"),
    *_of(ColumnType.INTEGER, "duration_ms"),
    *_of(ColumnType.INTEGER, "first_byte_ms", is_nullable=True),
    *_of(ColumnType.INTEGER, "requests", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens"),
    *_of(ColumnType.INTEGER, "cache_write_1h_tokens", "audio_prompt_tokens", "reasoning_tokens", "audio_completion_tokens"),
    *_of(ColumnType.INTEGER, "cost_nano_usd"),
    Column(name="cost_usd", type=ColumnType.USD, source="cost_nano_usd"),
    *_of(ColumnType.INTEGER, "fee_nano_usd"),
    *_of(ColumnType.TEXT, "usage_source"),
    *_of(ColumnType.TEXT, "price_version", is_nullable=True),
    *_of(ColumnType.INTEGER, "request_bytes", "response_bytes"),
    *_of(ColumnType.TEXT, "client_request_id", is_nullable=True),
    *_of(ColumnType.TEXT, "flags"),
)
NAMES: Final = tuple(column.name for column in COLUMNS)


def time_text(at_ms: int) -> str:
    """RFC 3339 in UTC, always with milliseconds, so that texts sort as times do: 2026-08-29T10:40:00.000Z."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
