"""Notices of spend limits and their deliveries to webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "notices",
        *_names("event_id", "type", "org", "limit_key"),
        sa.Column("threshold_permille", sa.BigInteger),
        *_integers("spent_nano_usd", "held_nano_usd", "limit_nano_usd"),
        sa.Column("refused_nano_usd", sa.BigInteger),
        sa.Column("resumes_at_ms", sa.BigInteger),
        *_integers("at_ms", "stored_at_ms"),
        sa.PrimaryKeyConstraint("event_id", name="pk_notices"),
    )
    op.create_index("ix_notices_at_ms_event_id", "notices", ["at_ms", "event_id"])
    op.create_index("ix_notices_org_at_ms_event_id", "notices", ["org", "at_ms", "event_id"])
    op.create_index("ix_notices_stored_at_ms", "notices", ["stored_at_ms"])
    op.create_table(
        "webhook_deliveries",
        *_names("event_id", "endpoint", "state"),
        *_integers("attempts", "due_at_ms", "leased_until_ms"),
        sa.Column("last_status", sa.BigInteger),
        sa.Column("last_error", _NAME),
        *_integers("queued_at_ms"),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("event_id", "endpoint", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_state_endpoint_due_at_ms", "webhook_deliveries", ["state", "endpoint", "due_at_ms"])
    op.create_table(
        "webhook_gone_endpoints",
        *_names("endpoint", "fingerprint"),
        *_integers("gone_at_ms"),
        sa.PrimaryKeyConstraint("endpoint", name="pk_webhook_gone_endpoints"),
    )
    op.create_table(
        "webhook_delivery_totals",
        *_names("result"),
        *_integers("deliveries"),
        sa.PrimaryKeyConstraint("result", name="pk_webhook_delivery_totals"),
    )
