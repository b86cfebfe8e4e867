"""An access token by OAuth2 client credentials (RFC 6749, section 4.4), kept fresh."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec

from tallygate.config.model import UpstreamAuth
from tallygate.outbound.way_out import tls_context

_log = logging.getLogger(__name__)
REFRESH_EARLY_MS: Final = 60_000
ATTEMPTS_MAX: Final = 3
PAUSES_SECONDS: Final = (0.2, 1.0)  # between attempts
ANSWER_BYTES_MAX: Final = 65_536
LIFETIME_DEFAULT_SECONDS: Final = 300  # RFC 6749 only recommends expires_in
LIFETIME_MAX_SECONDS: Final = 30 * 86_400
INVALIDATION_PAUSE_MS: Final = 60_000  # a fresh token that is refused as well is not a token's fault


class TokenFetchError(Exception):
    """The authorization server gave no token. The text says what happened, never what was sent or answered.

    is_lasting   trying again cannot help: the server refused, or its answer makes no sense
    """

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: int | float | str | None = None
    token_type: str = "Bearer"  # noqa: S105  # the name of a kind


@dataclass(slots=True)
class _Held:
    token: str = field(repr=False)
    refresh_at_ms: int
    expires_at_ms: int
    is_accepted: bool = False


class OAuth2Token:
    """One upstream's token: fetched when first wanted, shared by all requests, renewed a minute early by one of them.

    While it is being renewed the others go on with the old one; if renewal fails, everybody does until it expires.
    session       is not closed here
    ca_pem        certificates believed beside those that the session trusts
    now_ms        monotonic
    """

    def __init__(
        self,
        auth: UpstreamAuth,
        session: aiohttp.ClientSession,
        *,
        now_ms: Callable[[], int],
        timeout_ms: int,
        ca_pem: str = "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._auth = auth
        self._session = session
        self._now_ms = now_ms
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._trust = tls_context(ca_pem) if ca_pem else True
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._held: _Held | None = None
        self._failure: TokenFetchError | None = None
        self._rounds = 0
        self._invalidated_at_ms: int | None = None

    async def get(self) -> str:
        """A token that holds now. Raises TokenFetchError, also for whoever waited for a round of attempts that failed."""
        held = self._held
        now_ms = self._now_ms()
        if held is not None and now_ms < held.expires_at_ms and (now_ms < held.refresh_at_ms or self._lock.locked()):
            return held.token
        round_seen = self._rounds
        async with self._lock:
            if self._rounds == round_seen:
                await self._renew()
        held = self._held
        if held is not None and self._now_ms() < held.expires_at_ms:
            return held.token
        raise TokenFetchError(str(self._failure or "no token was obtained"))

    def accept(self, token: str) -> None:
        """The upstream took the token."""
        if self._held is not None and self._held.token == token:
            self._held.is_accepted = True

    def refuse(self, token: str) -> bool:
        """The upstream refused the token, which is given up: whether the next one will be another.

        Of tokens that were never accepted one a minute is given up: that they are refused is not their fault.
        """
        held = self._held
        if held is None or held.token != token:
            return True
        now_ms = self._now_ms()
        paused = self._invalidated_at_ms is not None and now_ms - self._invalidated_at_ms < INVALIDATION_PAUSE_MS
        if paused and not held.is_accepted:
            return False
        self._invalidated_at_ms = now_ms
        self._held = None
        return True

    async def _renew(self) -> None:
        """One round of attempts. On failure the old token stays, and is not renewed again before half of what is left of it.

        A reason is logged once, not at every round: clients are told nothing of it, and operators need it.
        """
        known = str(self._failure)
        for attempt in range(ATTEMPTS_MAX):
            try:
                self._held = await self._fetch()
            except TokenFetchError as error:
                self._failure = error
                if error.is_lasting or attempt == ATTEMPTS_MAX - 1:
                    break
                await self._sleep(PAUSES_SECONDS[attempt])
            else:
                self._failure = None
                break
        self._rounds += 1
        if self._failure is not None and str(self._failure) != known:
            _log.warning("no access token from %s: %s", self._auth.token_url, self._failure)
        if self._failure is not None and self._held is not None:
            now_ms = self._now_ms()
            self._held.refresh_at_ms = now_ms + max(0, self._held.expires_at_ms - now_ms) // 2

    async def _fetch(self) -> _Held:
        auth = self._auth
        # RFC 6749, section 2.3.1: each part is form-encoded before they are joined for Basic
        basic = base64.b64encode(f"{quote_plus(auth.client_id)}:{quote_plus(auth.secret)}".encode()).decode()
        form = {"grant_type": "client_credentials", **({"scope": auth.scope} if auth.scope else {})}
        headers = {
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        asked_at_ms = self._now_ms()
        try:
            async with self._session.post(
                auth.token_url, data=urlencode(form), headers=headers, timeout=self._timeout, allow_redirects=False, ssl=self._trust
            ) as response:
                status = response.status
                body = await _read_bounded(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TokenFetchError(f"the authorization server could not be reached: {type(error).__name__}") from None
        if status != 200:
            raise TokenFetchError(f"the authorization server answered {status}", is_lasting=status < 500 and status != 429)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError:
            raise TokenFetchError("the authorization server's answer is not a token", is_lasting=True) from None
        if answer.token_type.lower() != "bearer" or not answer.access_token.isascii() or not answer.access_token.isprintable():
            raise TokenFetchError("the authorization server's answer is not a bearer token", is_lasting=True)
        lifetime_ms = _lifetime_seconds(answer.expires_in) * 1000
        return _Held(
            token=answer.access_token,
            refresh_at_ms=asked_at_ms + max(lifetime_ms - REFRESH_EARLY_MS, lifetime_ms // 2),
            expires_at_ms=asked_at_ms + lifetime_ms,
        )


def _lifetime_seconds(stated: float | str | None) -> int:
    """expires_in, which some servers send as text; bounded."""
    try:
        seconds = int(stated) if stated is not None else LIFETIME_DEFAULT_SECONDS
    except (ValueError, OverflowError):
        seconds = LIFETIME_DEFAULT_SECONDS
    return min(max(seconds, 1), LIFETIME_MAX_SECONDS)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) <= ANSWER_BYTES_MAX:
        chunk = await response.content.read(ANSWER_BYTES_MAX)
        if not chunk:
            return body
        body += chunk
    raise TokenFetchError("the authorization server's answer is too long", is_lasting=True)
