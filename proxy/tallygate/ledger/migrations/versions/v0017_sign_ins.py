"""Sign-ins at the console: sessions of browsers, and links that begin one."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Empty: nobody could sign in before."""
    op.create_table(
        "console_sessions",
        sa.Column("secret_sha256", _NAME, nullable=False),
        *(sa.Column(name, _NAME, nullable=False) for name in ("method", "actor", "source", "name", "access")),
        sa.Column("orgs", _NAME),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_at_ms", "seen_at_ms", "expires_at_ms")),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_console_sessions"),
    )
    op.create_index("ix_console_sessions_actor_seen_at_ms", "console_sessions", ["actor", "seen_at_ms"])
    op.create_index("ix_console_sessions_seen_at_ms", "console_sessions", ["seen_at_ms"])
    op.create_table(
        "sign_in_links",
        sa.Column("secret_sha256", _NAME, nullable=False),
        *(sa.Column(name, _NAME, nullable=False) for name in ("actor", "name", "access")),
        sa.Column("orgs", _NAME),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_at_ms", "expires_at_ms")),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_sign_in_links"),
    )
