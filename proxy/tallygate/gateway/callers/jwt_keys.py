"""An issuer's public keys, at hand: fetched in the background, renewed in time, and once more when a token names a new one."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import aiohttp

from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.config.key_set import KEY_SET_BYTES_MAX, KeySet, read_key_set

RETRY_MS: Final = 5_000  # after a fetch that failed
UNKNOWN_KEY_PAUSE_MS: Final = 10_000  # between two fetches that tokens with unknown keys ask for: anyone can make such tokens
STALE_MAX_MS: Final = 24 * 3_600_000  # how long the last keys hold when no new ones can be had
_log = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """No keys are at hand, and none could be fetched. The issuer's tokens can neither be believed nor refused."""


class JwtKeys:
    """One issuer's keys. Waits only where there are none yet, or for a key that is not among them.

    session   must follow no redirects and read no proxy variables; not closed here
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
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._issuer = issuer
        self._session = session
        self._now_ms = now_ms
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._loop = loop
        self._fetching: asyncio.Task[None] | None = None
        self._body = issuer.key_set
        self._keys = read_key_set(issuer.key_set, issuer.algorithms) if issuer.key_set else None
        self._read_at_ms = now_ms()
        self._due_ms = 0
        self._asked_for_unknown_at_ms: int | None = None
        self.changes = 0

    @property
    def is_at_hand(self) -> bool:
        """Whether there are keys that still hold."""
        return self._keys is not None and (self._is_fixed or self._now_ms() - self._read_at_ms < STALE_MAX_MS)

    @property
    def _is_fixed(self) -> bool:
        return not self._issuer.jwks_url

    def renew_if_due(self) -> None:
        """Begin to fetch, in the background, if it is time to."""
        if not self._is_fixed and self._fetching is None and self._now_ms() >= self._due_ms:
            self._fetching = self._loop.create_task(self._fetch())

    async def with_key(self, key_id: str) -> KeySet:
        """The keys; fetched anew, at most once in a while, if `key_id` is not among them. Raises KeysUnavailableError."""
        self.renew_if_due()
        if not self.is_at_hand:
            await self._fetched()
        elif key_id and key_id not in (self._keys or ()):
            self._ask_for_unknown()
            await self._fetched()
        if self._keys is None or not self.is_at_hand:
            raise KeysUnavailableError(self._issuer.issuer)
        return self._keys

    def abandon(self) -> None:
        """End a fetch under way; whoever waits for it is told that there are no keys."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _ask_for_unknown(self) -> None:
        now_ms = self._now_ms()
        last_ms = self._asked_for_unknown_at_ms
        if self._fetching is None and (last_ms is None or now_ms - last_ms >= UNKNOWN_KEY_PAUSE_MS):
            self._asked_for_unknown_at_ms = now_ms
            self._due_ms = 0
            self.renew_if_due()

    async def _fetched(self) -> None:
        """Wait for the fetch under way, if one is; a caller who leaves does not end it for the others."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            async with self._session.get(
                self._issuer.jwks_url, timeout=self._timeout, allow_redirects=False, headers={"Accept": "application/json"}
            ) as answer:
                if answer.status != 200:
                    raise ValueError(f"status {answer.status}")  # noqa: TRY301 - told and retried like the others
                body = await _read_bounded(answer)
            keys = read_key_set(body, self._issuer.algorithms)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._due_ms = self._now_ms() + RETRY_MS
            text = str(error) if isinstance(error, ValueError) else type(error).__name__
            _log.warning("keys of token issuer %s not read: %s", self._issuer.issuer, text)
        else:
            if body != self._body:
                self._body, self._keys = body, keys
                self.changes += 1
            self._read_at_ms = self._now_ms()
            self._due_ms = self._read_at_ms + self._issuer.jwks_ttl_ms
        finally:
            self._fetching = None


async def _read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) <= KEY_SET_BYTES_MAX:
        chunk = await answer.content.read(KEY_SET_BYTES_MAX)
        if not chunk:
            return body
        body += chunk
    raise ValueError(f"larger than {KEY_SET_BYTES_MAX} bytes")
