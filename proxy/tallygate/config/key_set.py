"""A JSON Web Key Set (RFC 7517) as the public keys that may verify a token. Secrets and keys for other uses are left out."""

from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

KEY_SET_BYTES_MAX: Final = 262_144
KEYS_MAX: Final = 100
KEY_ID_CHARS_MAX: Final = 256
RSA_BITS_MIN: Final = 2048
# The kind of key that each algorithm of a token (RFC 7518, 8037) needs. No `none`, and no HS*: its key would be a public text.
_KEY_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
ALGORITHMS: Final = tuple(_KEY_KINDS)


class KeySet:
    """Public keys by id and algorithm. A key verifies only with algorithms that it and the configuration allow."""

    def __init__(self, keys: Mapping[tuple[str, str], jwt.PyJWK]) -> None:
        self._keys = keys
        self._ids = frozenset(key_id for key_id, _ in keys)

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """The key for a token's `kid` and `alg`. A token without `kid` ("") fits a set of one key."""
        if not key_id and len(self._ids) == 1:
            key_id = next(iter(self._ids))
        return self._keys.get((key_id, algorithm))


def read_key_set(body: bytes, algorithms: tuple[str, ...]) -> KeySet:
    """Parse a set leniently: an unusable key is left out. Raises ValueError if none is left or the body is no key set."""
    if len(body) > KEY_SET_BYTES_MAX:
        raise ValueError(f"is larger than {KEY_SET_BYTES_MAX} bytes")
    try:
        keys = msgspec.json.decode(body, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("is not a JSON Web Key Set") from None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise ValueError(f"is not a JSON Web Key Set: `keys` must be a list of at most {KEYS_MAX}")
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for key in keys:
        if isinstance(key, dict):
            for algorithm in algorithms:
                usable = _usable(key, algorithm)
                if usable is not None:
                    found.setdefault((str(key.get("kid", "")), algorithm), usable)
    if not found:
        raise ValueError(f"holds no public key for {', '.join(algorithms)}")
    return KeySet(found)


def _usable(key: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kind, curve = _KEY_KINDS[algorithm]
    is_for_this = (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and ("key_ops" not in key or (isinstance(key["key_ops"], list) and "verify" in key["key_ops"]))
        and "d" not in key  # a private key has no business in a published set
        and len(str(key.get("kid", ""))) <= KEY_ID_CHARS_MAX
    )
    if not is_for_this:
        return None
    try:
        found = jwt.PyJWK(key, algorithm)
        is_strong = kind != "RSA" or found.key.key_size >= RSA_BITS_MIN
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return found if is_strong else None
