"""How far the ledger has stored each of the limiter's streams, and what it is known to lack."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty: how far an older ledger had come was not recorded, so its first rebuild compares amounts."""
    op.create_table(
        "stream_positions",
        sa.Column("partition", sa.BigInteger, nullable=False),
        sa.Column("taken_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in ("lacks_from_ms", "lacks_until_ms")),
        sa.PrimaryKeyConstraint("partition", name="pk_stream_positions"),
    )
