"""A Client ID that an organization chose itself is retired in that organization alone."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_BEFORE = sa.table("retired_client_ids", *(sa.column(name) for name in ("id", "org", "retired_at_ms")))


def upgrade() -> None:
    """Who had chosen what is retired is not known: it stays retired for everybody, until it is released."""
    retired = [dict(row) for row in op.get_bind().execute(sa.select(_BEFORE)).mappings()]
    op.drop_table("retired_client_ids")
    table = op.create_table(
        "retired_client_ids",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("org", _NAME, nullable=False),
        sa.Column("is_self_made", sa.Boolean, nullable=False),
        sa.Column("retired_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", "org", name="pk_retired_client_ids"),
    )
    op.create_index("ix_retired_client_ids_org", "retired_client_ids", ["org"])
    op.bulk_insert(table, [row | {"is_self_made": False} for row in retired])
