"""The log of refused requests."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty: refusals were only counted before."""
    op.create_table(
        "refused_requests",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, _NAME, nullable=False) for name in ("org", "credential", "capability")),
        sa.Column("status", sa.BigInteger, nullable=False),
        *(sa.Column(name, _NAME, nullable=False) for name in ("code", "refused_by")),
        sa.Column("more", sa.BigInteger, nullable=False),
        *(sa.Column(name, _NAME) for name in ("request_id", "client_request_id", "endpoint", "method", "model")),
        sa.Column("message", _NAME, nullable=False),
        sa.Column("param", _NAME),
        *(sa.Column(name, sa.BigInteger) for name in ("spent_nano_usd", "held_nano_usd", "needed_nano_usd", "limit_nano_usd")),
        sa.Column("quantity", _NAME),
        *(sa.Column(name, sa.BigInteger) for name in ("rate_limit", "rate_window_ms", "rate_remaining", "resets_at_ms")),
        sa.Column("waits_for", _NAME),
        sa.PrimaryKeyConstraint("org", "at_ms", "id", name="pk_refused_requests"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_refused_requests_at_ms_org_id", "refused_requests", ["at_ms", "org", "id"])
    op.create_table(
        "refusal_files",
        sa.Column("source", _NAME, nullable=False),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_refusal_files"),
    )
