"""organizations.yaml: who is billed, who may call, with each organization's limits merged into its plan."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tallygate.config.declared import read_declared, read_field
from tallygate.config.kinds import Identifier, declare
from tallygate.config.limits import (
    StatedSpendLimit,
    name_apart,
    name_own,
    rate_identity,
    read_rate_limits,
    read_spend_limits,
    spend_identity,
)
from tallygate.config.plans import StatedPlan
from tallygate.config.problems import nearest
from tallygate.config.section import Section, show
from tallygate.domain.declared import Instant
from tallygate.domain.money import usd_text
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, Credential, Organization, Plan
from tallygate.domain.rate_limit import LimitScope, RateLimit
from tallygate.domain.spend_limit import SpendLimit

RESERVED_ID: Final = "other"  # the label of everything without a label of its own
ORGANIZATIONS_MAX: Final = 1_000_000
CREDENTIALS_MAX: Final = 10_000  # of one organization
DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
ID: Final = declare("id", Identifier("The `org` label of metrics."), None, is_required=True)
CLIENT_ID: Final = declare("id", Identifier("The Client ID, the `credential` label of metrics."), None, is_required=True)
OLD_KEY_UNTIL: Final = declare("old_key_until", Instant("Until when the key before the last rotation is valid too."), None)
_OF_NOTHING: Final = hashlib.sha256(b"").hexdigest()


@dataclass(slots=True)
class _Seen:
    """Options of reading entries, and the lines where ids and digests first occurred.

    Each may occur once in the file, since keys and labels are made of them.
    needs_keys   every credential must have a key
    lowers       a spend limit above its plan's maximum is read as that maximum, without a problem
    """

    needs_keys: bool
    lowers: bool = False
    organizations: dict[str, int] = field(default_factory=dict)
    credentials: dict[str, int] = field(default_factory=dict)
    digests: dict[bytes, int] = field(default_factory=dict)


def read_organizations(
    document: Section, *, plans: Mapping[str, StatedPlan], capabilities: Collection[str], needs_keys: bool = True
) -> tuple[Organization, ...]:
    """Parse the list `organizations`. needs_keys: every credential must have a key, since nothing else could identify it."""
    document.require("organizations")
    seen = _Seen(needs_keys=needs_keys)
    found = []
    for item in document.sections("organizations", items_max=ORGANIZATIONS_MAX):
        organization = _read_organization(item, plans, capabilities, seen)
        item.close()
        if organization is not None:
            if organization.id == RESERVED_ID:
                item.place_of("id").problem(f"{RESERVED_ID!r} is no id: what has no label of its own is counted under it")
            found.append(organization)
    document.close()
    return tuple(found)


def read_organization(
    item: Section, *, plans: Mapping[str, StatedPlan], capabilities: Collection[str], needs_keys: bool = True, lowers: bool = False
) -> Organization | None:
    """Parse a single organization; None, with problems reported, if its id or plan is invalid.

    lowers   for an organization that was accepted under other plans: a spend limit above its plan's maximum becomes that maximum
    """
    found = _read_organization(item, plans, capabilities, _Seen(needs_keys=needs_keys, lowers=lowers))
    item.close()
    return found


def _read_organization(
    item: Section, plans: Mapping[str, StatedPlan], capabilities: Collection[str], seen: _Seen
) -> Organization | None:
    org = read_field(item, ID)
    item.require("plan")
    _report_repeat(item, "id", org, seen.organizations)
    stated = plans.get(item.parsed("plan", lambda name: _known(name, plans, "plan")) or "")
    plan = effective_plan(item, stated, capabilities, lowers=seen.lowers)
    own = read_declared(item, ORGANIZATION_FIELDS, capabilities=capabilities)
    credentials = []
    for section in item.sections("credentials", items_max=CREDENTIALS_MAX):
        credential = _read_credential(section, org or "", plan, capabilities, seen)
        section.close()
        if credential is not None:
            credentials.append(credential)
    if org is None or stated is None:
        return None
    return Organization(id=org, plan=plan, credentials=tuple(credentials), **own | {"name": own["name"] or org})


def effective_plan(item: Section, stated: StatedPlan | None, capabilities: Collection[str], *, lowers: bool) -> Plan:
    """The plan merged with the organization's limits: one that bounds the same thing replaces the plan's, others are added."""
    plan = stated.plan if stated else Plan(id="")
    own_rate = read_rate_limits(item)
    own_spend, lowered = _own_spend_limits(item, stated, lowers=lowers)
    if own_rate:
        _report_unknown_capabilities(item, own_rate, capabilities)
        rate = {rate_identity(limit): limit for limit in (*plan.rate_limits, *own_rate)}
        plan = replace(plan, rate_limits=name_apart(list(rate.values())))
    if own_spend:
        spend = {spend_identity(limit): limit for limit in (*plan.spend_limits, *own_spend)}
        plan = replace(plan, spend_limits=tuple(spend.values()), lowered=lowered)
    return plan


def _own_spend_limits(item: Section, stated: StatedPlan | None, *, lowers: bool) -> tuple[list[SpendLimit], tuple[str, ...]]:
    """The limits, and the names of those that were lowered to the plan's maximum."""
    bounds = {spend_identity(bound.limit): bound for bound in stated.spend} if stated else {}
    found, lowered = [], []
    for own in read_spend_limits(item):
        bound = bounds.get(spend_identity(own.limit))
        limit = own.limit
        if bound is not None:
            if lowers and _is_looser(limit, bound):
                lowered.append(limit.name)
                limit = replace(
                    limit,
                    limit_nano_usd=min(limit.limit_nano_usd, bound.max_nano_usd),
                    shadow=limit.shadow and bound.limit.shadow,
                )
            if limit.limit_nano_usd > bound.max_nano_usd:
                most, got = usd_text(bound.max_nano_usd), usd_text(limit.limit_nano_usd)
                own.place.problem(f"may only tighten the plan's maximum of {most} USD, got {got}")
            if limit.shadow and not bound.limit.shadow:
                own.place.problem("may only tighten the plan's limit, and shadow would lift it")
            if not own.states_warn_at:
                limit = replace(limit, warn_at_permille=bound.limit.warn_at_permille)
        found.append(limit)
    return found, tuple(lowered)


def _is_looser(limit: SpendLimit, bound: StatedSpendLimit) -> bool:
    return limit.limit_nano_usd > bound.max_nano_usd or (limit.shadow and not bound.limit.shadow)


def _read_credential(section: Section, org: str, plan: Plan, capabilities: Collection[str], seen: _Seen) -> Credential | None:
    client_id = read_field(section, CLIENT_ID)
    if seen.needs_keys:
        section.require("key_sha256")
    _report_repeat(section, "id", client_id, seen.credentials)
    digest, old_digest = _read_digest(section, "key_sha256", seen), _read_digest(section, "old_key_sha256", seen)
    old_until_ms = read_field(section, OLD_KEY_UNTIL)
    if ("old_key_sha256" in section) != ("old_key_until" in section):
        section.place.problem("must have old_key_sha256 and old_key_until together")
    rate_limits, spend_limits = credential_limits(section, plan, capabilities)
    credential = Credential(
        id=client_id or "",
        org=org,
        key_sha256=digest or b"",
        old_key_sha256=old_digest or b"",
        old_key_until_ms=old_until_ms or 0,
        **read_declared(section, CREDENTIAL_FIELDS, capabilities=capabilities),
        rate_limits=rate_limits,
        spend_limits=spend_limits,
    )
    return None if client_id is None or (digest is None and seen.needs_keys) else credential


def credential_limits(
    section: Section, plan: Plan, capabilities: Collection[str]
) -> tuple[tuple[RateLimit, ...], tuple[SpendLimit, ...]]:
    """A credential's own limits, beside those of its organization's effective plan."""
    rate = read_rate_limits(section, own_scope=LimitScope.CREDENTIAL)
    _report_unknown_capabilities(section, rate, capabilities)
    spend = read_spend_limits(section, own_scope=LimitScope.CREDENTIAL)
    return name_own(rate, plan.rate_limits), tuple(stated.limit for stated in spend)


def is_digest(text: str) -> bool:
    """Return whether the text is a key's digest, and not the digest of an empty key."""
    return DIGEST.fullmatch(text) is not None and text != _OF_NOTHING


def _read_digest(section: Section, key: str, seen: _Seen) -> bytes | None:
    text = section.plain(key)
    if text is None:
        return None
    if text == _OF_NOTHING:
        section.place_of(key).problem("is the digest of nothing: hash the key itself, without a line end")
        return None
    if not is_digest(text):  # the value may be the key itself: it is not shown
        section.place_of(key).problem("must be the 64 lower-case hex digits of a SHA-256 digest")
        return None
    digest = bytes.fromhex(text)
    if digest in seen.digests:
        section.place_of(key).problem(f"is the digest of another credential too, on line {seen.digests[digest]}")
        return None
    seen.digests[digest] = section.place_of(key).line
    return digest


def _report_repeat(section: Section, key: str, identifier: str | None, lines: dict[str, int]) -> None:
    if identifier is None:
        return
    place = section.place_of(key)
    if identifier in lines:
        place.problem(f"{identifier!r} is already used on line {lines[identifier]}")
    else:
        lines[identifier] = place.line


def _report_unknown_capabilities(section: Section, limits: Collection[RateLimit], capabilities: Collection[str]) -> None:
    for limit in limits:
        capability = limit.capability
        if capability is not None and capability not in capabilities:
            section.place_of("rate_limits").problem(
                f"names {show(capability)}, which is not a capability of any route{nearest(capability, capabilities)}"
            )


def _known(name: str, known: Collection[str], noun: str) -> str:
    if name not in known:
        raise ValueError(f"{show(name)} is not a {noun}{nearest(name, known)}")
    return name
