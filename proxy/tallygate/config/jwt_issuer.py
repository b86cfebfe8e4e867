"""The issuers whose signed tokens (JWTs) identify callers. `authentication.py` reads them from authentication.yaml."""

from dataclasses import dataclass, field
from typing import Annotated, Final

from tallygate.config.client_policy import WORD, ClientPolicy, word
from tallygate.config.key_set import ALGORITHMS
from tallygate.config.kinds import Words
from tallygate.config.problems import nearest
from tallygate.config.section import show
from tallygate.domain.declared import Duration, Text, declared_fields

ClaimValue = str | int | bool
ISSUER_CHARS_MAX: Final = 1024


def algorithm(name: str) -> str:
    """A signature algorithm that a public key verifies. Raises ValueError."""
    if name in ALGORITHMS:
        return name
    if name.lower() == "none" or name.startswith("HS"):
        raise ValueError(f"{show(name)} would let anyone sign; use a public-key algorithm: {', '.join(ALGORITHMS)}")
    raise ValueError(f"{show(name)} is not a signature algorithm{nearest(name, ALGORITHMS)}")


SIGNATURES: Final = Words("Accepted for signatures.", parse=algorithm, items_max=len(ALGORITHMS), options=tuple(ALGORITHMS))
LEEWAY: Final = Duration("By which clocks may differ.", 1, 300_000, key="leeway")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIssuer:
    """One authorization server whose tokens are trusted. Times in milliseconds.

    jwks_url         the URL of its public keys; or else key_set: their text, from a file
    jwks_ttl_ms      a token with an unknown key causes an earlier fetch, within bounds
    audiences        empty: `aud` is not checked (client-credentials tokens often have none)
    required_claims  claims that must have these exact values, of the same type: true is not 1
    clients          the organizations that it may reach, and how its clients are identified
    """

    issuer: Annotated[str, Text("The `iss` of its tokens, compared exactly.", ISSUER_CHARS_MAX)]
    jwks_url: str = ""
    key_set: bytes = field(default=b"", repr=False)
    jwks_ttl_ms: Annotated[int, Duration("When its public keys are fetched again.", 60_000, 86_400_000, key="jwks_ttl")] = 3_600_000
    algorithms: Annotated[tuple[str, ...], SIGNATURES] = ("RS256",)
    leeway_ms: Annotated[int, LEEWAY] = 30_000
    audiences: Annotated[
        tuple[str, ...], Words("A token must be for one of them; else `aud` is not checked.", parse=word, pattern=WORD)
    ] = ()
    required_claims: tuple[tuple[str, ClaimValue], ...] = ()
    scopes: Annotated[tuple[str, ...], Words("Words that a token's `scope` must have.", parse=word, pattern=WORD)] = ()
    clients: ClientPolicy = field(default_factory=ClientPolicy)

    def is_same_as(self, other: "JwtIssuer") -> bool:
        """Return whether both are equal, types of claims included: in Python, True equals 1."""
        return self == other and _kinds(self) == _kinds(other)


ISSUER_FIELDS: Final = declared_fields(JwtIssuer)


def _kinds(issuer: JwtIssuer) -> list[type]:
    return [type(value) for _, value in issuer.required_claims]
