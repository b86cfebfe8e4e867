"""An export as a stream of bytes: at most a page of rows and its encoder's buffer are in memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple, assert_never

from tallygate.ledger.export.csv_rows import CsvRows
from tallygate.ledger.export.encoder import Encoder, Format
from tallygate.ledger.export.entry_pages import PAGE_ROWS, entry_pages
from tallygate.ledger.export.json_lines import JsonLines
from tallygate.ledger.export.parquet import ParquetRows
from tallygate.ledger.export.selection import Selection
from tallygate.ledger.readable import Readable


class Piece(NamedTuple):
    """The next bytes of the file, and the number of rows read for them. data may be empty while the encoder buffers."""

    data: bytes
    rows: int


def encoder_of(format_: Format) -> Encoder:
    """Start a new file. Raises FormatUnavailableError."""
    match format_:
        case Format.CSV:
            return CsvRows()
        case Format.JSONL:
            return JsonLines()
        case Format.PARQUET:
            return ParquetRows()
    assert_never(format_)


async def export_pieces(
    database: Readable, selection: Selection, encoder: Encoder, *, page_rows: int = PAGE_ROWS
) -> AsyncGenerator[Piece]:
    """The whole file, a page at a time, each read only after the previous piece was consumed. Raises LedgerUnavailableError."""
    yield Piece(encoder.start(), 0)
    async with aclosing(entry_pages(database, selection, page_rows=page_rows)) as pages:
        async for page in pages:
            yield Piece(await asyncio.to_thread(encoder.rows, page), len(page))
    yield Piece(await asyncio.to_thread(encoder.finish), 0)
