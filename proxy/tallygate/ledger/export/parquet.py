"""Apache Parquet, written by pyarrow, which is an extra: `pip install 'tallygate[parquet]'`.

Money is int64 nano-USD and, beside it, decimal128(20, 9) USD; times are timestamp[ms, UTC]; other integers are int64.
"""

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tallygate.ledger.export.columns import COLUMNS, ColumnType, Row
from tallygate.ledger.export.encoder import FormatUnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS: Final = 50_000  # about 20 MB before compression, buffered until a row group is written
_DECIMAL_BYTES: Final = 16


class ParquetRows:
    """Implements `Encoder`. Buffers at most one row group. Raises FormatUnavailableError if pyarrow is not installed."""

    def __init__(self, *, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        try:
            self._arrow = importlib.import_module("pyarrow")
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise FormatUnavailableError("Parquet needs pyarrow: pip install 'tallygate[parquet]'") from error
        self._row_group_rows = row_group_rows
        self._types = _types(self._arrow)
        self._schema = self._arrow.schema(
            [self._arrow.field(column.name, self._types[column.type], nullable=column.is_nullable) for column in COLUMNS]
        )
        self._written = _Written()
        self._writer = parquet.ParquetWriter(self._written, self._schema, compression="zstd")
        self._kept: list[pa.RecordBatch] = []
        self._kept_rows = 0

    def start(self) -> bytes:
        return self._written.drain()

    def rows(self, page: Sequence[Row]) -> bytes:
        columns = zip(*page, strict=True)
        arrays = [self._array(column.type, values) for column, values in zip(COLUMNS, columns, strict=True)]
        self._kept.append(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._kept_rows += len(page)
        if self._kept_rows >= self._row_group_rows:
            self._write_row_group()
        return self._written.drain()

    def finish(self) -> bytes:
        if self._kept:
            self._write_row_group()
        self._writer.close()
        return self._written.drain()

    def _write_row_group(self) -> None:
        table = self._arrow.Table.from_batches(self._kept, self._schema)
        self._writer.write_table(table, row_group_size=self._kept_rows)
        self._kept, self._kept_rows = [], 0

    def _array(self, type_: ColumnType, values: Sequence[Any]) -> "pa.Array":
        if type_ is not ColumnType.USD:
            return self._arrow.array(values, self._types[type_])
        # A decimal of scale 9 is its unscaled integer, and that is the nano-USD. Costs are never absent.
        unscaled = b"".join(value.to_bytes(_DECIMAL_BYTES, "little", signed=True) for value in values)
        buffers = [None, self._arrow.py_buffer(unscaled)]
        return self._arrow.Array.from_buffers(self._types[type_], len(values), buffers)


class _Written(io.RawIOBase):
    """The file to which pyarrow writes: returns the bytes written since the last call."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def drain(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _types(arrow: Any) -> Mapping[ColumnType, Any]:
    makers: Mapping[ColumnType, Callable[[], Any]] = {
        ColumnType.TEXT: arrow.string,
        ColumnType.INTEGER: arrow.int64,
        ColumnType.BOOLEAN: arrow.bool_,
        ColumnType.TIME: lambda: arrow.timestamp("ms", tz="UTC"),
        ColumnType.USD: lambda: arrow.decimal128(20, 9),
    }
    return {type_: make() for type_, make in makers.items()}
