"""The ledger's tables. Money in nano-USD, times in Unix milliseconds, both as 64-bit integers.

Entries are the truth; `series`, the rollups and `spend_buckets` are sums of them, moved in the same transaction.
The migrations build the same tables; a test compares the two.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.types import TypeEngine

from tallygate.domain.refused_request import RefusedRequest
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.ledger.entry import ENTRY_FIELDS, MODEL_CHARS_MAX, fields_of

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
# Ids and labels compare by their bytes everywhere: month partitions are ranges of event ids.
NAME: Final = Text().with_variant(Text(collation="C"), "postgresql")
SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only where the type is INTEGER

_TYPES: Final[Mapping[type, TypeEngine[Any]]] = {str: NAME, int: BigInteger(), bool: Boolean()}

AMOUNTS: Final = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "audio_prompt_tokens",
    "audio_completion_tokens",
    "image_prompt_tokens",
    "image_completion_tokens",
    "fee_nano_usd",
    *KIND_COSTS,
)
ROLLUP_AMOUNTS: Final = (*AMOUNTS, "refused")  # requests that were refused are no entries: they are counted in rollups alone
LIFETIME_SUMS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_nano_usd")
POSTED_AMOUNTS: Final = ("posted_nano_usd", "purged_nano_usd")
PURGED_AMOUNTS: Final = ("requests", *LIFETIME_SUMS, "refused")
LIFETIME_ODDITIES: Final = ("overruns", "late_settlements", "unheld_settlements", "expired_holds")
LIFETIME_SPEND_AMOUNTS: Final = ("nano_usd", "credited_nano_usd", "purged_nano_usd")
LIFETIME_AMOUNTS: Final = ("requests", *LIFETIME_SUMS, *(f"credited_{name}" for name in LIFETIME_SUMS), *LIFETIME_ODDITIES)

# Amounts are differences: what an event came to is the sum of its entries, whichever they are.
ENTRIES: Final = Table(
    "entries",
    METADATA,
    *(Column(field.name, _TYPES[field.type], nullable=field.is_nullable) for field in ENTRY_FIELDS),
    PrimaryKeyConstraint("event_id", "sequence"),
    Index(None, "org", "settled_at_ms", "event_id", "sequence"),
    # Of those alone whose clients sent an id, which few do: other events pay nothing for it.
    Index(
        "ix_entries_client_request_id",
        "org",
        "client_request_id",
        "settled_at_ms",
        sqlite_where=text("client_request_id IS NOT NULL"),
        postgresql_where=text("client_request_id IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (event_id)",
)

# `Entry.model` of a row.
ENTRY_MODEL: Final = func.substr(
    func.coalesce(func.nullif(ENTRIES.c.response_model, ""), ENTRIES.c.request_model, ""), 1, MODEL_CHARS_MAX
)

# What a rollup row is about, once. Served requests have an empty refused_by, refused ones an empty model and endpoint.
SERIES: Final = Table(
    "series",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("org", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("capability", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("endpoint", NAME, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("outcome", NAME, nullable=False),
    Column("refused_by", NAME, nullable=False),
    UniqueConstraint(
        "org", "credential", "capability", "model", "endpoint", "status", "outcome", "refused_by", name="uq_series_labels"
    ),
)


# Sums of entries at several levels (`ledger/rollups.py`). Rows are ordered by level, organization and time, as they are read.
# Tables of PostgreSQL have no order, so each detail has a partition there: without, queries over ten million events took up to 30 %
# more CPU (docs/where-the-time-goes.md). length_ms comes first: PostgreSQL estimates the order of an index by its first column, and
# `detail` is constant within a partition, so the planner expected neighboring rows, and read them one by one.
ROLLUPS: Final = Table(
    "rollups",
    METADATA,
    Column("length_ms", BigInteger, nullable=False),
    Column("detail", NAME, nullable=False),
    Column("org", NAME, nullable=False),
    Column("bucket_ms", BigInteger, nullable=False),
    Column("series", BigInteger, nullable=False),
    *(Column(amount, BigInteger, nullable=False) for amount in ROLLUP_AMOUNTS),
    PrimaryKeyConstraint("length_ms", "detail", "org", "bucket_ms", "series"),
    sqlite_with_rowid=False,
    postgresql_partition_by="LIST (detail)",
)

# What the limiter posted to its windows, in its own 5-minute buckets: a lost window is rebuilt, and an audit done, from here.
# purged_nano_usd: the part of entries that retention has removed, which a late settlement may have posted long after their time.
SPEND_BUCKETS: Final = Table(
    "spend_buckets",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("bucket_ms", BigInteger, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("posted_nano_usd", BigInteger, nullable=False),
    Column("purged_nano_usd", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("org", "bucket_ms", "credential"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

# Stream entries that could not be understood, kept as they came.
MALFORMED: Final = Table(
    "malformed",
    METADATA,
    Column("partition", BigInteger, nullable=False),
    Column("stream_id", NAME, nullable=False),
    Column("reason", NAME, nullable=False),
    Column("fields", NAME, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("partition", "stream_id"),
)

# Every price that was in force while this ledger was kept: what an entry's price_version, without its markup, meant.
PRICE_VERSIONS: Final = Table(
    "price_versions",
    METADATA,
    Column("version", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("effective_ms", BigInteger, nullable=False),
    Column("rates", NAME, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("version", "model", "rates"),
)
# Refusals of each worker that are in the rollups already: counts only grow, so what is new is the difference.
REFUSALS_TAKEN: Final = Table(
    "refusals_taken",
    METADATA,
    Column("source", NAME, nullable=False),
    Column("org", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("capability", NAME, nullable=False),
    Column("refused_by", NAME, nullable=False),
    Column("requests", BigInteger, nullable=False),
    PrimaryKeyConstraint("source", "org", "credential", "capability", "refused_by"),
)

# The log of refused requests (`domain/refused_request.py`): a sample, in which one line may stand for many. `source`, of the second
# table, is a worker's file, and `lines` the number of its lines that are in the log already.
REFUSED_REQUESTS: Final = Table(
    "refused_requests",
    METADATA,
    *(Column(field.name, _TYPES[field.type], nullable=field.is_nullable) for field in fields_of(RefusedRequest)),
    PrimaryKeyConstraint("org", "at_ms", "id"),
    Index(None, "at_ms", "org", "id"),
    sqlite_with_rowid=False,
)
REFUSAL_FILES: Final = Table(
    "refusal_files",
    METADATA,
    Column("source", NAME, nullable=False),
    Column("lines", BigInteger, nullable=False),
    PrimaryKeyConstraint("source"),
)

# How far the limiter's streams are stored, by the times in the ids of their entries; see `continuity`.
# lacks_from_ms, lacks_until_ms: between them are entries that another state of this ledger took, and that this one lacks.
STREAM_POSITIONS: Final = Table(
    "stream_positions",
    METADATA,
    Column("partition", BigInteger, nullable=False),
    Column("taken_ms", BigInteger, nullable=False),
    Column("lacks_from_ms", BigInteger),
    Column("lacks_until_ms", BigInteger),
    PrimaryKeyConstraint("partition"),
)

# What everything came to since the ledger began, refused requests included; see `lifetime`. Nothing purges it, and no amount ever
# falls. Its labels were known to the configuration when they were counted, so their number is the operator's choice.
LIFETIME_TOTALS: Final = Table(
    "lifetime_totals",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("capability", NAME, nullable=False),
    Column("model", NAME, nullable=False),
    Column("outcome", NAME, nullable=False),
    Column("usage_source", NAME, nullable=False),
    *(Column(amount, BigInteger, nullable=False) for amount in LIFETIME_AMOUNTS),
    PrimaryKeyConstraint("org", "credential", "capability", "model", "outcome", "usage_source"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

# The cost in the lifetime totals by kind of unit (`lifetime_spend.SPENT_ON`). purged_nano_usd: what entries came to that retention
# has removed: with those that are left they make the rest again, less credits.
LIFETIME_SPEND: Final = Table(
    "lifetime_spend",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("capability", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    *(Column(amount, BigInteger, nullable=False) for amount in LIFETIME_SPEND_AMOUNTS),
    PrimaryKeyConstraint("org", "credential", "capability", "kind"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

# What retention has removed of the days' rollups, added up: with what is left it makes the lifetime totals again.
PURGED_TOTALS: Final = Table(
    "purged_totals",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("capability", NAME, nullable=False),
    *(Column(amount, BigInteger, nullable=False) for amount in PURGED_AMOUNTS),
    PrimaryKeyConstraint("org", "credential", "capability"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 70},
)

# Objects that upstreams keep for an organization. event_id: of the exchange that made it; empty for one that was adopted.
# tokens: the most that it can put into a later prompt, where that is known.
STORED_OBJECTS: Final = Table(
    "stored_objects",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("upstream", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("id", NAME, nullable=False),
    Column("credential", NAME, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("tokens", BigInteger),
    Column("event_id", NAME, nullable=False),
    PrimaryKeyConstraint("org", "upstream", "kind", "id"),
    Index(None, "org", "made_at_ms"),
    sqlite_with_rowid=False,
)

# Copies of settlements that wait in gateways' spools; see `spool_copies`. record: JSON of the account. A deferred exchange may have
# a second one, of its end.
SPOOL_COPIES: Final = Table(
    "spool_copies",
    METADATA,
    Column("id", NAME, nullable=False),
    Column("is_deferred", Boolean, nullable=False),
    Column("org", NAME, nullable=False),
    Column("gateway", NAME, nullable=False),
    Column("noted_at_ms", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    PrimaryKeyConstraint("id", "is_deferred"),
    Index(None, "noted_at_ms", "id"),
    Index(None, "org"),
)
