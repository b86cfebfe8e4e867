"""What a file format does, and which there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from tallygate.ledger.export.columns import Row


class Encoder(Protocol):
    """One file in the making: start, then any number of pages, then end. The bytes of all answers are the file."""

    def start(self) -> bytes: ...

    def rows(self, page: Sequence[Row]) -> bytes:
        """May answer nothing and keep the page for later, within a bound of its own."""

    def finish(self) -> bytes: ...


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileType:
    content_type: str
    suffix: str


FILE_TYPES: Final[Mapping[Format, FileType]] = {
    Format.CSV: FileType(content_type="text/csv; charset=utf-8; header=present", suffix="csv"),
    Format.JSONL: FileType(content_type="application/jsonl; charset=utf-8", suffix="jsonl"),
    Format.PARQUET: FileType(content_type="application/vnd.apache.parquet", suffix="parquet"),
}


class FormatUnavailableError(Exception):
    """A format whose library is not installed. The message says how to install it."""
