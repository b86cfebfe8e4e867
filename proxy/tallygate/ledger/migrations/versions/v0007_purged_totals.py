"""What retention has removed, added up: so that lifetime totals can be audited against what is left."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LABELS = ("org", "credential", "capability")
_AMOUNTS = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_nano_usd", "refused")


def upgrade() -> None:
    """Empty: the totals were filled from what was there, not from what had been removed before."""
    op.create_table(
        "purged_totals",
        *(sa.Column(name, _NAME, nullable=False) for name in _LABELS),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _AMOUNTS),
        sa.PrimaryKeyConstraint(*_LABELS, name="pk_purged_totals"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
