"""An issuer's public keys, at hand: fetched in the background, renewed in time, and once more when a token names a new one."""

import logging
from collections.abc import Callable
from typing import Final

import aiohttp

from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.config.key_set import KEY_SET_BYTES_MAX, KeySet, read_key_set
from tallygate.outbound.refreshed import NEVER_MS, Fetched, Refreshed
from tallygate.outbound.session import FetchError, fetch

RETRY_MS: Final = 5_000  # after a fetch that failed
UNKNOWN_KEY_PAUSE_MS: Final = 10_000  # between two fetches that tokens with unknown keys ask for: anyone can make such tokens
STALE_MAX_MS: Final = 24 * 3_600_000  # how long the last keys hold when no new ones can be had
_log = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """No keys are cached, and none could be fetched. The issuer's tokens can be neither trusted nor refused."""


class JwtKeys(Refreshed[KeySet]):
    """One issuer's keys. Waits only where there are none yet, or for a key that is not among them.

    session   must read no proxy variables; not closed here
    now_ms    monotonic
    changes   counts sets that differ from the one before: what was verified under an older one is to be verified again
    """

    def __init__(
        self,
        issuer: JwtIssuer,
        session: aiohttp.ClientSession,
        *,
        now_ms: Callable[[], int],
        timeout_ms: int,
    ) -> None:
        fixed = Fetched(read_key_set(issuer.key_set, issuer.algorithms), due_ms=NEVER_MS) if issuer.key_set else None
        super().__init__(now_ms=now_ms, retry_ms=lambda _left_ms: RETRY_MS, kept=fixed)
        self._issuer = issuer
        self._session = session
        self._timeout_s = timeout_ms / 1000
        self._body = issuer.key_set
        self._asked_for_unknown_at_ms: int | None = None
        self.changes = 0

    async def with_key(self, key_id: str) -> KeySet:
        """The keys; fetched anew, at most once in a while, if `key_id` is not among them. Raises KeysUnavailableError."""
        self.renew_if_due()
        keys = self.current()
        if keys is None:
            await self.wait()
        elif key_id and key_id not in keys and self._issuer.jwks_url:
            self._ask_for_unknown()
            await self.wait()
        keys = self.current()
        if keys is None:
            raise KeysUnavailableError(self._issuer.issuer)
        return keys

    def _ask_for_unknown(self) -> None:
        now_ms = self._now_ms()
        last_ms = self._asked_for_unknown_at_ms
        if not self.is_fetching and (last_ms is None or now_ms - last_ms >= UNKNOWN_KEY_PAUSE_MS):
            self._asked_for_unknown_at_ms = now_ms
            self.renew()

    async def fetch(self) -> Fetched[KeySet]:
        issuer = self._issuer
        body = await fetch(
            self._session,
            "GET",
            issuer.jwks_url,
            whose="the issuer",
            bytes_max=KEY_SET_BYTES_MAX,
            timeout_s=self._timeout_s,
            headers={"Accept": "application/json"},
        )
        try:
            keys = read_key_set(body, issuer.algorithms)
        except ValueError as error:
            raise FetchError(str(error)) from None
        if body != self._body:
            self._body = body
            self.changes += 1
        now_ms = self._now_ms()
        return Fetched(keys, due_ms=now_ms + issuer.jwks_ttl_ms, ends_ms=now_ms + STALE_MAX_MS)

    def log_failure(self, failure: FetchError) -> None:
        _log.warning("keys of token issuer %s not read: %s", self._issuer.issuer, failure)
