"""What was billed that token counts do not show."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing of it was known before."""
    op.add_column("entries", sa.Column("billed", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")))
