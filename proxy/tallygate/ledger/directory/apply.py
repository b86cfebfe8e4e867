"""Applying an organizations file, kept under review, to the database: the planned changes, and making them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tallygate.config.organizations import read_organizations
from tallygate.config.section import Section
from tallygate.domain.declared import CapabilitySet, Instant
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.credentials import FIELDS as CREDENTIAL_KEYS
from tallygate.ledger.directory.errors import ConflictError
from tallygate.ledger.directory.organizations import FIELDS as ORGANIZATION_KEYS
from tallygate.ledger.directory.organizations import PAGE_MAX
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization

_DEFAULTS: Final[Mapping[str, Any]] = {
    declared.key: declared.default for declared in (*ORGANIZATION_FIELDS, *CREDENTIAL_FIELDS) if declared.default
}


class Verb(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    ROTATE = "rotate"
    REVOKE = "revoke"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change. client_id: "" if it concerns the organization. before, after: the fields that differ."""

    verb: Verb
    org: str
    client_id: str = ""
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def subject(self) -> str:
        return f"credential {self.client_id} of {self.org}" if self.client_id else f"organization {self.org}"


def step_shown(step: Step) -> dict[str, Any]:
    return {
        "verb": step.verb.value,
        "organization": step.org,
        "credential": step.client_id or None,
        "before": dict(step.before),
        "after": dict(step.after),
    }


def check_document(document: Section, book: DirectoryBook) -> None:
    """Check a file of organizations as a whole, by the configuration in force; what is wrong becomes a problem of its place."""
    config = book.config()
    organizations = read_organizations(document, plans=config.stated_plans, capabilities=config.capabilities, needs_keys=False)
    for organization in organizations:
        if book.rules.in_file(organization.id) is not None:
            document.place.problem(f"has {organization.id!r}, which stands in organizations.yaml of the configuration too")
        for credential in organization.credentials:
            if credential.old_key_sha256:
                document.place.problem(
                    f"gives {credential.id!r} an old key: replace key_sha256, and apply keeps the old one for --overlap"
                )


async def steps_to(book: DirectoryBook, documents: Sequence[Mapping[str, Any]], *, prunes: bool) -> list[Step]:
    """The changes that bring the file's entries into the database. prunes: delete organizations and revoke credentials it lacks.

    Raises ConflictError for impossible changes: a credential that is revoked, or another organization's.
    """
    found: list[Step] = []
    stored = await _everything(book)
    documents = [_with_text_ids(document) for document in documents]
    for document in documents:
        org = document["id"]
        organization, credentials = stored.get(org, (None, {}))
        found += _organization_steps(document, organization)
        for wanted in document.get("credentials", ()):
            found += await _credential_steps(book, org, wanted, credentials.get(wanted["id"]))
        if prunes:
            kept = {wanted["id"] for wanted in document.get("credentials", ())}
            found += [
                Step(verb=Verb.REVOKE, org=org, client_id=client_id, before={"id": client_id}, after={})
                for client_id, credential in credentials.items()
                if client_id not in kept and credential.revoked_at_ms is None
            ]
    if prunes:
        kept = {document["id"] for document in documents}
        found += [
            Step(verb=Verb.DELETE, org=org, before=organization.document(), after={})
            for org, (organization, _) in stored.items()
            if org not in kept
        ]
    return found


async def apply_step(book: DirectoryBook, actor: str, step: Step, *, overlap_ms: int) -> None:
    """Make one change. Raises DirectoryError and LedgerUnavailableError; earlier steps stay in effect."""
    fields = {key: step.after.get(key) for key in {*step.before, *step.after}}
    match step.verb:
        case Verb.CREATE if step.client_id:
            await book.credentials.create(actor, step.org, {"has_key": "key_sha256" in step.after, **step.after})
        case Verb.CREATE:
            await book.organizations.create(actor, step.after)
        case Verb.CHANGE if step.client_id:
            await book.credentials.change(actor, step.org, step.client_id, fields)
        case Verb.CHANGE:
            await book.organizations.change(actor, step.org, fields)
        case Verb.ROTATE:
            await book.credentials.rotate(
                actor, step.org, step.client_id, overlap_ms=overlap_ms, key_sha256=step.after["key_sha256"]
            )
        case Verb.REVOKE:
            await book.credentials.revoke(actor, step.org, step.client_id)
        case Verb.DELETE:
            await book.organizations.delete(actor, step.org)


def _with_text_ids(document: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose ids are text, as `7` is none in YAML."""
    credentials = [{**credential, "id": str(credential["id"])} for credential in document.get("credentials", ())]
    return {**document, "id": str(document["id"]), "credentials": credentials}


def _organization_steps(document: Mapping[str, Any], stored: StoredOrganization | None) -> list[Step]:
    wanted = {key: document[key] for key in ("id", *ORGANIZATION_KEYS) if key in document}
    if stored is None:
        return [Step(verb=Verb.CREATE, org=wanted["id"], before={}, after=wanted)]
    before, after = _differences(stored.document(), {"name": stored.id, **wanted}, ORGANIZATION_KEYS)
    return [Step(verb=Verb.CHANGE, org=stored.id, before=before, after=after)] if before or after else []


async def _credential_steps(
    book: DirectoryBook, org: str, wanted: Mapping[str, Any], stored: StoredCredential | None
) -> list[Step]:
    client_id = wanted["id"]
    if stored is None:
        other = await book.credentials.find(client_id)
        if other is not None:
            raise ConflictError(f"Credential {client_id!r} is taken by another organization.", param="id")
        if await book.credentials.is_retired(client_id, org=org):
            raise ConflictError(f"Credential {client_id!r} was revoked, for ever: take it out of the file.", param="id")
        return [Step(verb=Verb.CREATE, org=org, client_id=client_id, before={}, after=dict(wanted))]
    if stored.revoked_at_ms is not None:
        raise ConflictError(f"Credential {client_id!r} is revoked, for ever: take it out of the file.", param="id")
    steps = []
    before, after = _differences(stored.document(), _comparable(wanted), CREDENTIAL_KEYS)
    if before or after:
        steps.append(Step(verb=Verb.CHANGE, org=org, client_id=client_id, before=before, after=after))
    key = wanted.get("key_sha256")
    if key is not None and key != stored.key_sha256:
        steps.append(
            Step(
                verb=Verb.ROTATE,
                org=org,
                client_id=client_id,
                before={"key_sha256": stored.key_sha256},
                after={"key_sha256": key},
            )
        )
    return steps


def _differences(now: Mapping[str, Any], wanted: Mapping[str, Any], fields: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for key in fields:
        old, new = now.get(key, _DEFAULTS.get(key)), wanted.get(key, _DEFAULTS.get(key))
        if old == new:
            continue
        if old is not None:
            before[key] = old
        if new is not None:
            after[key] = new
    return before, after


def _comparable(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The form in which a stored value is shown: a date is its midnight; the order of capabilities does not matter."""
    found = dict(wanted)
    for declared in CREDENTIAL_FIELDS:
        value = found.get(declared.key)
        match declared.kind:
            case Instant() if isinstance(value, str) and len(value) == len("2027-12-31"):
                found[declared.key] = f"{value}T00:00:00Z"
            case CapabilitySet() if isinstance(value, list):
                found[declared.key] = sorted(value)
    return found


async def _everything(
    book: DirectoryBook,
) -> dict[str, tuple[StoredOrganization, dict[str, StoredCredential]]]:
    found: dict[str, tuple[StoredOrganization, dict[str, StoredCredential]]] = {}
    after = ""
    while rows := await book.organizations.list(after=after, limit=PAGE_MAX):
        for organization, credentials in rows:
            found[organization.id] = (organization, {credential.id: credential for credential in credentials})
        after = rows[-1][0].id
    return found
