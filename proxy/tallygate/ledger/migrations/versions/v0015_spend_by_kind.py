"""The cost of an exchange by kind of unit, and what it comes to since the ledger began."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LABELS = ("org", "credential", "capability")
_KINDS = ("input", "cache_read", "cache_write", "output", "media", "calls")
_STRETCH_MS = 30 * 86_400_000  # added up at once of an organization: a statement may not take long

_ENTRIES = sa.table("entries", *map(sa.column, (*_LABELS, "settled_at_ms", "cost_nano_usd", "fee_nano_usd")))
_TOTALS = sa.table("lifetime_totals", *map(sa.column, (*_LABELS, "outcome", "cost_nano_usd", "credited_cost_nano_usd")))


def upgrade() -> None:
    """Nobody knows what was paid for before, except for fees: the rest is of kind `other`."""
    for kind in _KINDS:
        op.add_column("entries", sa.Column(f"{kind}_nano_usd", sa.BigInteger, nullable=False, server_default="0"))
    spend = op.create_table(
        "lifetime_spend",
        *(sa.Column(name, _NAME, nullable=False) for name in (*_LABELS, "kind")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("nano_usd", "credited_nano_usd", "purged_nano_usd")),
        sa.PrimaryKeyConstraint(*_LABELS, "kind", name="pk_lifetime_spend"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    connection = op.get_bind()
    columns = _TOTALS.c
    totals = (
        sa.select(
            *(columns[name] for name in _LABELS), sa.func.sum(columns.cost_nano_usd), sa.func.sum(columns.credited_cost_nano_usd)
        )
        .where(columns.outcome != "refused")
        .group_by(*(columns[name] for name in _LABELS))
    )
    left = _left(connection)
    rows = []
    for *labels, cost, credited in connection.execute(totals):
        cost_left, fees = left.get(tuple(labels), (0, 0))
        other = {"nano_usd": int(cost) - fees, "credited_nano_usd": int(credited)}
        gone = {"purged_nano_usd": int(cost) - int(credited) - cost_left}
        key = dict(zip(_LABELS, labels, strict=True))
        rows.append({**key, "kind": "other", **other, **gone})
        if fees:
            rows.append({**key, "kind": "fee", "nano_usd": fees, "credited_nano_usd": 0, "purged_nano_usd": 0})
    op.bulk_insert(spend, rows)


def _left(connection: sa.Connection) -> dict[tuple[str, ...], tuple[int, int]]:
    """Cost and fees of the entries that retention has not removed."""
    columns = _ENTRIES.c
    spans = sa.select(columns.org, sa.func.min(columns.settled_at_ms), sa.func.max(columns.settled_at_ms)).group_by(columns.org)
    labels = [columns[name] for name in _LABELS]
    sums = (
        sa.select(*labels, sa.func.sum(columns.cost_nano_usd), sa.func.sum(columns.fee_nano_usd))
        .where(columns.org == sa.bindparam("org"), columns.settled_at_ms >= sa.bindparam("low"))
        .where(columns.settled_at_ms < sa.bindparam("high"))
        .group_by(*labels)
    )
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for org, first, last in connection.execute(spans).all():
        for low in range(first, last + 1, _STRETCH_MS):
            for *key, cost, fees in connection.execute(sums, {"org": org, "low": low, "high": low + _STRETCH_MS}):
                before = found.get(tuple(key), (0, 0))
                found[tuple(key)] = (before[0] + int(cost), before[1] + int(fees))
    return found
