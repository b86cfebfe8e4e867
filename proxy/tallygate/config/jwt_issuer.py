"""The issuers whose signed tokens (JWTs) identify callers. `authentication.py` reads them from authentication.yaml."""

from dataclasses import dataclass, field

from tallygate.config.client_policy import ClientPolicy

ClaimValue = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """One authorization server whose tokens are believed. Times in milliseconds.

    issuer           the `iss` of its tokens, compared exactly
    jwks_url         where its public keys are; or else key_set: their text, from a file
    jwks_ttl_ms      when they are read again; a token with an unknown key asks earlier, within bounds
    audiences        a token must be for one of them; empty: `aud` is not looked at (client-credentials tokens often have none)
    required_claims  claims that must have these very values, of the same kind: true is not 1; scopes: words that `scope` must hold
    clients          whom it may speak for
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
        """Equal, kinds of claims included: to Python, True is 1."""
        return self == other and _kinds(self) == _kinds(other)


def _kinds(issuer: JwtIssuer) -> list[type]:
    return [type(value) for _, value in issuer.required_claims]
