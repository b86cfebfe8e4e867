"""Files read back by other people's readers: what went in comes out, and no cell is a formula."""

import csv
import io
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_values import START_MS, a_correction, an_entry, everything, odd_entries
from msgspec import structs

from tallygate.domain.instants import millisecond_text
from tallygate.ledger.book import Book
from tallygate.ledger.entry import Entry
from tallygate.ledger.export.columns import COLUMNS, NAMES, ColumnType
from tallygate.ledger.export.csv_rows import CsvRows, safe_text
from tallygate.ledger.export.encoder import FILE_TYPES, Format, FormatUnavailableError
from tallygate.ledger.export.json_lines import JsonLines
from tallygate.ledger.export.parquet import ParquetRows
from tallygate.ledger.export.stream import encoder_of, export_pieces

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
ENTRIES = [
    *odd_entries(),
    an_entry(90, stream=True, first_byte_ms=None, price_version=None),
    a_correction(an_entry(91), -123_456_789),
]


def row(entry: Entry):
    return tuple(getattr(entry, column.source) for column in COLUMNS)


def file_of(encoder, entries, *, page_rows=5):
    pages = [list(map(row, entries[at : at + page_rows])) for at in range(0, len(entries), page_rows)]
    return b"".join([encoder.start(), *map(encoder.rows, pages), encoder.finish()])


def read_csv(data: bytes):
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def without_apostrophe(cell: str) -> str:
    return cell.removeprefix("'")


def test_csv_reads_back_as_it_was():
    for entry, cells in zip(ENTRIES, read_csv(file_of(CsvRows(), ENTRIES)), strict=True):
        for column in COLUMNS:
            value, cell = getattr(entry, column.source), cells[column.name]
            match column.type:
                case _ if value is None:
                    assert cell == ""
                case ColumnType.TEXT:
                    assert without_apostrophe(cell) == value
                case ColumnType.INTEGER:
                    assert int(cell) == value
                case ColumnType.BOOLEAN:
                    assert cell == str(value).lower()
                case ColumnType.TIME:
                    assert datetime.fromisoformat(cell) == datetime.fromtimestamp(value / 1000, UTC)
                case ColumnType.USD:
                    assert Decimal(cell) == Decimal(value) / 10**9


def test_csv_is_as_rfc_4180_wants_it():
    data = file_of(CsvRows(), ENTRIES)

    assert data.startswith(b"event_id,sequence,kind,settled_at,")
    assert data.endswith(b"\r\n")
    assert all(len(record) == len(NAMES) for record in csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def test_no_text_of_a_csv_is_a_formula_and_negative_numbers_stay_numbers():
    cells = read_csv(file_of(CsvRows(), ENTRIES))

    for record in cells:
        for column in COLUMNS:
            if column.type is ColumnType.TEXT:
                assert not record[column.name].lstrip(" ").startswith(FORMULA_STARTS)
    assert (cells[-1]["cost_nano_usd"], cells[-1]["cost_usd"]) == ("-123456789", "-0.123456789")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("+1", "'+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("  =1", "'  =1"),
        ("\xa0=1", "'\xa0=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("a=1", "a=1"),
        ("gpt-4o", "gpt-4o"),
        (" text", " text"),
        ("", ""),
    ],
)
def test_a_text_that_could_be_a_formula_begins_with_an_apostrophe(text, cell):
    assert safe_text(text) == cell


def test_json_lines_read_back_as_they_were():
    lines = file_of(JsonLines(), ENTRIES).splitlines()

    for entry, line in zip(ENTRIES, map(json.loads, lines), strict=True):
        assert tuple(line) == NAMES
        assert (
            line["cost_usd"] == str(Decimal(entry.cost_nano_usd) / 10**9)
            or Decimal(line["cost_usd"]) * 10**9 == entry.cost_nano_usd
        )
        for column in COLUMNS:
            if column.type not in {ColumnType.USD, ColumnType.TIME}:
                assert line[column.name] == getattr(entry, column.source)
        assert line["settled_at"] == millisecond_text(entry.settled_at_ms)


def test_parquet_reads_back_as_it_was():
    table = pq.read_table(io.BytesIO(file_of(ParquetRows(row_group_rows=7), ENTRIES)))
    rows = table.to_pylist()

    for entry, found in zip(ENTRIES, rows, strict=True):
        for column in COLUMNS:
            value = getattr(entry, column.source)
            match column.type:
                case ColumnType.USD:
                    assert found[column.name] == Decimal(value).scaleb(-9)
                case ColumnType.TIME:
                    assert found[column.name] == datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)
                case _:
                    assert found[column.name] == value


def test_parquet_types_are_as_documented():
    schema = pq.read_schema(io.BytesIO(file_of(ParquetRows(), ENTRIES)))

    assert schema.field("cost_nano_usd").type == pa.int64()
    assert schema.field("cost_usd").type == pa.decimal128(20, 9)
    assert schema.field("settled_at").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("stream").type == pa.bool_()
    assert [field.name for field in schema if field.nullable] == [column.name for column in COLUMNS if column.is_nullable]


@pytest.mark.parametrize("nano_usd", [0, 1, -1, 999_999_999, -(10**9), 2**53 - 1, -(2**53 - 1)])
def test_parquet_decimals_are_exact_at_both_ends(nano_usd):
    data = file_of(ParquetRows(), [structs.replace(an_entry(), cost_nano_usd=nano_usd)])

    assert pq.read_table(io.BytesIO(data))["cost_usd"].to_pylist() == [Decimal(nano_usd).scaleb(-9)]


def test_parquet_row_groups_are_bounded_and_written_as_they_fill():
    encoder = ParquetRows(row_group_rows=10)
    page = [row(an_entry(number)) for number in range(5)]
    sizes = [len(encoder.start())] + [len(encoder.rows(page)) for _ in range(5)]
    metadata = pq.ParquetFile(
        io.BytesIO(file_of(ParquetRows(row_group_rows=10), [an_entry(number) for number in range(25)]))
    ).metadata

    assert [size > 0 for size in sizes] == [True, False, True, False, True, False]
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [10, 10, 5]


def test_without_pyarrow_parquet_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(FormatUnavailableError, match=r"pip install 'tallygate\[parquet\]'"):
        encoder_of(Format.PARQUET)
    assert file_of(encoder_of(Format.CSV), ENTRIES)


@pytest.mark.parametrize("format_", Format)
def test_an_export_without_entries_is_a_whole_file(format_):
    data = file_of(encoder_of(format_), [])

    match format_:
        case Format.CSV:
            assert data.decode() == ",".join(NAMES) + "\r\n"
        case Format.JSONL:
            assert data == b""
        case Format.PARQUET:
            assert pq.read_table(io.BytesIO(data)).num_rows == 0


@pytest.mark.parametrize("format_", Format)
async def test_both_databases_give_the_same_file(database, book: Book, format_):
    await book.record(odd_entries())
    data = b"".join([piece.data async for piece in export_pieces(database, everything(), encoder_of(format_), page_rows=3)])

    assert data == file_of(encoder_of(format_), odd_entries(), page_rows=3)
    assert FILE_TYPES[format_].suffix == format_.value


@pytest.mark.parametrize("at_ms", [0, 1, 999, START_MS, START_MS + 5])
def test_times_are_written_with_their_milliseconds(at_ms):
    text = millisecond_text(at_ms)

    assert len(text) == len("2026-11-01T00:00:00.000Z")
    assert datetime.fromisoformat(text).timestamp() * 1000 == pytest.approx(at_ms, abs=0.01)
