"""CSV (RFC 4180): UTF-8 without a byte order mark, one header line, CRLF. Absent values are empty cells.

An apostrophe is put before a text that a spreadsheet would evaluate as a formula, and before one that begins with an apostrophe:
remove one leading apostrophe to restore the text. Numbers, even negative ones, are never changed.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.export.columns import COLUMNS, NAMES, ColumnType, Row

# OWASP, "CSV injection": the ASCII starters, the white space that is skipped before them, and their full-width forms.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - these are the point


def safe_text(text: str) -> str:
    """The text as a cell that no spreadsheet evaluates."""
    return f"'{text}" if text.startswith((*_FORMULA_STARTS, "'")) or text.lstrip().startswith(_FORMULA_STARTS) else text


def csv_lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Cells unchanged, quoted where RFC 4180 requires it."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return lines.getvalue().encode()


class CsvRows:
    """Implements `Encoder`, without buffering."""

    def start(self) -> bytes:
        return csv_lines([NAMES])

    def rows(self, page: Sequence[Row]) -> bytes:
        return csv_lines(["" if value is None else cell(value) for cell, value in zip(_CELLS, row, strict=True)] for row in page)

    def finish(self) -> bytes:
        return b""


def _boolean(value: Any) -> str:
    return "true" if value else "false"


_BY_TYPE: Final[Mapping[ColumnType, Callable[[Any], str]]] = {
    ColumnType.TEXT: safe_text,
    ColumnType.INTEGER: str,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.TIME: millisecond_text,
    ColumnType.USD: usd_text,
}
_CELLS: Final = tuple(_BY_TYPE[column.type] for column in COLUMNS)
