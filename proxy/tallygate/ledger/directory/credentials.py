"""Credentials: created, changed, rotated and revoked. A key is shown by the call that creates it, and never again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, or_, select, update

from tallygate.config.directory import generate_key
from tallygate.config.section import is_identifier
from tallygate.domain.declared import values_of
from tallygate.domain.organization import CREDENTIAL_FIELDS, Credential, Organization
from tallygate.ledger.directory.changes import Change, Changes
from tallygate.ledger.directory.errors import ConflictError, InvalidChangeError, NotFoundError
from tallygate.ledger.directory.organizations import merged_limits, refuse_unknown, with_fields
from tallygate.ledger.directory.records import LIMIT_KEYS, StoredCredential, StoredOrganization
from tallygate.ledger.directory.rows import credentials_of, holder_of_key, the_credential, the_organization
from tallygate.ledger.directory.rules import CREDENTIALS_OF_ONE_MAX, Rules
from tallygate.ledger.directory.schema import CREDENTIALS, RETIRED_CLIENT_IDS
from tallygate.ledger.row_statements import run_in_sqlite, sqlite_text

FIELDS: Final = (*(declared.key for declared in CREDENTIAL_FIELDS), *LIMIT_KEYS)
OVERLAP_DEFAULT_MS: Final = 24 * 3_600_000
OVERLAP_MAX_MS: Final = 90 * 86_400_000
_NOTED_AT_ONCE: Final = 1_000  # rows of one transaction
_NOTE: Final = (
    update(CREDENTIALS)
    .where(
        CREDENTIALS.c.id == bindparam("client_id"),
        or_(CREDENTIALS.c.last_used_at_ms.is_(None), CREDENTIALS.c.last_used_at_ms < bindparam("at_ms")),
    )
    .values(last_used_at_ms=bindparam("at_ms"))
)
_NOTE_IN_SQLITE: Final = sqlite_text(_NOTE)  # which has the time, the Client ID and the time again


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """A credential as stored and as the gateway serves it. api_key: shown once, by the call that created it."""

    stored: StoredCredential
    organization: Organization
    api_key: str | None = field(default=None, repr=False)

    @property
    def effective(self) -> Credential:
        return next(credential for credential in self.organization.credentials if credential.id == self.stored.id)


class Credentials:
    """The credentials of the database. Raises like Organizations.

    random_bytes   `secrets.token_bytes`
    """

    def __init__(self, changes: Changes, rules: Rules, *, random_bytes: Callable[[int], bytes]) -> None:
        self._changes = changes
        self._rules = rules
        self._random_bytes = random_bytes

    async def create(self, actor: str, org: str, document: Mapping[str, Any], *, is_self_made: bool = False) -> CredentialState:
        """Create a credential. document: an entry of `credentials` in organizations.yaml. `key_sha256` is the caller's own key;
        without it a key is made, unless `has_key` is false: then only signed tokens that name its Client ID identify it.
        is_self_made: created by the organization itself, which is not enough to claim an issuer's client of that Client ID.
        """
        refuse_unknown(document, ("id", "key_sha256", "has_key", *FIELDS))
        given = {key: value for key, value in document.items() if key != "has_key" and value is not None}
        client_id, has_key = given.get("id"), document.get("has_key", True)
        if not isinstance(client_id, str) or not is_identifier(client_id):
            raise InvalidChangeError("id must be 1 to 64 of A-Z a-z 0-9 . _ -", param="id")
        if not isinstance(has_key, bool) or ("key_sha256" in given and not has_key):
            raise InvalidChangeError("has_key must be true or false, and true with key_sha256", param="has_key")
        self._rules.refuse_in_file(org=org)
        self._rules.refuse_in_file(credential=client_id)
        issued = generate_key(client_id, self._random_bytes) if has_key and "key_sha256" not in given else None
        async with self._changes.begin(actor) as change:
            organization = await the_organization(change.connection, org)
            await self._refuse_taken(change, org, client_id)
            if issued is not None:
                given["key_sha256"] = issued.key_sha256.hex()
            blank = StoredCredential(id=client_id, org=org, created_at_ms=change.at_ms, is_self_made=is_self_made)
            others = await credentials_of(change.connection, org)
            stored, effective = self._checked(change, organization, others, blank, given)
            stored = replace(stored, key_sha256=given.get("key_sha256"))
            await self._refuse_known_key(change, stored.key_sha256)
            await change.connection.execute(CREDENTIALS.insert().values(stored.row()))
            await change.log("credential.created", client_id, org=org, after=stored.shown(change.at_ms))
        return CredentialState(stored=stored, organization=effective, api_key=None if issued is None else issued.api_key)

    async def change(self, actor: str, org: str, client_id: str, fields: Mapping[str, Any]) -> CredentialState:
        """Change fields: each replaces the old value; None removes it."""
        refuse_unknown(fields, FIELDS)
        self._rules.refuse_in_file(org=org)
        async with self._changes.begin(actor) as change:
            organization = await the_organization(change.connection, org)
            before = await the_credential(change.connection, org, client_id)
            _refuse_revoked(before)
            others = [other for other in await credentials_of(change.connection, org) if other.id != client_id]
            after, effective = self._checked(change, organization, others, before, fields)
            await self._write(change, "credential.changed", before, after)
        return CredentialState(stored=after, organization=effective)

    async def rotate(
        self, actor: str, org: str, client_id: str, *, overlap_ms: int = OVERLAP_DEFAULT_MS, key_sha256: str | None = None
    ) -> CredentialState:
        """Rotate the key: the old one stays valid for overlap_ms, and one from an earlier rotation ends now.

        key_sha256: of the caller's own new key; without it a key is made.
        """
        if not 0 <= overlap_ms <= OVERLAP_MAX_MS:
            raise InvalidChangeError("overlap must be between 0 and 90 days", param="overlap")
        self._rules.refuse_in_file(org=org)
        issued = generate_key(client_id, self._random_bytes) if key_sha256 is None else None
        digest = issued.key_sha256.hex() if issued is not None else key_sha256
        async with self._changes.begin(actor) as change:
            organization = await the_organization(change.connection, org)
            before = await the_credential(change.connection, org, client_id)
            _refuse_revoked(before)
            await self._refuse_known_key(change, digest)
            overlaps = overlap_ms > 0 and before.key_sha256 is not None
            after = replace(
                before,
                key_sha256=digest,
                old_key_sha256=before.key_sha256 if overlaps else None,
                old_key_until_ms=change.at_ms + overlap_ms if overlaps else None,
                changed_at_ms=change.at_ms,
            )
            others = [other for other in await credentials_of(change.connection, org) if other.id != client_id]
            effective = self._rules.effective(organization, [*others, after])
            await self._write(change, "credential.rotated", before, after)
        return CredentialState(stored=after, organization=effective, api_key=None if issued is None else issued.api_key)

    async def revoke(self, actor: str, org: str, client_id: str) -> StoredCredential:
        """Revoke permanently: its keys, and the tokens that name it. Revoking again changes nothing."""
        self._rules.refuse_in_file(org=org)
        async with self._changes.begin(actor) as change:
            before = await the_credential(change.connection, org, client_id)
            if before.revoked_at_ms is not None:
                return before
            after = replace(
                before,
                key_sha256=None,
                old_key_sha256=None,
                old_key_until_ms=None,
                revoked_at_ms=change.at_ms,
                changed_at_ms=change.at_ms,
            )
            await self._write(change, "credential.revoked", before, after)
        return after

    async def release(self, actor: str, client_id: str) -> None:
        """Release a Client ID that was retired with its organization. Raises NotFoundError if it is not retired."""
        async with self._changes.begin(actor) as change:
            query = select(RETIRED_CLIENT_IDS.c.org).where(RETIRED_CLIENT_IDS.c.id == client_id)
            orgs = (await change.connection.execute(query)).scalars().all()
            if not orgs:
                raise NotFoundError(f"The Client ID {client_id!r} is not retired.")
            await change.connection.execute(delete(RETIRED_CLIENT_IDS).where(RETIRED_CLIENT_IDS.c.id == client_id))
            for org in orgs:
                await change.log("client_id.released", client_id, org=org)

    async def get(self, org: str, client_id: str) -> CredentialState:
        async with self._changes.database.read() as connection:
            organization = await the_organization(connection, org)
            stored = await the_credential(connection, org, client_id)
            credentials = await credentials_of(connection, org)
        return CredentialState(stored=stored, organization=self._rules.effective(organization, credentials))

    async def list(self, org: str) -> tuple[StoredCredential, ...]:
        async with self._changes.database.read() as connection:
            await the_organization(connection, org)
            return await credentials_of(connection, org)

    async def record_used(self, at_ms: Mapping[str, int]) -> None:
        """Record when credentials, by Client ID, were last used; an older time changes nothing. This is not logged as a change."""
        rows = sorted(at_ms.items())

        def note(some: Sequence[tuple[str, int]], connection: Connection) -> None:
            if self._changes.database.dialect == "sqlite":
                run_in_sqlite(connection, _NOTE_IN_SQLITE, [(at, client_id, at) for client_id, at in some])
            else:
                connection.execute(_NOTE, [{"client_id": client_id, "at_ms": at} for client_id, at in some])

        for start in range(0, len(rows), _NOTED_AT_ONCE):
            await self._changes.database.transact(partial(note, rows[start : start + _NOTED_AT_ONCE]))

    async def find(self, client_id: str) -> StoredCredential | None:
        """Find a credential by its unique Client ID alone, for operators who do not know the organization."""
        async with self._changes.database.read() as connection:
            row = (await connection.execute(select(CREDENTIALS).where(CREDENTIALS.c.id == client_id))).mappings().first()
        return None if row is None else StoredCredential.of_row(row)

    async def is_retired(self, client_id: str, *, org: str) -> bool:
        """Return whether the organization cannot use it, since it was revoked, or disabled with its deleted organization."""
        async with self._changes.database.read() as connection:
            return (await connection.execute(_retirements(client_id, org))).first() is not None

    def _checked(
        self,
        change: Change,
        organization: StoredOrganization,
        others: Sequence[StoredCredential],
        before: StoredCredential,
        fields: Mapping[str, Any],
    ) -> tuple[StoredCredential, Organization]:
        """The credential from its fields, checked by the rules of the file together with everything that it must agree with."""
        limits = merged_limits(before.limits, fields)
        first = with_fields(before.document(), fields, limits)
        try:
            effective = self._rules.parse(
                organization.document() | {"credentials": [first, *(other.document() for other in others)]},
                lowers=True,  # the organization's own limits are not being changed
            )
        except InvalidChangeError as error:
            raise _of_the_credential(error) from None
        read = effective.credentials[0]
        stored = replace(
            before,
            **values_of(CREDENTIAL_FIELDS, read),
            limits=limits,
            changed_at_ms=change.at_ms,
        )
        return stored, effective

    async def _refuse_taken(self, change: Change, org: str, client_id: str) -> None:
        taken = select(CREDENTIALS.c.org).where(CREDENTIALS.c.id == client_id)
        if (await change.connection.execute(taken)).scalar() is not None:  # the owner is not revealed
            raise ConflictError(f"The Client ID {client_id!r} is taken. Client IDs are never given twice.", param="id")
        if (await change.connection.execute(_retirements(client_id, org))).first() is not None:
            raise ConflictError(f"The Client ID {client_id!r} was revoked, for ever.", param="id")
        count = select(func.count()).select_from(CREDENTIALS).where(CREDENTIALS.c.org == org)
        if (await change.connection.execute(count)).scalar_one() >= CREDENTIALS_OF_ONE_MAX:
            raise ConflictError(f"Organization {org!r} has {CREDENTIALS_OF_ONE_MAX} credentials, the most that one may have.")

    async def _refuse_known_key(self, change: Change, digest: str | None) -> None:
        if digest is None:
            return
        self._rules.refuse_in_file(digest=digest)
        if await holder_of_key(change.connection, digest) is not None:
            raise ConflictError("This key is another credential's.", param="key_sha256")

    async def _write(self, change: Change, action: str, before: StoredCredential, after: StoredCredential) -> None:
        values = after.row()
        del values["last_used_at_ms"]  # recorded elsewhere, possibly meanwhile
        await change.connection.execute(update(CREDENTIALS).where(CREDENTIALS.c.id == after.id).values(values))
        await change.log(action, after.id, org=after.org, before=before.shown(change.at_ms), after=after.shown(change.at_ms))


def _retirements(client_id: str, org: str) -> Select[tuple[str]]:
    """Select retirements that bar the organization from the Client ID."""
    retired = RETIRED_CLIENT_IDS.c
    return select(retired.id).where(retired.id == client_id, or_(retired.org == org, ~retired.is_self_made))


def _refuse_revoked(credential: StoredCredential) -> None:
    if credential.revoked_at_ms is not None:
        raise ConflictError(f"Credential {credential.id!r} is revoked, for ever. Make another one.")


def _of_the_credential(error: InvalidChangeError) -> InvalidChangeError:
    """The error with paths that begin at the credential, which was parsed first."""
    texts = tuple(text.replace("credentials[0].", "", 1).replace("credentials[0] ", "", 1) for text in error.problems)
    param = None if error.param is None else error.param.replace("credentials[0].", "", 1)
    return InvalidChangeError(texts[0] if texts else error.message, param=param, problems=texts)
