"""The tables of notices and of their deliveries. Times in Unix milliseconds, money in nano-USD."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table

from tallygate.ledger.schema import METADATA, NAME

# Of spend limits, with their amounts, and weekly digests, in JSON (`notices/digest.py`): they are about no limit.
NOTICES: Final = Table(
    "notices",
    METADATA,
    Column("event_id", NAME, nullable=False),
    Column("type", NAME, nullable=False),
    Column("org", NAME, nullable=False),
    Column("limit_key", NAME),
    Column("threshold_permille", BigInteger),
    Column("spent_nano_usd", BigInteger, nullable=False),
    Column("held_nano_usd", BigInteger),
    Column("limit_nano_usd", BigInteger),
    Column("refused_nano_usd", BigInteger),
    Column("resumes_at_ms", BigInteger),
    Column("at_ms", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("digest", NAME),
    PrimaryKeyConstraint("event_id"),
    Index(None, "at_ms", "event_id"),
    Index(None, "org", "at_ms", "event_id"),
    Index(None, "stored_at_ms"),
)

# One row for each endpoint that subscribed to the notice when it was stored. state: waiting, delivered, given_up.
# due_at_ms: next attempt. leased_until_ms: until then a process has leased it. ended_at_ms: when it ceased to wait.
DELIVERIES: Final = Table(
    "webhook_deliveries",
    METADATA,
    Column("event_id", NAME, nullable=False),
    Column("endpoint", NAME, nullable=False),
    Column("state", NAME, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("leased_until_ms", BigInteger, nullable=False),
    Column("last_status", BigInteger),
    Column("last_error", NAME),
    Column("queued_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    PrimaryKeyConstraint("event_id", "endpoint"),
    Index(None, "state", "endpoint", "due_at_ms"),
)

# Endpoints that answered 410 Gone, by the digest of their configuration: another configuration is another endpoint.
GONE_ENDPOINTS: Final = Table(
    "webhook_gone_endpoints",
    METADATA,
    Column("endpoint", NAME, nullable=False),
    Column("fingerprint", NAME, nullable=False),
    Column("gone_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("endpoint"),
)

# Results of attempts since the ledger began: never purged, updated with the delivery itself.
DELIVERY_TOTALS: Final = Table(
    "webhook_delivery_totals",
    METADATA,
    Column("result", NAME, nullable=False),
    Column("deliveries", BigInteger, nullable=False),
    PrimaryKeyConstraint("result"),
)

# The last week whose digest was made for an organization, or found to be needless, by its Monday: one row for each that was.
DIGEST_WEEKS: Final = Table(
    "digest_weeks",
    METADATA,
    Column("org", NAME, nullable=False),
    Column("first_day", NAME, nullable=False),
    PrimaryKeyConstraint("org"),
)
