"""A worker's cache of look-ups, by digest of the key. No key is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallygate.domain.errors import Refusal
from tallygate.gateway.callers.clients import VerifiedClient
from tallygate.shares.fair_shares import FairShares

KNOWN_MAX: Final = 20_000  # keys that admit, in fair shares of organizations
REFUSED_MAX: Final = 20_000  # keys that do not: the oldest goes first, and takes no place of one that does


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key that was active at its last look-up. until_ms: valid until then without another."""

    client: VerifiedClient
    org: str
    until_ms: int


class KeyAnswers:
    """now_ms: monotonic. A known key stays known when it is due to be asked about: its turn comes before that of strangers."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._known: dict[bytes, KnownKey] = {}
        self._by_org: dict[str, dict[bytes, None]] = {}
        self._shares = FairShares(KNOWN_MAX)
        self._refused: dict[bytes, tuple[Refusal, int]] = {}

    def known(self, digest: bytes) -> KnownKey | None:
        return self._known.get(digest)

    def refusal(self, digest: bytes) -> Refusal | None:
        """The answer to a key that does not admit, while it holds."""
        found = self._refused.get(digest)
        if found is None:
            return None
        if self._now_ms() < found[1]:
            return found[0]
        del self._refused[digest]
        return None

    def admit(self, digest: bytes, key: KnownKey) -> None:
        """Evict a key: an organization beyond its share loses its own oldest key, one with none evicts the oldest of all."""
        self.drop(digest)
        self._refused.pop(digest, None)
        while not self._shares.acquire(key.org, 1):
            self.drop(next(iter(self._by_org.get(key.org) or self._known)))
        self._known[digest] = key
        self._by_org.setdefault(key.org, {})[digest] = None

    def refuse(self, digest: bytes, refusal: Refusal, *, until_ms: int) -> None:
        self._refused.pop(digest, None)
        if len(self._refused) >= REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = refusal, until_ms

    def drop(self, digest: bytes) -> None:
        """No longer a known key; nothing happens if it is none."""
        known = self._known.pop(digest, None)
        if known is None:
            return
        self._shares.release(known.org, 1)
        keys = self._by_org[known.org]
        del keys[digest]
        if not keys:
            del self._by_org[known.org]

    def expire(self) -> None:
        """Make a look-up of every key due."""
        self._refused.clear()
        for digest, known in self._known.items():
            self._known[digest] = KnownKey(client=known.client, org=known.org, until_ms=0)
