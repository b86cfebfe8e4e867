"""Organizations, credentials, admin tokens, and the log of their changes, which nothing rewrites."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _nullable(kind: type[sa.BigInteger] | sa.Text, *names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, kind) for name in names]


def upgrade() -> None:
    """Create everything, at version 0."""
    version = op.create_table(
        "directory_version",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        *_integers("version"),
        sa.PrimaryKeyConstraint("id", name="pk_directory_version"),
    )
    op.bulk_insert(version, [{"id": 1, "version": 0}])
    op.create_table(
        "organizations",
        *_names("id", "name", "plan", "time_zone", "limits"),
        *_integers("created_at_ms", "changed_at_ms"),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
    )
    op.create_table(
        "credentials",
        *_names("id", "org", "name", "environment"),
        *_nullable(_NAME, "key_sha256", "old_key_sha256"),
        *_nullable(sa.BigInteger, "old_key_until_ms"),
        sa.Column("enabled", sa.Boolean, nullable=False),
        *_nullable(sa.BigInteger, "revoked_at_ms", "expires_at_ms"),
        *_nullable(_NAME, "capabilities", "models"),
        *_names("limits"),
        *_integers("created_at_ms", "changed_at_ms"),
        *_nullable(sa.BigInteger, "last_used_at_ms"),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.UniqueConstraint("key_sha256", name="uq_credentials_key_sha256"),
    )
    op.create_index("ix_credentials_org_id", "credentials", ["org", "id"])
    op.create_table(
        "admin_tokens",
        *_names("id", "name", "token_sha256"),
        *_nullable(_NAME, "orgs"),
        *_names("access"),
        *_nullable(sa.BigInteger, "expires_at_ms", "revoked_at_ms"),
        *_integers("created_at_ms"),
        sa.PrimaryKeyConstraint("id", name="pk_admin_tokens"),
        sa.UniqueConstraint("token_sha256", name="uq_admin_tokens_token_sha256"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        *_integers("version", "at_ms"),
        *_names("actor", "action"),
        *_nullable(_NAME, "org"),
        *_names("subject"),
        *_nullable(_NAME, "before", "after"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_version", "audit_log", ["version"])
    op.create_index("ix_audit_log_org_id", "audit_log", ["org", "id"])
    _forbid_rewriting()


def _forbid_rewriting() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_log_no_{change.lower()} BEFORE {change} ON audit_log "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
