"""The flat fee of a request, a part of its cost."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No request had one before. Nor does what a ledger of the version before still writes, hence the default."""
    op.add_column("entries", sa.Column("fee_nano_usd", sa.BigInteger, nullable=False, server_default="0"))
