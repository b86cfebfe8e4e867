"""ID tokens of an OpenID provider (OpenID Connect Core 1.0, section 3.1.3.7): whom a sign-in is of, once everything is right."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

from tallygate.config.key_set import KeySet
from tallygate.config.sign_in import OpenIdProvider

TOKEN_CHARS_MAX: Final = 65_536  # groups make them long
AGE_MS_MAX: Final = 600_000  # of a token that comes from the provider itself
_HEAD_CHARS_MAX: Final = 2_048
_SUBJECT_CHARS_MAX: Final = 255  # section 2, `sub`


class TokenRefusedError(Exception):
    """An ID token that identifies nobody. The text is for the log, and repeats nothing of the token."""


class _Head(msgspec.Struct):
    alg: str
    kid: str = ""
    crit: Any = None


def key_id_of(token: str) -> str:
    """The id of the key that a token states to be signed with, "" for none: read before anything is verified."""
    return _head_of(token).kid


def verify_id_token(token: str, keys: KeySet, provider: OpenIdProvider, *, nonce: str, now_ms: int) -> Mapping[str, Any]:
    """The claims of a token that this provider made for this client in answer to this sign-in. Raises TokenRefusedError."""
    head = _head_of(token)
    if head.alg not in provider.algorithms or head.crit is not None:
        raise TokenRefusedError("it is not signed with an algorithm that sign_in.yaml allows")
    key = keys.find(head.kid, head.alg)
    if key is None:
        raise TokenRefusedError("it is signed with a key that the provider does not publish")
    claims = _signed_claims(token, key, provider)
    _check_client(claims, provider.client_id)
    _check_times(claims, provider.leeway_ms, now_ms)
    given = claims["nonce"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise TokenRefusedError("it answers another sign-in: its nonce is not the one that was sent")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARS_MAX:
        raise TokenRefusedError("its sub is no text of 1 to 255 characters")
    return claims


def _head_of(token: str) -> _Head:
    part = token.partition(".")[0]
    try:
        if len(token) > TOKEN_CHARS_MAX or len(part) > _HEAD_CHARS_MAX:
            raise ValueError("too long")  # noqa: TRY301 - all of these are one refusal
        return msgspec.json.decode(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True), type=_Head)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise TokenRefusedError("it is not a well-formed signed token") from None


def _signed_claims(token: str, key: jwt.PyJWK, provider: OpenIdProvider) -> dict[str, Any]:
    """The claims, once signature, issuer and audience are right. Times are compared on the clock that we are given."""
    options: Any = {
        "require": ["iss", "sub", "aud", "exp", "iat", "nonce"],
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_sub": False,
        "enforce_minimum_key_length": True,
    }
    try:
        found: dict[str, Any] = jwt.decode(
            token, key, algorithms=[key.algorithm_name], issuer=provider.issuer, audience=provider.client_id, options=options
        )
    except jwt.InvalidAudienceError:
        raise TokenRefusedError("it is for another client: its aud is not client_id") from None
    except jwt.InvalidIssuerError:
        raise TokenRefusedError("it is another provider's: its iss is not issuer") from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenRefusedError(f"it lacks the claim {error.claim}") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise TokenRefusedError("its signature is not right") from None
    return found


def _check_client(claims: Mapping[str, Any], client_id: str) -> None:
    """Refuse a token that was made for another client, and is for this one too."""
    audience, party = claims["aud"], claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in {None, client_id}:
        raise TokenRefusedError("it was made for another client: its azp is not client_id")


def _check_times(claims: Mapping[str, Any], leeway_ms: int, now_ms: int) -> None:
    expires, made, begins = claims["exp"], claims["iat"], claims.get("nbf", 0)
    if not all(isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 2**40 for at in (expires, made, begins)):
        raise TokenRefusedError("its times are not numbers")
    if now_ms >= expires * 1000 + leeway_ms:
        raise TokenRefusedError("it has expired, or the clocks differ")
    if now_ms < max(made, begins) * 1000 - leeway_ms:
        raise TokenRefusedError("it is of the future: the clocks differ")
    if now_ms >= made * 1000 + AGE_MS_MAX + leeway_ms:
        raise TokenRefusedError("it was made long ago, or the clocks differ")
