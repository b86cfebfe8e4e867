"""The shown form of organizations: their given fields, and their limits in effect."""

from typing import Any

from tallygate.domain.declared import shown_values
from tallygate.domain.instants import instant_text, optional_instant
from tallygate.domain.organization import ORGANIZATION_FIELDS, PLAN_FIELDS, Credential, Organization, Plan
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS, RateLimit
from tallygate.domain.spend_limit import SPEND_LIMIT_FIELDS, SpendLimit
from tallygate.ledger.directory.records import SHOWN_FIELDS, StoredOrganization

FILE, DATABASE = "file", "database"  # where an organization is changed


def stored_shown(stored: StoredOrganization, *, credentials: int) -> dict[str, Any]:
    """An organization of the database. Its own limits have the keys of organizations.yaml."""
    return {
        **stored.document(),
        "managed_by": DATABASE,
        "credentials": credentials,
        "created_at": instant_text(stored.created_at_ms),
        "changed_at": instant_text(stored.changed_at_ms),
    }


def file_shown(organization: Organization) -> dict[str, Any]:
    """An organization of organizations.yaml, which alone has the given fields."""
    return {
        "id": organization.id,
        "plan": organization.plan.id,
        **shown_values(ORGANIZATION_FIELDS, organization),
        "managed_by": FILE,
        "credentials": len(organization.credentials),
    }


def effective_shown(organization: Organization) -> dict[str, Any]:
    """The limits in effect: the plan's, merged with the organization's own."""
    return {**plan_shown(organization.plan), "lowered": list(organization.plan.lowered)}


def plan_shown(plan: Plan) -> dict[str, Any]:
    """What a plan allows."""
    return {
        **{declared.attribute: declared.kind.shown(getattr(plan, declared.attribute)) for declared in PLAN_FIELDS},
        **limits_shown(plan),
    }


def limits_shown(holder: Plan | Credential) -> dict[str, Any]:
    """The limits of a plan, or a credential's own."""
    return {
        "rate_limits": [rate_shown(limit) for limit in holder.rate_limits],
        "spend_limits": [spend_shown(limit) for limit in holder.spend_limits],
    }


def file_credential_shown(credential: Credential, now_ms: int) -> dict[str, Any]:
    """A credential of organizations.yaml."""
    is_expired = credential.expires_at_ms is not None and now_ms >= credential.expires_at_ms
    return {
        "id": credential.id,
        "organization": credential.org,
        **shown_values(SHOWN_FIELDS, credential),
        "status": "disabled" if not credential.enabled else "expired" if is_expired else "active",
        "has_key": bool(credential.key_sha256),
        "old_key_until": optional_instant(credential.old_key_until_ms if credential.old_key_sha256 else None),
        "managed_by": FILE,
    }


def rate_shown(limit: RateLimit) -> dict[str, Any]:
    return {"name": limit.name, **shown_values(RATE_LIMIT_FIELDS[limit.quantity], limit)}


def spend_shown(limit: SpendLimit) -> dict[str, Any]:
    return {"name": limit.name, **shown_values(SPEND_LIMIT_FIELDS, limit)}
