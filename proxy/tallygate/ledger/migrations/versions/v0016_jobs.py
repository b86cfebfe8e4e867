"""Work that upstreams go on with after their answer."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty: nothing was deferred before."""
    op.create_table(
        "jobs",
        *(sa.Column(name, _NAME, nullable=False) for name in ("id", "org", "kind", "upstream", "object_id")),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("held_nano_usd", "started_at_ms", "deadline_ms", "due_ms", "leased_until_ms")
        ),
        sa.Column("polls", sa.Integer, nullable=False),
        sa.Column("progress", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_jobs_due_ms", "jobs", ["due_ms"])
    op.create_index("ix_jobs_org_due_ms", "jobs", ["org", "due_ms"])
