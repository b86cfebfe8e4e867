"""In PostgreSQL, a partition for the rollups that are not in the rows of every level yet; see `ledger/rollups.py`."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Attach it: whoever reads and writes rollups waits for a table that is made as a partition, and not for this."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE rollups_recent (LIKE rollups INCLUDING ALL)")
        op.execute("ALTER TABLE rollups ATTACH PARTITION rollups_recent FOR VALUES IN ('recent')")
