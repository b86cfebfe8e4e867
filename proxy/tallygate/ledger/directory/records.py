"""The rows of the directory, and their shown forms, which never contain a secret or a digest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from tallygate.domain.declared import Names, cells_of, shown_values
from tallygate.domain.instants import instant_text, optional_instant
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, CredentialFields, OrganizationFields

LIMIT_KEYS: Final = ("rate_limits", "spend_limit", "spend_limits")


class CredentialStatus(StrEnum):
    """The status of a credential. revoked is permanent; an expired or disabled credential can be enabled again."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Access(StrEnum):
    """The access of an admin token to the organizations that it sees."""

    METRICS = "metrics"  # /metrics, and nothing else
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOrganization(OrganizationFields):
    """A stored organization. limits: its own, as given, under LIMIT_KEYS."""

    id: str
    plan: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    created_at_ms: int = 0
    changed_at_ms: int = 0

    def document(self) -> dict[str, Any]:
        """The entry in the form of organizations.yaml, without its credentials."""
        return {"id": self.id, "plan": self.plan, **shown_values(ORGANIZATION_FIELDS, self), **self.limits}

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "plan": self.plan,
            **cells_of(ORGANIZATION_FIELDS, self),
            "limits": json.dumps(self.limits),
            "created_at_ms": self.created_at_ms,
            "changed_at_ms": self.changed_at_ms,
        }

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> "StoredOrganization":
        return cls(**{**row, "limits": _limits(row["limits"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential(CredentialFields):
    """A stored credential. Digests are hex, as in YAML. limits: see StoredOrganization; is_self_made: see Credential."""

    id: str
    org: str
    key_sha256: str | None = field(default=None, repr=False)
    old_key_sha256: str | None = field(default=None, repr=False)
    old_key_until_ms: int | None = None
    revoked_at_ms: int | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    created_at_ms: int = 0
    changed_at_ms: int = 0
    last_used_at_ms: int | None = None
    is_self_made: bool = False

    def document(self) -> dict[str, Any]:
        """The entry in the form of organizations.yaml, digests included: for parsing, not to be shown."""
        found: dict[str, Any] = {"id": self.id, **self.limits}
        for declared in CREDENTIAL_FIELDS:
            value = getattr(self, declared.attribute)
            if value != declared.default:
                found[declared.key] = declared.kind.shown(value)
        if self.revoked_at_ms is not None:
            found["enabled"] = False
        if self.key_sha256 is not None:
            found["key_sha256"] = self.key_sha256
        if self.old_key_sha256 is not None and self.old_key_until_ms is not None:
            found |= {"old_key_sha256": self.old_key_sha256, "old_key_until": instant_text(self.old_key_until_ms)}
        return found

    def shown(self, now_ms: int) -> dict[str, Any]:
        """The form for people and audit entries. has_key: whether a key identifies it (else only signed tokens do)."""
        return {
            "id": self.id,
            "organization": self.org,
            **shown_values(SHOWN_FIELDS, self),
            "status": self.status(now_ms).value,
            "has_key": self.key_sha256 is not None,
            "old_key_until": optional_instant(self.old_key_until_ms if self.old_key_sha256 else None),
            **self.limits,
            "created_at": instant_text(self.created_at_ms),
            "changed_at": instant_text(self.changed_at_ms),
            "last_used_at": optional_instant(self.last_used_at_ms),
            "revoked_at": optional_instant(self.revoked_at_ms),
        }

    def status(self, now_ms: int) -> CredentialStatus:
        if self.revoked_at_ms is not None:
            return CredentialStatus.REVOKED
        if not self.enabled:
            return CredentialStatus.DISABLED
        is_expired = self.expires_at_ms is not None and now_ms >= self.expires_at_ms
        return CredentialStatus.EXPIRED if is_expired else CredentialStatus.ACTIVE

    def row(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN_CREDENTIAL_FIELDS}
        return {**plain, **cells_of(CREDENTIAL_FIELDS, self), "limits": json.dumps(self.limits)}

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> "StoredCredential":
        values = dict(row)
        values["limits"] = _limits(row["limits"])
        for attribute, of_cell in _FIELD_CELLS:
            values[attribute] = of_cell(values[attribute])
        return cls(**values)


def _limits(text: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {} if text == "{}" else json.loads(text)  # most have none, and they are read by the thousand
    return found


SHOWN_FIELDS: Final = tuple(declared for declared in CREDENTIAL_FIELDS if declared.key != "enabled")  # which its status shows
_FIELD_CELLS: Final = tuple(
    (declared.attribute, declared.kind.of_cell) for declared in CREDENTIAL_FIELDS if isinstance(declared.kind, Names)
)
_PLAIN_CREDENTIAL_FIELDS: Final = tuple(
    each.name
    for each in fields(StoredCredential)
    if each.name != "limits" and each.name not in {declared.attribute for declared in CREDENTIAL_FIELDS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """An admin token. orgs: None for all, now and later; access: write includes read."""

    id: str
    name: str
    orgs: tuple[str, ...] | None
    access: Access
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    created_at_ms: int = 0

    def is_valid(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and (self.expires_at_ms is None or now_ms < self.expires_at_ms)

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "organizations": None if self.orgs is None else list(self.orgs),
            "access": self.access.value,
            "expires": optional_instant(self.expires_at_ms),
            "revoked_at": optional_instant(self.revoked_at_ms),
            "created_at": instant_text(self.created_at_ms),
        }

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> "AdminToken":
        values = {key: value for key, value in row.items() if key != "token_sha256"}
        return cls(
            **{**values, "orgs": None if row["orgs"] is None else tuple(json.loads(row["orgs"])), "access": Access(row["access"])}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change: author, time and subject, and its state before and after, None if it did not or does not exist."""

    id: int
    at_ms: int
    actor: str
    action: str
    org: str | None
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": instant_text(self.at_ms),
            "actor": self.actor,
            "action": self.action,
            "organization": self.org,
            "subject": self.subject,
            "before": self.before,
            "after": self.after,
        }
