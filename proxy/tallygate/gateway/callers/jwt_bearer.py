"""Signed tokens (JWT, RFC 7519) as callers' credentials: verified against their issuer's keys, remembered until they expire."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec

from tallygate.config.directory import KEY_CHARS_MAX
from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.gateway.callers.clients import VerifiedClient
from tallygate.gateway.callers.jwt_keys import JwtKeys

VERIFIED_MAX: Final = 10_000  # remembered tokens of one issuer; beyond it the oldest is dropped, and verified again if it comes
_HEAD_CHARS_MAX: Final = 2_048  # of a token's own header
_KINDS_OF_TOKEN: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # `typ`, where it is given


class JwtRefusedError(Exception):
    """A token that identifies nobody. The text may be shown to its sender: it repeats nothing of the token."""


class _Head(msgspec.Struct):
    alg: str
    kid: str = ""
    typ: str = "JWT"
    crit: Any = None


class _Claims(msgspec.Struct):
    iss: str


class JwtVerifier:
    """Verifies the tokens of all issuers. One per configuration; unchanged issuers keep their keys and verified tokens."""

    def __init__(self, issuers: Mapping[str, "IssuerVerifier"]) -> None:
        self.issuers = issuers

    def recall(self, token: str) -> VerifiedClient | None:
        """The client of a token that was verified before and is still valid. Never waits."""
        digest = _digest(token)
        for issuer in self.issuers.values():
            found = issuer.recall(digest)
            if found is not None:
                return found
        return None

    async def verify(self, token: str) -> VerifiedClient:
        """Raises JwtRefusedError, and KeysUnavailableError where the issuer's keys cannot be had.

        Which issuer's keys apply is read before anything is verified; what is read counts only if those keys confirm it.
        """
        head, claims = _read_unverified(token)
        issuer = self.issuers.get(claims.iss)
        if issuer is None:
            raise JwtRefusedError("The token's issuer is not one that this gateway trusts.")
        return await issuer.verify(token, head)


class IssuerVerifier:
    """One issuer's tokens. now_ms: Unix time, which `exp` and `nbf` are compared with."""

    def __init__(self, config: JwtIssuer, keys: JwtKeys, *, now_ms: Callable[[], int]) -> None:
        self.config = config
        self.keys = keys
        self._now_ms = now_ms
        self._verified: dict[bytes, VerifiedClient] = {}
        self._key_changes = keys.changes

    def recall(self, digest: bytes) -> VerifiedClient | None:
        """The client of a token that was verified before. None outlives its keys: when the set changes, all are verified again."""
        self.keys.renew_if_due()
        self._forget_if_keys_changed()
        found = self._verified.get(digest)
        if found is not None and self._now_ms() >= found.expires_at_ms:
            del self._verified[digest]
            return None
        return found

    async def verify(self, token: str, head: _Head) -> VerifiedClient:
        """See JwtVerifier."""
        config = self.config
        if head.alg not in config.algorithms:
            raise JwtRefusedError("The token is not signed with an algorithm that this gateway accepts of its issuer.")
        keys = await self.keys.with_key(head.kid)
        key = keys.find(head.kid, head.alg)
        if key is None:
            raise JwtRefusedError("The token is signed with a key that its issuer does not publish.")
        client = self._read(_verified_claims(token, key, config, self._now_ms()))
        self._forget_if_keys_changed()
        while len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[_digest(token)] = client
        return client

    def _forget_if_keys_changed(self) -> None:
        if self._key_changes != self.keys.changes:
            self._key_changes = self.keys.changes
            self._verified.clear()

    def _read(self, claims: Mapping[str, Any]) -> VerifiedClient:
        config = self.config
        for name, value in config.required_claims:
            claim = claims.get(name)
            if type(claim) is not type(value) or claim != value:
                raise JwtRefusedError(f"The token's claim {name!r} does not have the value that this gateway asks for.")
        granted = claims.get("scope", "")
        if not isinstance(granted, str) or not set(config.scopes) <= set(granted.split()):
            raise JwtRefusedError(f"The token lacks a scope that this gateway asks for: {' '.join(config.scopes)}.")
        try:
            client_id, org = config.clients.client_of(claims)
        except ValueError as error:
            raise JwtRefusedError(f"The token {error}.") from None
        expires_at_ms = int(claims["exp"] * 1000) + config.leeway_ms
        return VerifiedClient(policy=config.clients, client_id=client_id, org=org, expires_at_ms=expires_at_ms)


def looks_like_jwt(key: str) -> bool:
    """Three parts, the first a JSON object in base64url: no key of ours, which holds no dots in its prefix, looks so."""
    return key.startswith("ey") and key.count(".") == 2 and len(key) <= KEY_CHARS_MAX


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read_unverified(token: str) -> tuple[_Head, _Claims]:
    head_part, payload_part, _ = token.split(".")
    try:
        if len(head_part) > _HEAD_CHARS_MAX:
            raise ValueError("too long")  # noqa: TRY301 - all of these are one refusal
        head = msgspec.json.decode(_unpacked(head_part), type=_Head)
        claims = msgspec.json.decode(_unpacked(payload_part), type=_Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise JwtRefusedError("The bearer token is not a well-formed signed token.") from None
    if head.crit is not None or head.typ.lower() not in _KINDS_OF_TOKEN:
        raise JwtRefusedError("The bearer token is of a kind that is not accepted here.")
    return head, claims


def _unpacked(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _verified_claims(token: str, key: jwt.PyJWK, config: JwtIssuer, now_ms: int) -> dict[str, Any]:
    """The claims, once signature, issuer, audience and times are found right. Raises JwtRefusedError.

    Times are compared here, on the clock that we were given: PyJWT would read the machine's.
    """
    options: Any = {
        "require": ["exp", "iss"],
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_aud": bool(config.audiences),
        "enforce_minimum_key_length": True,
    }
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[key.algorithm_name], issuer=config.issuer, audience=config.audiences or None, options=options
        )
    except jwt.InvalidAudienceError:
        raise JwtRefusedError("The token is for another audience.") from None
    except jwt.MissingRequiredClaimError:
        raise JwtRefusedError(
            "The token lacks a claim that every token must have: exp, iss, and aud where one is asked for."
        ) from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise JwtRefusedError("The token's signature or issuer is not right.") from None
    expires, begins = claims["exp"], claims.get("nbf", 0)
    if not _is_time(expires) or not _is_time(begins):
        raise JwtRefusedError("The token's times are not numbers.")
    if now_ms >= expires * 1000 + config.leeway_ms:
        raise JwtRefusedError("The token has expired. Fetch a new one.")
    if now_ms < begins * 1000 - config.leeway_ms:
        raise JwtRefusedError("The token is not valid yet.")
    return claims


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**40
