"""Weekly digests: a kind of notice that is about no limit, and the last week that each organization has had one of."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """SQLite cannot change a column, so alembic copies the table there: it has the notices of 30 days."""
    with op.batch_alter_table("notices") as notices:
        notices.alter_column("limit_key", existing_type=_NAME, nullable=True)
        for name in ("held_nano_usd", "limit_nano_usd"):
            notices.alter_column(name, existing_type=sa.BigInteger(), nullable=True)
        notices.add_column(sa.Column("digest", _NAME))
    op.create_table(
        "digest_weeks",
        sa.Column("org", _NAME, nullable=False),
        sa.Column("first_day", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("org", name="pk_digest_weeks"),
    )
