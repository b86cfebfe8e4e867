"""Objects that upstreams keep, and whose they are."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_KEY = ("org", "upstream", "kind", "id")


def upgrade() -> None:
    """Empty: what was made before has no owner until it is adopted."""
    op.create_table(
        "stored_objects",
        *(sa.Column(name, _NAME, nullable=False) for name in _KEY),
        sa.Column("credential", _NAME, nullable=False),
        sa.Column("made_at_ms", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("event_id", _NAME, nullable=False),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_stored_objects"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_stored_objects_org_made_at_ms", "stored_objects", ["org", "made_at_ms"])
