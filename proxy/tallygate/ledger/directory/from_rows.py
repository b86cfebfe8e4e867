"""Organizations from rows. Stored values already have their types: their kinds check them, and only limits are parsed."""

from collections.abc import Sequence
from typing import Any, Final

from tallygate.config.model import GatewayConfig
from tallygate.config.organizations import CREDENTIALS_MAX, credential_limits, effective_plan, is_digest
from tallygate.config.plain_values import FieldProblems, section_of
from tallygate.config.section import is_identifier
from tallygate.domain.declared import Instant, values_of
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, Credential, Organization, Plan
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization

_OF_ORGANIZATIONS: Final = tuple((declared.attribute, declared.kind.is_sound) for declared in ORGANIZATION_FIELDS)
_OF_CREDENTIALS: Final = tuple((declared.attribute, declared.kind.is_sound) for declared in CREDENTIAL_FIELDS)
_UNTIL: Final = Instant("")


def organization_from_rows(
    stored: StoredOrganization, credentials: Sequence[StoredCredential], config: GatewayConfig
) -> Organization | None:
    """The organization as the gateway serves it, merged with its plan; None if any value breaks a rule.

    A spend limit above its plan's maximum, which was lowered since, becomes that maximum.
    """
    stated, problems = config.stated_plans.get(stored.plan), FieldProblems()
    if stated is None or not (is_identifier(stored.id) and stored.name) or not _are_distinct(credentials):
        return None
    for attribute, is_sound in _OF_ORGANIZATIONS:
        if not is_sound(getattr(stored, attribute), config.capabilities):
            return None
    plan = stated.plan
    if stored.limits:
        section = section_of(dict(stored.limits), problems)
        plan = effective_plan(section, stated, config.capabilities, lowers=True)
        section.close()
    held = [_credential(credential, stored.id, plan, config, problems) for credential in credentials]
    found = tuple([credential for credential in held if credential is not None])
    if problems or len(found) < len(held):
        return None
    return Organization(id=stored.id, plan=plan, credentials=found, **values_of(ORGANIZATION_FIELDS, stored))


def _credential(
    stored: StoredCredential, org: str, plan: Plan, config: GatewayConfig, problems: FieldProblems
) -> Credential | None:
    for attribute, is_sound in _OF_CREDENTIALS:
        if not is_sound(getattr(stored, attribute), config.capabilities):
            return None
    values: dict[str, Any] = values_of(CREDENTIAL_FIELDS, stored)
    if stored.revoked_at_ms is not None:
        values["enabled"] = False
    if stored.old_key_sha256 is not None and stored.old_key_until_ms is not None:
        values["old_key_sha256"] = bytes.fromhex(stored.old_key_sha256)
        values["old_key_until_ms"] = stored.old_key_until_ms
    if stored.limits:
        section = section_of(dict(stored.limits), problems)
        values["rate_limits"], values["spend_limits"] = credential_limits(section, plan, config.capabilities)
        section.close()
    return Credential(
        id=stored.id, org=org, key_sha256=bytes.fromhex(stored.key_sha256 or ""), is_self_made=stored.is_self_made, **values
    )


def _are_distinct(credentials: Sequence[StoredCredential]) -> bool:
    """Return whether Client IDs and digests are valid, and each occurs once."""
    seen: set[str] = set()
    for credential in credentials:
        identifying = [credential.id]
        if credential.key_sha256 is not None:
            identifying.append(credential.key_sha256)
        if credential.old_key_sha256 is not None and credential.old_key_until_ms is not None:
            identifying.append(credential.old_key_sha256)
            if not _UNTIL.is_sound(credential.old_key_until_ms):
                return False
        if not (is_identifier(credential.id) and all(is_digest(digest) for digest in identifying[1:])):
            return False
        if not seen.isdisjoint(identifying) or len(set(identifying)) < len(identifying):
            return False
        seen.update(identifying)
    return len(credentials) <= CREDENTIALS_MAX
