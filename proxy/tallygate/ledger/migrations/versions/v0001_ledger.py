"""The ledger's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_AMOUNTS = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "refused",
)


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "entries",
        *_names("event_id"),
        *_integers("sequence"),
        *_names("kind"),
        *_integers("settled_at_ms", "entered_at_ms", "posted_at_ms"),
        *_names("org", "credential", "capability", "endpoint", "method"),
        sa.Column("request_model", _NAME),
        sa.Column("response_model", _NAME),
        *_names("upstream"),
        *_integers("status"),
        *_names("outcome"),
        sa.Column("stream", sa.Boolean, nullable=False),
        *_integers("started_at_ms", "duration_ms"),
        sa.Column("first_byte_ms", sa.BigInteger),
        *_integers(
            "requests",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "audio_prompt_tokens",
            "reasoning_tokens",
            "audio_completion_tokens",
            "cost_nano_usd",
            "posted_nano_usd",
        ),
        *_names("usage_source"),
        sa.Column("price_version", _NAME),
        *_integers("request_bytes", "response_bytes"),
        sa.Column("client_request_id", _NAME),
        *_names("flags"),
        sa.PrimaryKeyConstraint("event_id", "sequence", name="pk_entries"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (event_id)",
    )
    op.create_index("ix_entries_org_settled_at_ms_event_id_sequence", "entries", ["org", "settled_at_ms", "event_id", "sequence"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE entries_other PARTITION OF entries DEFAULT")  # ids that no month's partition covers
    op.create_table(
        "series",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        *_names("org", "credential", "capability", "model", "endpoint"),
        *_integers("status"),
        *_names("outcome", "refused_by"),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint(
            "org",
            "credential",
            "capability",
            "model",
            "endpoint",
            "status",
            "outcome",
            "refused_by",
            name="uq_series_labels",
        ),
    )
    for rollup in ("rollup_15m", "rollup_1h", "rollup_1d"):
        op.create_table(
            rollup,
            *_names("org"),
            *_integers("bucket_ms", "series_id", *_AMOUNTS),
            sa.PrimaryKeyConstraint("org", "bucket_ms", "series_id", name=f"pk_{rollup}"),
            sqlite_with_rowid=False,
            postgresql_with={"fillfactor": 70},
        )
    op.create_table(
        "org_rollup",
        *_integers("length_ms"),
        *_names("org"),
        *_integers("bucket_ms", *_AMOUNTS),
        sa.PrimaryKeyConstraint("length_ms", "org", "bucket_ms", name="pk_org_rollup"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "spend_buckets",
        *_names("org"),
        *_integers("bucket_ms"),
        *_names("credential"),
        *_integers("posted_nano_usd"),
        sa.PrimaryKeyConstraint("org", "bucket_ms", "credential", name="pk_spend_buckets"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "malformed",
        *_integers("partition"),
        *_names("stream_id", "reason", "fields"),
        *_integers("seen_at_ms"),
        sa.PrimaryKeyConstraint("partition", "stream_id", name="pk_malformed"),
    )
    op.create_table(
        "price_versions",
        *_names("version", "model"),
        *_integers("effective_ms"),
        *_names("rates"),
        *_integers("seen_at_ms"),
        sa.PrimaryKeyConstraint("version", "model", "rates", name="pk_price_versions"),
    )
    op.create_table(
        "refusals_taken",
        *_names("source", "org", "credential", "capability", "refused_by"),
        *_integers("requests"),
        sa.PrimaryKeyConstraint("source", "org", "credential", "capability", "refused_by", name="pk_refusals_taken"),
    )
