"""Organizations, credentials, admin tokens and changes, as the API takes and gives them: what its document says of them.

Bodies are checked by the rules of organizations.yaml (ledger/directory/rules.py), which say more than a schema can.
"""

from typing import Any, Literal, NotRequired, TypedDict

from tallygate.console.declared_shapes import with_keys_of
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, PLAN_FIELDS
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS
from tallygate.domain.spend_limit import SPEND_LIMIT_FIELDS
from tallygate.ledger.directory.records import SHOWN_FIELDS


@with_keys_of(*RATE_LIMIT_FIELDS.values(), is_given=True, is_nullable=False)
class RateLimitGiven(TypedDict):
    """A rate limit as in plans.yaml: one of requests, tokens, open_requests; `window` for the first two."""


@with_keys_of(SPEND_LIMIT_FIELDS, is_given=True, is_nullable=False)
class SpendLimitGiven(TypedDict):
    """A spend limit as in plans.yaml. usd: a decimal, as text."""


class OwnLimits(TypedDict, total=False):
    """Limits of its own. A spend limit may only tighten the plan's maximum; null takes the own limits away."""

    rate_limits: list[RateLimitGiven] | None
    spend_limit: SpendLimitGiven | None
    spend_limits: list[SpendLimitGiven] | None


@with_keys_of(ORGANIZATION_FIELDS, is_given=True)
class OrganizationChange(OwnLimits, total=False):
    """time_zone: an IANA name, in which days and months of the organization begin. billing_day: 1 to 31, on which months do."""

    plan: str


@with_keys_of(ORGANIZATION_FIELDS, is_given=True)
class NewOrganization(OwnLimits):
    id: str
    plan: str


@with_keys_of(*RATE_LIMIT_FIELDS.values(), is_given=False)
class RateLimitShown(TypedDict):
    """A limit in effect: `requests`, `tokens` or `open_requests` says of what and how many."""

    name: str


@with_keys_of(SPEND_LIMIT_FIELDS, is_given=False)
class SpendLimitShown(TypedDict):
    name: str


@with_keys_of(PLAN_FIELDS, is_given=False, by="attribute")
class PlanLimits(TypedDict):
    rate_limits: list[RateLimitShown]
    spend_limits: list[SpendLimitShown]


class PlanShown(PlanLimits):
    """What a plan of plans.yaml allows."""

    id: str


class PlanList(TypedDict):
    """In the order of plans.yaml."""

    plans: list[PlanShown]


class OrganizationLimits(PlanLimits):
    """Limits that the gateway holds it to: the plan with its own limits merged in.

    lowered: names of its own spend limits for which the plan's maximum holds, which was lowered below them.
    """

    lowered: list[str]


@with_keys_of(ORGANIZATION_FIELDS, is_given=False)
class OrganizationListed(OwnLimits):
    """managed_by: file or database. credentials: how many there are."""

    id: str
    plan: str
    managed_by: Literal["file", "database"]
    credentials: int
    created_at: NotRequired[str]
    changed_at: NotRequired[str]


class OrganizationShown(OrganizationListed):
    effective: OrganizationLimits


class OrganizationPage(TypedDict):
    """next_cursor: the `cursor` of the next page; null on the last."""

    organizations: list[OrganizationListed]
    next_cursor: str | None


class OrganizationDeleted(TypedDict):
    id: str
    deleted: bool


@with_keys_of(CREDENTIAL_FIELDS, is_given=True)
class CredentialChange(OwnLimits, total=False):
    """expires: RFC 3339, or a day. capabilities, models: null for all."""


class NewCredential(CredentialChange):
    """key_sha256: of the caller's own key; without it one is made. has_key: false if only signed tokens identify it."""

    id: str
    key_sha256: NotRequired[str | None]
    has_key: NotRequired[bool]


class KeyRotation(TypedDict, total=False):
    """overlap: how long the key before holds, such as 24h, or 0s. key_sha256: of the caller's own new key."""

    overlap: str | None
    key_sha256: str | None


class CredentialLimits(TypedDict):
    """Limits of its own, on top of its organization's."""

    rate_limits: list[RateLimitShown]
    spend_limits: list[SpendLimitShown]


class ClientIdReleased(TypedDict):
    """The Client ID."""

    id: str


@with_keys_of(SHOWN_FIELDS, is_given=False)
class CredentialListed(OwnLimits):
    id: str
    organization: str
    status: Literal["active", "disabled", "expired", "revoked"]
    has_key: bool
    old_key_until: str | None
    managed_by: Literal["file", "database"]
    created_at: NotRequired[str]
    changed_at: NotRequired[str]
    last_used_at: NotRequired[str | None]
    revoked_at: NotRequired[str | None]


class CredentialShown(CredentialListed):
    """api_key: in the answer that made it, and in no other."""

    effective: CredentialLimits
    api_key: NotRequired[str]


class CredentialList(TypedDict):
    credentials: list[CredentialListed]


class NewToken(TypedDict):
    """organizations: ids; null or left out for all, now and later."""

    name: str
    access: Literal["read", "write", "metrics"]
    organizations: NotRequired[list[str] | None]
    expires: NotRequired[str | None]


class TokenListed(TypedDict):
    id: str
    name: str
    organizations: list[str] | None
    access: Literal["read", "write", "metrics"]
    expires: str | None
    revoked_at: str | None
    created_at: str


class TokenMade(TokenListed):
    """token: the secret, shown this once."""

    token: str


class TokenList(TypedDict):
    tokens: list[TokenListed]


class ChangeListed(TypedDict):
    """One change. before, after: the thing; null where it was not, or is no more."""

    id: int
    at: str
    actor: str
    action: str
    organization: str | None
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ChangePage(TypedDict):
    """next_cursor: the `cursor` of the next page; null on the last."""

    entries: list[ChangeListed]
    next_cursor: str | None


class NamedObjects(TypedDict):
    """Objects that an upstream keeps. upstream: as upstreams.yaml names it, `default` if left out."""

    kind: str
    ids: list[str]
    upstream: NotRequired[str]


class ObjectsAdopted(TypedDict):
    """adopted: how many were not the organization's before."""

    org: str
    adopted: int


class ObjectsForgotten(TypedDict):
    """forgotten: how many were the organization's."""

    org: str
    forgotten: int


class ObjectListed(TypedDict):
    """tokens: the most that it can put into a later prompt, if that is known. event_id: of the exchange that made it."""

    upstream: str
    kind: str
    id: str
    credential: str | None
    made_at: str
    tokens: int | None
    event_id: str | None


class ObjectPage(TypedDict):
    objects: list[ObjectListed]
    next_cursor: str | None
