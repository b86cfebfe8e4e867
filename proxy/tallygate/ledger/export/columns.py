"""The columns of an exported row in every format, with their order and types.

A row is one ledger entry, its columns the entry's fields. Rows of one event add up to its final amounts: sequence 0 is the
original, later ones are corrections.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from tallygate.ledger.entry import ENTRY_FIELDS, EntryField


class ColumnType(Enum):
    TEXT = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    TIME = auto()  # stored as Unix milliseconds
    USD = auto()  # stored as nano-USD


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of an export. source: the column of `entries` from which it is derived."""

    name: str
    type: ColumnType
    source: str
    is_nullable: bool = False


Row = Sequence[Any]  # one value for each of COLUMNS, as stored in the database


_FIRST: Final = ("event_id", "sequence", "kind", "settled_at_ms", "entered_at_ms", "started_at_ms")
_LEFT_OUT: Final = ("posted_at_ms", "posted_nano_usd")  # postings to the limiter's windows concern limits, not usage
_TYPES: Final = {str: ColumnType.TEXT, int: ColumnType.INTEGER, bool: ColumnType.BOOLEAN}


def _columns_of(field: EntryField) -> Iterator[Column]:
    name, is_nullable = field.name, field.is_nullable
    if name.endswith("_at_ms"):
        yield Column(name=name.removesuffix("_ms"), type=ColumnType.TIME, source=name)
        return
    yield Column(name=name, type=_TYPES[field.type], source=name, is_nullable=is_nullable)
    if name.endswith("_nano_usd"):
        yield Column(name=f"{name.removesuffix('_nano_usd')}_usd", type=ColumnType.USD, source=name)


_BY_NAME: Final = {field.name: field for field in ENTRY_FIELDS if field.name not in _LEFT_OUT}
COLUMNS: Final[tuple[Column, ...]] = tuple(
    column for name in dict.fromkeys((*_FIRST, *_BY_NAME)) for column in _columns_of(_BY_NAME[name])
)
NAMES: Final = tuple(column.name for column in COLUMNS)
