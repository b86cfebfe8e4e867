"""Organizations: created, changed, deleted and listed."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import delete, select, update

from tallygate.config.organizations import RESERVED_ID
from tallygate.domain.declared import values_of
from tallygate.domain.money import usd_text
from tallygate.domain.organization import ORGANIZATION_FIELDS, Organization
from tallygate.ledger.directory.changes import Change, Changes
from tallygate.ledger.directory.errors import ConflictError, InvalidChangeError, OperatorNeededError
from tallygate.ledger.directory.objects import Unmark, remove_all_objects
from tallygate.ledger.directory.records import LIMIT_KEYS, AdminToken, StoredCredential, StoredOrganization
from tallygate.ledger.directory.rows import credentials_of, organizations_with_credentials, the_organization
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.directory.schema import ADMIN_TOKENS, CREDENTIALS, ORGANIZATIONS, RETIRED_CLIENT_IDS
from tallygate.ledger.directory.sign_ins import narrow_sign_ins, wait_for_sign_ins

PAGE_MAX: Final = 1_000
FIELDS: Final = ("plan", *(declared.key for declared in ORGANIZATION_FIELDS), *LIMIT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationState:
    """An organization as stored, and as the gateway serves it: its plan merged with its own limits."""

    stored: StoredOrganization
    credentials: tuple[StoredCredential, ...]
    effective: Organization


class Organizations:
    """The organizations of the database. Every change returns the new state, limits in effect included.

    Raises InvalidChangeError, NotFoundError, ConflictError, ManagedByFileError and LedgerUnavailableError.
    """

    def __init__(self, changes: Changes, rules: Rules, unmark: Unmark) -> None:
        self._changes = changes
        self._rules = rules
        self._unmark = unmark

    async def create(self, actor: str, document: Mapping[str, Any]) -> OrganizationState:
        """Create an organization. document: an entry of organizations.yaml without `credentials`."""
        refuse_unknown(document, ("id", *FIELDS))
        org = document.get("id")
        if not isinstance(org, str):
            raise InvalidChangeError("has no `id`", param="id")
        if org == RESERVED_ID:
            raise InvalidChangeError(f"id must not be {RESERVED_ID!r}", param="id")
        self._rules.refuse_in_file(org=org)
        async with self._changes.begin(actor) as change:
            if (await change.connection.execute(select(ORGANIZATIONS.c.id).where(ORGANIZATIONS.c.id == org))).scalar():
                raise ConflictError(f"There is an organization {org!r} already.", param="id")
            effective = self._rules.parse(dict(document))
            blank = StoredOrganization(id=org, plan="", created_at_ms=change.at_ms)
            stored = _changed(blank, effective, merged_limits({}, document), change.at_ms)
            await change.connection.execute(ORGANIZATIONS.insert().values(stored.row()))
            await change.log("organization.created", org, org=org, after=stored.document())
        return OrganizationState(stored=stored, credentials=(), effective=effective)

    async def change(self, actor: str, org: str, fields: Mapping[str, Any], *, may_raise: bool = True) -> OrganizationState:
        """Change fields: each replaces the old value; None removes it.

        may_raise: False if the organization itself changes its spend limit, which may only become tighter: the one in
        effect may be what the operator allows. Raises OperatorNeededError for one that does not.
        """
        refuse_unknown(fields, FIELDS)
        if "plan" in fields and fields["plan"] is None:
            raise InvalidChangeError("plan must be text, got nothing", param="plan")
        self._rules.refuse_in_file(org=org)
        async with self._changes.begin(actor) as change:
            before = await the_organization(change.connection, org)
            credentials = await credentials_of(change.connection, org)
            limits = merged_limits(before.limits, fields)
            entry = with_fields(before.document(), fields, limits)
            effective = self._rules.parse(
                entry | {"credentials": [credential.document() for credential in credentials]},
                lowers=fields.keys().isdisjoint(("plan", *LIMIT_KEYS)),  # values that are not changed need not be fixed
            )
            if not may_raise:
                _refuse_raised(self._rules.effective(before, credentials), effective)
            after = _changed(before, effective, limits, change.at_ms)
            await self._write(change, before, after)
        return OrganizationState(stored=after, credentials=credentials, effective=effective)

    async def delete(self, actor: str, org: str) -> None:
        """Delete it with its credentials and its ownership of stored objects. Its usage stays in the ledger under the same names.

        Only Client IDs of active credentials become free. Revoked or disabled ones stay retired for everybody, or, if this
        organization chose the Client ID itself, for it alone.
        Admin tokens lose the organization, and one without any other is revoked: a later holder of the id is somebody else.
        """
        self._rules.refuse_in_file(org=org)
        async with self._changes.begin(actor) as change:
            before = await the_organization(change.connection, org)
            credentials = await credentials_of(change.connection, org)
            retired = [
                {"id": credential.id, "org": org, "is_self_made": credential.is_self_made, "retired_at_ms": change.at_ms}
                for credential in credentials
                if credential.revoked_at_ms is not None or not credential.enabled
            ]
            if retired:
                await change.connection.execute(RETIRED_CLIENT_IDS.insert(), retired)
            for credential in credentials:
                await change.log("credential.deleted", credential.id, org=org, before=credential.shown(change.at_ms))
            await _narrow_tokens(change, org)
            await wait_for_sign_ins(self._changes.database, change.connection)
            await narrow_sign_ins(change.connection, org)
            await change.connection.execute(delete(CREDENTIALS).where(CREDENTIALS.c.org == org))
            await change.connection.execute(delete(ORGANIZATIONS).where(ORGANIZATIONS.c.id == org))
            gone = await remove_all_objects(change, org)
            await change.log("organization.deleted", org, org=org, before=before.document())
        await self._unmark(org, gone)

    async def get(self, org: str) -> OrganizationState:
        async with self._changes.database.read() as connection:
            stored = await the_organization(connection, org)
            credentials = await credentials_of(connection, org)
        return OrganizationState(stored=stored, credentials=credentials, effective=self._rules.effective(stored, credentials))

    async def list(
        self, *, ids: Collection[str] | None = None, after: str = "", limit: int = 100
    ) -> Sequence[tuple[StoredOrganization, tuple[StoredCredential, ...]]]:
        """A page in the order of ids. ids: only these."""
        async with self._changes.database.read() as connection:
            return await organizations_with_credentials(connection, ids=ids, after=after, limit=min(limit, PAGE_MAX))

    async def _write(self, change: Change, before: StoredOrganization, after: StoredOrganization) -> None:
        await change.connection.execute(update(ORGANIZATIONS).where(ORGANIZATIONS.c.id == after.id).values(after.row()))
        await change.log("organization.changed", after.id, org=after.id, before=before.document(), after=after.document())


def _refuse_raised(before: Organization, after: Organization) -> None:
    for limit in before.plan.spend_limits:
        if not any(other.is_within(limit) for other in after.plan.spend_limits):
            most = f"{usd_text(limit.limit_nano_usd)} USD ({limit.name})"
            raise OperatorNeededError(
                f"spend_limit: must stay within the limit in effect, {most}: raising it takes an admin token for all organizations",
                param="spend_limit",
            )


async def _narrow_tokens(change: Change, org: str) -> None:
    query = select(ADMIN_TOKENS).where(ADMIN_TOKENS.c.orgs.is_not(None), ADMIN_TOKENS.c.revoked_at_ms.is_(None))
    for row in (await change.connection.execute(query)).mappings().all():
        before = AdminToken.of_row(row)
        if before.orgs is None or org not in before.orgs:
            continue
        left = tuple(other for other in before.orgs if other != org)
        after = replace(before, orgs=left) if left else replace(before, revoked_at_ms=change.at_ms)
        values = {"orgs": json.dumps(left)} if left else {"revoked_at_ms": change.at_ms}
        await change.connection.execute(update(ADMIN_TOKENS).where(ADMIN_TOKENS.c.id == before.id).values(values))
        action = "token.narrowed" if left else "token.revoked"
        await change.log(action, before.id, org=None, before=before.shown(), after=after.shown())


def _changed(before: StoredOrganization, read: Organization, limits: Mapping[str, Any], at_ms: int) -> StoredOrganization:
    """The changed entry, checked by the rules."""
    values = values_of(ORGANIZATION_FIELDS, read)
    return replace(before, plan=read.plan.id, limits=limits, changed_at_ms=at_ms, **values)


def with_fields(document: Mapping[str, Any], fields: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with these fields and limits; None removes a field."""
    placed = {key: value for key, value in {**document, **fields}.items() if value is not None and key not in LIMIT_KEYS}
    return placed | dict(limits)


def merged_limits(limits: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Own limits, replaced by those in `fields`. A single spend limit and a list replace each other."""
    given = {key: fields[key] for key in LIMIT_KEYS if key in fields}
    spends = [key for key in ("spend_limit", "spend_limits") if given.get(key) is not None]
    kept = {key: value for key, value in limits.items() if not (spends and key.startswith("spend_limit"))}
    return {key: value for key, value in (kept | given).items() if value is not None}


def refuse_unknown(fields: Mapping[str, Any], known: Collection[str]) -> None:
    for key in fields:
        if key not in known:
            raise InvalidChangeError(f"{key} is not a known key; known: {', '.join(known)}", param=key)
