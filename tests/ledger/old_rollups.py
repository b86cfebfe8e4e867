"""What was kept before versions 0026 to 0020 (no recent rollups, stray days, positions, digests, kinds) and 0014 (five rollups)."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from tallygate.domain.unit_kind import KIND_COSTS

AMOUNTS_BEFORE = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "refused",
)
KINDS = (
    "audio_prompt_tokens",
    "audio_completion_tokens",
    "image_prompt_tokens",
    "image_completion_tokens",
    "fee_nano_usd",
    *KIND_COSTS,
)
_FIVE = {  # table to its key, and which of today's rows it had
    "rollup_15m": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 900000"),
    "rollup_1h": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 3600000"),
    "rollup_1d": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 86400000"),
    "kind_rollup": ("length_ms, org, bucket_ms, series_id", "detail = 'kind'"),
    "org_rollup": ("length_ms, org, bucket_ms", "detail = 'org'"),
}
_SINCE = ("rollups", "lifetime_spend", "jobs", "console_sessions", "sign_in_links", "refused_requests", "refusal_files")


def put_strays_back(connection: Connection) -> None:
    """Make a ledger of today, whose rollups are all folded, what one of version 0023 was."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP TABLE rollups_recent"))
        connection.execute(text("DROP TABLE stray_days"))
        connection.execute(text("DROP FUNCTION note_stray_day, is_stray CASCADE"))
    connection.execute(text("UPDATE ledger_version SET version_num = '0023'"))


def put_digests_back(connection: Connection) -> None:
    """Make a ledger of today what one of version 0020 was, but for columns of notices that may be null now."""
    put_strays_back(connection)
    connection.execute(text("DROP TABLE spool_copies"))
    connection.execute(text("DROP TABLE stream_positions"))
    connection.execute(text("DROP TABLE digest_weeks"))
    connection.execute(text("ALTER TABLE notices DROP COLUMN digest"))
    connection.execute(text("UPDATE ledger_version SET version_num = '0020'"))


def put_kinds_back(connection: Connection) -> None:
    """Make a ledger of today what one of version 0019 was."""
    put_digests_back(connection)
    connection.execute(text("DELETE FROM rollups WHERE detail = 'credential'"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP TABLE rollups_credential"))
    connection.execute(text("ALTER TABLE rollups RENAME COLUMN series TO series_id"))
    for name in KINDS:
        connection.execute(text(f"ALTER TABLE rollups DROP COLUMN {name}"))
        if name.startswith("image_"):
            connection.execute(text(f"ALTER TABLE entries DROP COLUMN {name}"))
    connection.execute(text("ALTER TABLE spend_buckets DROP COLUMN purged_nano_usd"))
    connection.execute(text("UPDATE ledger_version SET version_num = '0019'"))


def put_back(connection: Connection) -> None:
    """Make a ledger of today what one of version 0013 was."""
    put_kinds_back(connection)
    for name, (key, rows) in _FIVE.items():
        columns = f"{key}, {', '.join(AMOUNTS_BEFORE)}"
        connection.execute(text(f"CREATE TABLE {name} AS SELECT {columns} FROM rollups WHERE {rows}"))  # noqa: S608  # as above
        connection.execute(text(f"CREATE UNIQUE INDEX pk_{name} ON {name} ({key})"))
    for name in _SINCE:
        connection.execute(text(f"DROP TABLE {name}"))
    connection.execute(text("DROP INDEX ix_entries_client_request_id"))
    for name in KIND_COSTS:
        connection.execute(text(f"ALTER TABLE entries DROP COLUMN {name}"))
    connection.execute(text("UPDATE ledger_version SET version_num = '0013'"))


def upgrade(connection: Connection, from_version: str, to_version: str) -> None:
    """Run the migrations between two versions."""
    config = Config()
    config.set_main_option("script_location", "tallygate.ledger:migrations")
    config.attributes["connection"] = connection
    connection.execute(text("UPDATE ledger_version SET version_num = :version"), {"version": from_version})
    command.upgrade(config, to_version)
