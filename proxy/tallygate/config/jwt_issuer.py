"""Whose signed tokens (JWTs) identify callers, as authentication.yaml says. Reading: `authentication.py`."""

from dataclasses import dataclass, field
from enum import StrEnum


class UnknownClients(StrEnum):
    """What becomes of a valid token whose client is no credential here."""

    REFUSE = "refuse"
    CLAIMED_ORGANIZATION = "claimed_organization"  # it belongs to the organization that its own claim names
    ORGANIZATION = "organization"  # it belongs to the one that the configuration names


ClaimValue = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """One authorization server whose tokens are believed. Times in milliseconds.

    issuer           the `iss` of its tokens, compared exactly
    jwks_url         where its public keys are; or else key_set: their text, from a file
    jwks_ttl_ms      when they are read again; a token with an unknown key asks earlier, within bounds
    audiences        a token must be for one of them; empty: `aud` is not looked at (client-credentials tokens often have none)
    required_claims  claims that must have these very values, of the same kind: true is not 1; scopes: words that `scope` must hold
    org_claim        claim that must name the organization of the credential; "": not looked at
    organizations    ids that this issuer may speak for; empty: all
    shares_client_ids  one authority gives its Client IDs and those of the others that may speak for the same organizations
    """

    issuer: str
    jwks_url: str = ""
    key_set: bytes = field(default=b"", repr=False)
    jwks_ttl_ms: int = 3_600_000
    algorithms: tuple[str, ...] = ("RS256",)
    leeway_ms: int = 30_000
    audiences: tuple[str, ...] = ()
    required_claims: tuple[tuple[str, ClaimValue], ...] = ()
    scopes: tuple[str, ...] = ()
    client_claim: str = "client_id"
    org_claim: str = ""
    organizations: frozenset[str] = frozenset()
    unknown_clients: UnknownClients = UnknownClients.REFUSE
    unknown_clients_org: str = ""
    shares_client_ids: bool = False

    @property
    def bound_to(self) -> frozenset[str]:
        """The only organizations that its tokens admit to; empty: no such bound."""
        if self.unknown_clients is UnknownClients.ORGANIZATION:
            return frozenset({self.unknown_clients_org})
        return self.organizations

    def is_same_as(self, other: "JwtIssuer") -> bool:
        """Equal, kinds of claims included: to Python, True is 1."""
        return self == other and _kinds(self) == _kinds(other)

    def meets(self, other: "JwtIssuer") -> bool:
        """Whether there may be an organization that both speak for."""
        return not (self.bound_to and other.bound_to and self.bound_to.isdisjoint(other.bound_to))


def _kinds(issuer: JwtIssuer) -> list[type]:
    return [type(value) for _, value in issuer.required_claims]
