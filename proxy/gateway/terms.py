"""Which limits bind a caller at a capability, and under which bucket keys."""

from dataclasses import dataclass

from proxy.domain.organization import Credential, Organization
from proxy.domain.rate_limit import LimitScope, Quantity, RateLimit
from proxy.domain.spend_limit import SpendLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Limits with their keys, in the order in which they are demanded. Equal keys within an organization are the same bucket.

    needs_tokens   whether a limit depends on the estimate of tokens; without one, no request is tokenized before it is sent
    names          limit name by key, for metrics and refusals
    """

    rate: tuple[tuple[str, RateLimit], ...]
    spend: tuple[tuple[str, SpendLimit], ...]
    needs_tokens: bool
    names: dict[str, str]


def terms_of(organization: Organization, credential: Credential, capability: str) -> Terms:
    """The organization's and the credential's limits that apply to `capability`."""
    rate = [
        (_rate_key(limit, credential, own=own), limit)
        for own, limits in ((False, organization.plan.rate_limits), (True, credential.rate_limits))
        for limit in limits
        if limit.capability is None or limit.capability == capability
    ]
    spend = [
        (f"cred:{credential.id}:{limit.name}" if own or limit.scope is LimitScope.CREDENTIAL else f"org:{limit.name}", limit)
        for own, limits in ((False, organization.plan.spend_limits), (True, credential.spend_limits))
        for limit in limits
    ]
    return Terms(
        rate=tuple(rate),
        spend=tuple(spend),
        needs_tokens=bool(spend) or any(limit.quantity is Quantity.TOKENS for _, limit in rate),
        names={key: limit.name for key, limit in rate} | {key: limit.name for key, limit in spend},
    )


def _rate_key(limit: RateLimit, credential: Credential, *, own: bool) -> str:
    scope = f"cred:{credential.id}" if own or limit.scope is LimitScope.CREDENTIAL else "org"
    kind = "own:" if own else ""
    narrowed = f":{limit.capability}" if limit.capability else ""
    return f"{scope}:{kind}{limit.name}{narrowed}"
