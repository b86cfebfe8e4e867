"""Who a presented key belongs to."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.domain.organization import Credential, Organization

KEY_PREFIX: Final = "tg_"  # of every key that tallygate issues: such a key never goes upstream
KEY_CHARS_MAX: Final = 4_096  # a longer one (signed tokens stay below) is nobody's
SECRET_BYTES: Final = 32
_NOBODY: Final = bytes(32)

Identity = tuple[Organization, Credential]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key, shown once, and the digest of its secret part, which is what is kept."""

    api_key: str = field(repr=False)
    key_sha256: bytes = field(repr=False)


class Directory:
    """Credentials by key. Only digests are kept, also in memory.

    An issued key, `tg_<client id>_<secret>`, is found by its Client ID and compared in constant time with the digest of the secret.
    Any other key ("bring your own") is found by the digest of the whole text. Looking a digest up in a table tells nothing about
    the keys in it: one would have to steer SHA-256 to learn from the timing.
    """

    def __init__(self, organizations: Iterable[Organization]) -> None:
        self._by_id: dict[str, Identity] = {}
        self._by_digest: dict[bytes, Identity] = {}
        for organization in organizations:
            for credential in organization.credentials:
                identity = (organization, credential)
                self._by_id[credential.id] = identity
                self._by_digest[credential.key_sha256] = identity

    def find(self, key: str) -> Identity | None:
        """The caller whose key this is, enabled or not. Never raises, whatever the text."""
        if len(key) > KEY_CHARS_MAX:
            return None
        whole = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()  # bytes outside UTF-8 arrive as surrogates
        found = self._by_digest.get(whole)
        if found is not None or not key.startswith(KEY_PREFIX):
            return found
        client_id, _, secret = key[len(KEY_PREFIX) :].rpartition("_")
        identity = self._by_id.get(client_id)
        expected = _NOBODY if identity is None else identity[1].key_sha256
        presented = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        is_match = hmac.compare_digest(presented, expected)  # also for an unknown id, so that ids cannot be told apart by time
        if identity is None or not is_match:
            return None
        self._by_digest[whole] = identity  # next time by the table; bounded, since one secret fits a digest
        return identity

    def credential(self, client_id: str) -> Identity | None:
        """By Client ID: for reports, not for requests."""
        return self._by_id.get(client_id)


def generate_key(client_id: str, random_bytes: Callable[[int], bytes]) -> IssuedKey:
    """A new key of 256 bits for a credential; its secret has no underscore. random_bytes: `secrets.token_bytes`."""
    secret = base64.b32encode(random_bytes(SECRET_BYTES)).decode().rstrip("=").lower()
    return IssuedKey(api_key=f"{KEY_PREFIX}{client_id}_{secret}", key_sha256=hashlib.sha256(secret.encode()).digest())
