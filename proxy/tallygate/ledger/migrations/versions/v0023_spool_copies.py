"""Copies of settlements that wait in gateways' spools."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty: what waits now is copied when its gateway is of this version."""
    op.create_table(
        "spool_copies",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("is_deferred", sa.Boolean, nullable=False),
        *(sa.Column(name, _NAME, nullable=False) for name in ("org", "gateway")),
        sa.Column("noted_at_ms", sa.BigInteger, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", "is_deferred", name="pk_spool_copies"),
    )
    op.create_index("ix_spool_copies_noted_at_ms_id", "spool_copies", ["noted_at_ms", "id"])
    op.create_index("ix_spool_copies_org", "spool_copies", ["org"])
