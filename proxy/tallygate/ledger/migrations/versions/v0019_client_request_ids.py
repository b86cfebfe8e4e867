"""Events are found by the ids that their clients gave them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_SENT = "client_request_id IS NOT NULL"


def upgrade() -> None:
    """Of those alone that have one: the index reads the table once."""
    op.create_index(
        "ix_entries_client_request_id",
        "entries",
        ["org", "client_request_id", "settled_at_ms"],
        sqlite_where=sa.text(_SENT),
        postgresql_where=sa.text(_SENT),
    )
