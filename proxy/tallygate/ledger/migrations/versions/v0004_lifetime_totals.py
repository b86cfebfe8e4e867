"""Totals since the ledger began, filled from the entries and refusals that are there."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LABELS = ("org", "credential", "capability", "model", "outcome", "usage_source")
_SUMS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_nano_usd")
_KINDS = {"late_settlements": "late", "unheld_settlements": "unheld", "expired_holds": "expired"}
_STRETCH_MS = 30 * 86_400_000  # read at once of an organization: a statement may not take long

_ENTRIES = sa.table(
    "entries",
    *map(sa.column, ("org", "credential", "capability", "price_version", "outcome", "usage_source")),
    *map(sa.column, ("sequence", "kind", "flags", "settled_at_ms", "requests", *_SUMS)),
)
_SERIES = sa.table("series", *map(sa.column, ("id", "org", "credential", "capability")))
_ROLLUP = sa.table("rollup_1d", *map(sa.column, ("series_id", "refused")))


def upgrade() -> None:
    """Create the table and add up what is known."""
    totals = op.create_table(
        "lifetime_totals",
        *(sa.Column(name, _NAME, nullable=False) for name in _LABELS),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("requests", *_SUMS, *(f"credited_{name}" for name in _SUMS), "overruns", *_KINDS)
        ),
        sa.PrimaryKeyConstraint(*_LABELS, name="pk_lifetime_totals"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 70},
    )
    connection = op.get_bind()
    columns = _ENTRIES.c
    spans = sa.select(columns.org, sa.func.min(columns.settled_at_ms), sa.func.max(columns.settled_at_ms)).group_by(columns.org)
    for org, first, last in connection.execute(spans).all():
        op.bulk_insert(totals, list(_rows(connection, org, first, last)))
    refused = (
        sa.select(_SERIES.c.org, _SERIES.c.credential, _SERIES.c.capability, sa.func.sum(_ROLLUP.c.refused))
        .join(_ROLLUP, _ROLLUP.c.series_id == _SERIES.c.id)
        .where(_ROLLUP.c.refused > 0)
        .group_by(_SERIES.c.org, _SERIES.c.credential, _SERIES.c.capability)
    )
    nothing = dict.fromkeys((column.name for column in totals.columns if column.name not in _LABELS), 0)
    op.bulk_insert(
        totals,
        [
            {**nothing, **dict(zip(_LABELS, (*labels, "", "refused", ""), strict=True)), "requests": int(count)}
            for *labels, count in connection.execute(refused)
        ],
    )


def _rows(connection: sa.Connection, org: str, first_ms: int, last_ms: int) -> Iterator[dict[str, Any]]:
    """One organization's rows. A request counts under the first word of its event."""
    columns = _ENTRIES.c
    labels = (columns.credential, columns.capability, columns.price_version, columns.outcome, columns.usage_source)
    has_overrun = columns.kind.in_(("settled", "released", "late")) & columns.flags.like("%overrun%")
    statement = (
        sa.select(
            *labels,
            _sum(sa.case((columns.sequence == 0, columns.requests), else_=0)),
            *(_sum(columns[name]) for name in _SUMS),
            _sum(sa.case((has_overrun, 1), else_=0)),
            *(_sum(sa.case((columns.kind == kind, 1), else_=0)) for kind in _KINDS.values()),
        )
        .where(columns.org == org, columns.settled_at_ms >= sa.bindparam("low"), columns.settled_at_ms < sa.bindparam("high"))
        .group_by(*labels)
    )
    found: dict[tuple[str, ...], list[int]] = {}
    for low in range(first_ms, last_ms + 1, _STRETCH_MS):
        for credential, capability, version, *rest in connection.execute(statement, {"low": low, "high": low + _STRETCH_MS}):
            outcome, source, *amounts = rest
            row = found.setdefault((org, credential, capability, _model(version), outcome, source), [0] * len(amounts))
            row[:] = [before + int(amount) for before, amount in zip(row, amounts, strict=True)]
    for key, (requests, *amounts) in sorted(found.items()):
        sums, odd = amounts[: len(_SUMS)], amounts[len(_SUMS) :]
        yield {
            **dict(zip(_LABELS, key, strict=True)),
            "requests": requests,
            **{name: max(0, amount) for name, amount in zip(_SUMS, sums, strict=True)},
            **{f"credited_{name}": max(0, -amount) for name, amount in zip(_SUMS, sums, strict=True)},
            **dict(zip(("overruns", *_KINDS), odd, strict=True)),
        }


def _sum(amount: Any) -> sa.ColumnElement[int]:
    return sa.func.sum(amount)


def _model(price_version: str | None) -> str:
    if price_version is None or price_version.startswith("dearest."):
        return "other"
    return price_version.rpartition("@")[0] or "other"
