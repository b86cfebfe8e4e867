"""One table of rollups in place of five."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_KEY: dict[str, sa.types.TypeEngine[Any]] = {
    "length_ms": sa.BigInteger(),
    "detail": _NAME,
    "org": _NAME,
    "bucket_ms": sa.BigInteger(),
    "series_id": sa.BigInteger(),
}
_AMOUNTS = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "refused",
)
_HOUR_MS = 3_600_000
_OLD: dict[str, dict[str, Any]] = {  # and the columns of the key that all of a table's rows have alike, and it none for
    "rollup_15m": {"length_ms": _HOUR_MS // 4, "detail": "series"},
    "rollup_1h": {"length_ms": _HOUR_MS, "detail": "series"},
    "rollup_1d": {"length_ms": 24 * _HOUR_MS, "detail": "series"},
    "kind_rollup": {"detail": "kind"},
    "org_rollup": {"detail": "org", "series_id": 0},
}
_ROWS_AT_ONCE = 100_000  # a statement may not take long


def upgrade() -> None:
    """Carry every row over and drop the old tables, in one transaction: if it is ended in its midst, nothing has changed."""
    rollups = op.create_table(
        "rollups",
        *(sa.Column(name, type_, nullable=False) for name, type_ in _KEY.items()),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _AMOUNTS),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_rollups"),
        sqlite_with_rowid=False,
        postgresql_partition_by="LIST (detail)",
    )
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        # A writer of the version before waits, then finds no table, and tries again: nothing is added to what was copied already.
        op.execute(f"LOCK TABLE {', '.join(_OLD)} IN SHARE ROW EXCLUSIVE MODE")
        for detail in ("series", "kind", "org"):
            op.execute(f"CREATE TABLE rollups_{detail} PARTITION OF rollups FOR VALUES IN ('{detail}') WITH (fillfactor = 70)")
    for name, given in _OLD.items():
        key = [sa.column(column, type_) for column, type_ in _KEY.items() if column not in given]
        old = sa.table(name, *key, *map(sa.column, _AMOUNTS))
        values = [sa.literal(given[column]) if column in given else old.c[column] for column in (*_KEY, *_AMOUNTS)]
        for part in _parts(connection, key):
            rows = sa.select(*values).where(part).order_by(*key)
            connection.execute(rollups.insert().from_select([*_KEY, *_AMOUNTS], rows))
    for name in _OLD:
        op.drop_table(name)
    if is_postgresql:
        op.execute("ANALYZE rollups")


def _parts(connection: sa.Connection, key: list[sa.ColumnClause[Any]]) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions that divide a table's rows by their key."""
    after: sa.ColumnElement[bool] = sa.true()
    while True:
        row = connection.execute(sa.select(*key).where(after).order_by(*key).offset(_ROWS_AT_ONCE - 1).limit(1)).first()
        if row is None:
            yield after
            return
        edge = sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(row, key, strict=True)))
        yield sa.and_(after, sa.tuple_(*key) <= edge)
        after = sa.tuple_(*key) > edge
