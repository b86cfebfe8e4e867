"""JSON Lines: one object a line, UTF-8, keys in the order of the columns.

Integers are JSON numbers, all below 2**53; cost_usd is an exact decimal text; times are RFC 3339 texts; absent values are null.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tallygate.domain.instants import millisecond_text
from tallygate.domain.money import usd_text
from tallygate.ledger.export.columns import COLUMNS, NAMES, ColumnType, Row


class JsonLines:
    """Implements `Encoder`, without buffering."""

    def start(self) -> bytes:
        return b""

    def rows(self, page: Sequence[Row]) -> bytes:
        return _ENCODER.encode_lines(
            [
                dict(
                    zip(
                        NAMES,
                        [
                            value if value is None or shown is None else shown(value)
                            for shown, value in zip(_SHOWN, row, strict=True)
                        ],
                        strict=True,
                    )
                )
                for row in page
            ]
        )

    def finish(self) -> bytes:
        return b""


_ENCODER: Final = msgspec.json.Encoder()
_BY_TYPE: Final[Mapping[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.BOOLEAN: bool,
    ColumnType.TIME: millisecond_text,
    ColumnType.USD: usd_text,
}
_SHOWN: Final = tuple(_BY_TYPE.get(column.type) for column in COLUMNS)
