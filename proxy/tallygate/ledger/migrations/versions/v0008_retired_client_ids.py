"""Client IDs that outlive their organization as revoked, and who chose a credential's Client ID."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Nothing is retired yet, and what there is was confirmed by the operator."""
    op.create_table(
        "retired_client_ids",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("org", _NAME, nullable=False),
        sa.Column("retired_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retired_client_ids"),
    )
    op.create_index("ix_retired_client_ids_org", "retired_client_ids", ["org"])
    op.add_column("credentials", sa.Column("is_self_made", sa.Boolean, nullable=False, server_default=sa.false()))
