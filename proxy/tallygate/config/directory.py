"""The owner of a presented key."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tallygate.domain.organization import Credential, Organization

KEY_PREFIX: Final = "tg_"  # of every key that tallygate issues: such a key never goes upstream
ISSUED_PREFIXES: Final = (KEY_PREFIX, "tga_")  # and of its admin tokens: neither is sent anywhere
EVERYWHERE: Final = ""  # instead of the one organization for which a Client ID is retired
KEY_CHARS_MAX: Final = 4_096  # a longer one (signed tokens stay below) is nobody's
SECRET_BYTES: Final = 32
_NOBODY: Final = bytes(32)

_NO_CREDENTIAL: Final = Credential(id="", org="", key_sha256=b"")

Identity = tuple[Organization, Credential]
_NOBODYS: Final[tuple[None]] = (None,)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key, shown once, and the digest of its secret part, which is what is kept."""

    api_key: str = field(repr=False)
    key_sha256: bytes = field(repr=False)


class StoredSource(StrEnum):
    """Where a process has the organizations of the database from. Once it has read the database, it follows its changes."""

    DATABASE = "database"
    SNAPSHOT = "snapshot"  # a file of the data directory, as the database was a while ago
    NOTHING = "nothing"  # the database has not answered since the process began


class Directory:
    """Credentials by key. Only digests are kept, even in memory.

    An issued key, `tg_<client id>_<secret>`, is found by its Client ID and compared in constant time with the digest of the secret.
    Any other key ("bring your own") is found by the digest of the whole text. The timing of a look-up by digest reveals nothing
    about the keys, since nobody can steer SHA-256, or BLAKE2b, by which a key that has been found is found again: in half the time.
    retired: Client IDs that were revoked, each with the organization that cannot use it again, or EVERYWHERE.
    source: where those organizations are from that are in no file.
    """

    def __init__(self, organizations: Iterable[Organization]) -> None:
        self._organizations: dict[str, Organization] = {}
        self._by_id: dict[str, Identity] = {}
        self._by_digest: dict[bytes, Identity] = {}
        self._found: dict[bytes, Identity] = {}  # by the BLAKE2b digest of the whole text of a key that was presented
        self._found_of: dict[str, list[bytes]] = {}  # those digests by Client ID; few, since one text matches a digest
        self.retired: Collection[tuple[str, str]] = frozenset()
        self.source = StoredSource.DATABASE
        for organization in organizations:
            self.put(organization)

    def put(self, organization: Organization) -> None:
        """Add an organization, or replace the one with its id. A Client ID or key in two organizations belongs to the later one."""
        self.remove(organization.id)
        self._organizations[organization.id] = organization
        for credential in organization.credentials:
            self._forget(credential.id)
            identity = self._by_id[credential.id] = organization, credential
            for digest, holder in _keys(credential):
                if (before := self._by_digest.get(digest)) is not None:
                    self._forget(before[1].id)
                self._by_digest[digest] = identity if holder is credential else (organization, holder)

    def remove(self, org: str) -> None:
        """Remove an organization, its credentials and their keys; does nothing if it is absent."""
        organization = self._organizations.pop(org, None)
        for credential in () if organization is None else organization.credentials:
            if self._by_id.get(credential.id, _NOBODYS)[0] is organization:
                del self._by_id[credential.id]
            self._forget(credential.id)
            for digest, _ in _keys(credential):
                if self._by_digest.get(digest, _NOBODYS)[0] is organization:
                    del self._by_digest[digest]

    def find(self, key: str) -> Identity | None:
        """Find the caller with this key, enabled or not. Never raises, whatever the text."""
        if len(key) > KEY_CHARS_MAX:
            return None
        text = key.encode("utf-8", "surrogatepass")  # bytes outside UTF-8 arrive as surrogates
        whole = hashlib.blake2b(text).digest()
        found = self._found.get(whole)
        if found is None:
            found = self._first_found(key, text)
            if found is not None:
                self._found[whole] = found
                self._found_of.setdefault(found[1].id, []).append(whole)
        return found

    def _first_found(self, key: str, text: bytes) -> Identity | None:
        """Find the caller with a key that has not been found before. text: the key's bytes."""
        found = self._by_digest.get(hashlib.sha256(text).digest())
        if found is not None or not key.startswith(KEY_PREFIX):
            return found
        client_id, _, secret = key[len(KEY_PREFIX) :].rpartition("_")
        identity = self._by_id.get(client_id)
        credential = _NO_CREDENTIAL if identity is None else identity[1]
        presented = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        # all are compared, even for an unknown id, so that timing does not reveal ids
        is_current = hmac.compare_digest(presented, credential.key_sha256 or _NOBODY)
        is_old = hmac.compare_digest(presented, credential.old_key_sha256 or _NOBODY)
        return self._by_digest[presented] if identity is not None and (is_current or is_old) else None

    def _forget(self, client_id: str) -> None:
        """Find the keys of a Client ID anew."""
        for digest in self._found_of.pop(client_id, ()):
            del self._found[digest]

    def organization(self, org: str) -> Organization | None:
        return self._organizations.get(org)

    @property
    def organizations(self) -> Collection[Organization]:
        return self._organizations.values()

    def credential(self, client_id: str) -> Identity | None:
        """Find a credential by Client ID, for reports, not for requests."""
        return self._by_id.get(client_id)


def _keys(credential: Credential) -> Iterator[tuple[bytes, Credential]]:
    """Each digest with its credential; through the key before a rotation, the credential expires with the overlap."""
    if credential.key_sha256:
        yield credential.key_sha256, credential
    if credential.old_key_sha256:
        until_ms = credential.old_key_until_ms
        ends_ms = until_ms if credential.expires_at_ms is None else min(until_ms, credential.expires_at_ms)
        yield credential.old_key_sha256, replace(credential, expires_at_ms=ends_ms)


def generate_key(client_id: str, random_bytes: Callable[[int], bytes]) -> IssuedKey:
    """Make a key of 256 bits for a credential; its secret has no underscore. random_bytes: `secrets.token_bytes`."""
    secret = base64.b32encode(random_bytes(SECRET_BYTES)).decode().rstrip("=").lower()
    return IssuedKey(api_key=f"{KEY_PREFIX}{client_id}_{secret}", key_sha256=hashlib.sha256(secret.encode()).digest())
