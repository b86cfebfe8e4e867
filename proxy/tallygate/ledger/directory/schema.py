"""The directory's tables. Times in Unix milliseconds; lists, limits and the states in audit entries are JSON texts.

Every change first increments `directory_version`, in its own transaction. So writers wait for each other,
and a reader of version n finds everything later in the audit entries above n.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, UniqueConstraint, false

from tallygate.domain.declared import CapabilitySet, Declared, Flag, Instant, Kind, ModelPatterns, Text, TimeZone, WholeNumber
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS
from tallygate.ledger.schema import METADATA, NAME, SERIAL

_TYPES: Final[Mapping[type[Kind], Any]] = {
    Text: NAME,
    Flag: Boolean,
    WholeNumber: BigInteger,
    Instant: BigInteger,
    TimeZone: NAME,
    CapabilitySet: NAME,
    ModelPatterns: NAME,
}


def _column(declared: Declared) -> Column[Any]:
    return Column(declared.attribute, _TYPES[type(declared.kind)], nullable=declared.default is None)


DIRECTORY_VERSION: Final = Table(
    "directory_version",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # one row, 1
    Column("version", BigInteger, nullable=False),
)

# limits: {"rate_limits": [...], "spend_limits": [...]} as given, before the plan is merged in
ORGANIZATIONS: Final = Table(
    "organizations",
    METADATA,
    Column("id", NAME, primary_key=True),
    *(_column(declared) for declared in ORGANIZATION_FIELDS),
    Column("plan", NAME, nullable=False),
    Column("limits", NAME, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)

# Digests in hex. A revoked credential keeps its row without digests: its Client ID is never given again.
# is_self_made: created by an admin token of its organization, so that nobody else has confirmed the owner of the Client ID.
CREDENTIALS: Final = Table(
    "credentials",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("org", NAME, nullable=False),
    *(_column(declared) for declared in CREDENTIAL_FIELDS),
    Column("key_sha256", NAME),
    Column("old_key_sha256", NAME),
    Column("old_key_until_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("limits", NAME, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("is_self_made", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("key_sha256", name="uq_credentials_key_sha256"),
    Index(None, "org", "id"),
)

# Client IDs that were revoked or disabled when their organization was deleted: neither keys nor signed tokens bring them back.
# is_self_made, as above: they are retired for that organization alone, else for all.
RETIRED_CLIENT_IDS: Final = Table(
    "retired_client_ids",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("org", NAME, primary_key=True),
    Column("is_self_made", Boolean, nullable=False),
    Column("retired_at_ms", BigInteger, nullable=False),
    Index(None, "org"),
)

# orgs: the organizations it may see, as a JSON list; NULL: all
ADMIN_TOKENS: Final = Table(
    "admin_tokens",
    METADATA,
    Column("id", NAME, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("token_sha256", NAME, nullable=False),
    Column("orgs", NAME),
    Column("access", NAME, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("token_sha256", name="uq_admin_tokens_token_sha256"),
)

# Browsers in which somebody has signed in, by the digest of the cookie. orgs: as of an admin token.
CONSOLE_SESSIONS: Final = Table(
    "console_sessions",
    METADATA,
    Column("secret_sha256", NAME, primary_key=True),
    Column("method", NAME, nullable=False),
    Column("actor", NAME, nullable=False),
    Column("source", NAME, nullable=False),
    Column("name", NAME, nullable=False),
    Column("access", NAME, nullable=False),
    Column("orgs", NAME),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index(None, "actor", "seen_at_ms"),
    Index(None, "seen_at_ms"),
)

# Links that sign in once, by the digest of the secret in them.
SIGN_IN_LINKS: Final = Table(
    "sign_in_links",
    METADATA,
    Column("secret_sha256", NAME, primary_key=True),
    Column("actor", NAME, nullable=False),
    Column("name", NAME, nullable=False),
    Column("access", NAME, nullable=False),
    Column("orgs", NAME),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)

# Append-only: triggers refuse UPDATE and DELETE.
AUDIT_LOG: Final = Table(
    "audit_log",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("version", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", NAME, nullable=False),
    Column("action", NAME, nullable=False),
    Column("org", NAME),
    Column("subject", NAME, nullable=False),
    Column("before", NAME),
    Column("after", NAME),
    Index(None, "version"),
    Index(None, "org", "id"),
)
