"""The issuers whose signed tokens (JWTs) identify callers. `authentication.py` reads them from authentication.yaml."""

from dataclasses import dataclass, field

from tallygate.config.client_policy import ClientPolicy

ClaimValue = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """One authorization server whose tokens are trusted. Times in milliseconds.

    issuer           the `iss` of its tokens, compared exactly
    jwks_url         the URL of its public keys; or else key_set: their text, from a file
    jwks_ttl_ms      when they are fetched again; a token with an unknown key causes an earlier fetch, within bounds
    audiences        a token must be for one of them; empty: `aud` is not checked (client-credentials tokens often have none)
    required_claims  claims that must have these exact values, of the same type: true is not 1; scopes: words required in `scope`
    clients          the organizations that it may reach, and how its clients are identified
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
    clients: ClientPolicy = field(default_factory=ClientPolicy)

    def is_same_as(self, other: "JwtIssuer") -> bool:
        """Return whether both are equal, types of claims included: in Python, True equals 1."""
        return self == other and _kinds(self) == _kinds(other)


def _kinds(issuer: JwtIssuer) -> list[type]:
    return [type(value) for _, value in issuer.required_claims]
