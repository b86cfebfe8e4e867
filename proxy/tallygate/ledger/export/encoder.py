"""The file formats and their interface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from tallygate.ledger.export.columns import Row


class Encoder(Protocol):
    """Encodes one file: start, then any number of pages, then end. The returned bytes together are the file."""

    def start(self) -> bytes: ...

    def rows(self, page: Sequence[Row]) -> bytes:
        """Encode a page. May return nothing and buffer the page, within a bound of its own."""

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
    """A format whose library is not installed. The message states how to install it."""
