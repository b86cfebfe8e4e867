"""Organizations have a day on which their months begin; calendar months until now."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("organizations", sa.Column("billing_day", sa.BigInteger, nullable=False, server_default="1"))
