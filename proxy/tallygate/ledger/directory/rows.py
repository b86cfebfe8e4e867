"""Reading organizations and their credentials."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.directory.errors import NotFoundError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.schema import CREDENTIALS, ORGANIZATIONS


async def the_organization(connection: AsyncConnection, org: str) -> StoredOrganization:
    """Read an organization. Raises NotFoundError."""
    row = (await connection.execute(select(ORGANIZATIONS).where(ORGANIZATIONS.c.id == org))).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no organization {org!r}.")
    return StoredOrganization.of_row(row)


async def the_credential(connection: AsyncConnection, org: str, client_id: str) -> StoredCredential:
    """Read a credential. Raises NotFoundError, even if another organization has it."""
    query = select(CREDENTIALS).where(CREDENTIALS.c.id == client_id, CREDENTIALS.c.org == org)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFoundError(f"Organization {org!r} has no credential {client_id!r}.")
    return StoredCredential.of_row(row)


async def credentials_of(connection: AsyncConnection, org: str) -> tuple[StoredCredential, ...]:
    query = select(CREDENTIALS).where(CREDENTIALS.c.org == org).order_by(CREDENTIALS.c.id)
    return tuple(StoredCredential.of_row(row) for row in (await connection.execute(query)).mappings())


async def organizations_with_credentials(
    connection: AsyncConnection, *, ids: Collection[str] | None = None, after: str = "", limit: int
) -> Sequence[tuple[StoredOrganization, tuple[StoredCredential, ...]]]:
    """Rows in the order of their ids. ids: only these; after: only ids above it."""
    query = select(ORGANIZATIONS).where(ORGANIZATIONS.c.id > after).order_by(ORGANIZATIONS.c.id).limit(limit)
    if ids is not None:
        query = query.where(ORGANIZATIONS.c.id.in_(list(ids)))
    organizations = [StoredOrganization.of_row(row) for row in await _plain_rows(connection, query)]
    if not organizations:
        return []
    found: dict[str, list[StoredCredential]] = defaultdict(list)
    theirs = select(CREDENTIALS).order_by(CREDENTIALS.c.org, CREDENTIALS.c.id)
    theirs = theirs.where(CREDENTIALS.c.org >= organizations[0].id, CREDENTIALS.c.org <= organizations[-1].id)
    if ids is not None:
        theirs = theirs.where(CREDENTIALS.c.org.in_([item.id for item in organizations]))
    for row in await _plain_rows(connection, theirs):
        found[row["org"]].append(StoredCredential.of_row(row))
    return [(organization, tuple(found[organization.id])) for organization in organizations]


async def _plain_rows(connection: AsyncConnection, query: Select[Any]) -> list[dict[str, Any]]:
    """Rows as dictionaries: iterating over SQLAlchemy's own mappings takes several times as long."""
    result = await connection.execute(query)
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


async def holder_of_key(connection: AsyncConnection, digest: str) -> str | None:
    """The Client ID of the credential with this key, current or from before its rotation."""
    query = select(CREDENTIALS.c.id).where(or_(CREDENTIALS.c.key_sha256 == digest, CREDENTIALS.c.old_key_sha256 == digest))
    return (await connection.execute(query.limit(1))).scalar()
