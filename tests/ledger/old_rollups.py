"""The rollups as they were kept before version 0014 of the tables: five tables."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.ledger.schema import ROLLUP_AMOUNTS

_OLD = {  # table to its key, and which of today's rows it had
    "rollup_15m": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 900000"),
    "rollup_1h": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 3600000"),
    "rollup_1d": ("org, bucket_ms, series_id", "detail = 'series' AND length_ms = 86400000"),
    "kind_rollup": ("length_ms, org, bucket_ms, series_id", "detail = 'kind'"),
    "org_rollup": ("length_ms, org, bucket_ms", "detail = 'org'"),
}
_SINCE = ("rollups", "lifetime_spend", "jobs", "console_sessions", "sign_in_links", "refused_requests", "refusal_files")


def put_back(connection: Connection) -> None:
    """Make a ledger of today what one of version 0013 was."""
    for name, (key, rows) in _OLD.items():
        columns = f"{key}, {', '.join(ROLLUP_AMOUNTS)}"
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
