"""The stray days of the entries that were there before 0024."""

from alembic import op
from sqlalchemy import text

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_DAY_MS = 86_400_000


def upgrade() -> None:
    """Read every entry once. Nobody waits: what is entered meanwhile is noted by the trigger, which is committed (`MILESTONES`)."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    partitions = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass ORDER BY 1")
    for name in connection.execute(partitions).scalars().all():  # one by one: a statement may not take long
        days = f"SELECT DISTINCT settled_at_ms / {_DAY_MS} * {_DAY_MS} FROM {name} WHERE is_stray(event_id, settled_at_ms)"  # noqa: S608
        connection.execute(text(f"INSERT INTO stray_days {days} ON CONFLICT DO NOTHING"))
