"""Rollups without credentials, and whole organizations by the quarter of an hour, filled from the rollups that are there."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
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
_KIND = ("org", "capability", "model", "endpoint", "status", "outcome", "refused_by")
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_SOURCES = {_HOUR_MS // 2: "rollup_15m", _HOUR_MS: "rollup_1h", 4 * _HOUR_MS: "rollup_1h", _DAY_MS: "rollup_1d"}
_STRETCH_MS = 30 * _DAY_MS  # read at once of an organization: a statement may not take long


def upgrade() -> None:
    """Create the table, number the kinds, and add up what is known."""
    op.create_table(
        "kind_rollup",
        sa.Column("length_ms", sa.BigInteger, nullable=False),
        sa.Column("org", _NAME, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("bucket_ms", "series_id", *_AMOUNTS)),
        sa.PrimaryKeyConstraint("length_ms", "org", "bucket_ms", "series_id", name="pk_kind_rollup"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    labels = ", ".join(_KIND)
    op.execute(
        f"INSERT INTO series (credential, {labels}) SELECT DISTINCT '', {labels} FROM series WHERE true "  # noqa: S608  # names of ours
        "ON CONFLICT DO NOTHING"
    )
    same = " AND ".join(f"k.{name} = s.{name}" for name in _KIND)
    op.execute(
        "CREATE TEMPORARY TABLE kinds AS SELECT s.id AS series_id, k.id AS kind_id "  # noqa: S608
        f"FROM series s JOIN series k ON k.credential = '' AND {same}"
    )
    op.execute("CREATE UNIQUE INDEX kinds_by_series ON kinds (series_id)")
    op.execute("ANALYZE kinds")
    connection = op.get_bind()
    spans = "SELECT org, min(bucket_ms), max(bucket_ms) FROM rollup_1d GROUP BY org"
    for org, first, last in connection.execute(sa.text(spans)).all():
        for low in range(first, last + 1, _STRETCH_MS):
            _fill(connection, {"org": org, "low": low, "high": low + _STRETCH_MS})
    op.execute("DROP TABLE kinds")


def _fill(connection: sa.Connection, part: dict[str, str | int]) -> None:
    """Of one organization's stretch of whole days, in the order of time: rows lie as they would have come."""
    sums = ", ".join(f"CAST(sum(r.{name}) AS BIGINT)" for name in _AMOUNTS)
    is_asked = "r.org = :org AND r.bucket_ms >= :low AND r.bucket_ms < :high"
    for length, source in _SOURCES.items():
        connection.execute(
            sa.text(
                f"INSERT INTO kind_rollup SELECT {length}, r.org, r.bucket_ms / {length} * {length}, k.kind_id, {sums} "  # noqa: S608
                f"FROM {source} r JOIN kinds k ON k.series_id = r.series_id "
                f"WHERE {is_asked} GROUP BY r.org, r.bucket_ms / {length}, k.kind_id ORDER BY 3"
            ),
            part,
        )
    connection.execute(
        sa.text(
            f"INSERT INTO org_rollup SELECT 900000, r.org, r.bucket_ms, {sums} FROM rollup_15m r "  # noqa: S608
            f"WHERE {is_asked} GROUP BY r.org, r.bucket_ms ORDER BY r.bucket_ms"
        ),
        part,
    )
