"""An access token by OAuth2 client credentials (RFC 6749, section 4.4), kept fresh."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec

from tallygate.config.model import UpstreamAuth
from tallygate.outbound.refreshed import Fetched, Refreshed
from tallygate.outbound.session import FetchError, fetch, trust_of

_log = logging.getLogger(__name__)
REFRESH_EARLY_MS: Final = 60_000
PAUSES_SECONDS: Final = (0.2, 1.0)  # between the attempts of a round
ATTEMPTS_MAX: Final = len(PAUSES_SECONDS) + 1
ANSWER_BYTES_MAX: Final = 65_536
LIFETIME_DEFAULT_SECONDS: Final = 300  # RFC 6749 only recommends expires_in
LIFETIME_MAX_SECONDS: Final = 30 * 86_400
INVALIDATION_PAUSE_MS: Final = 60_000  # a fresh token that is refused as well is not a token's fault


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: int | float | str | None = None
    token_type: str = "Bearer"  # noqa: S105  # the name of a kind


class OAuth2Token(Refreshed[str]):
    """One upstream's token: fetched when first wanted, shared by all requests, renewed a minute early by one of them.

    While it is being renewed the others go on with the old one. If renewal fails, everybody does until it expires, and it is not
    renewed again before half of what is left of it.
    session       is not closed here
    ca_pem        certificates trusted beside the system's authorities
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
        super().__init__(now_ms=now_ms, retry_ms=lambda left_ms: left_ms // 2, pauses_s=PAUSES_SECONDS, sleep=sleep)
        self._auth = auth
        self._session = session
        self._timeout_s = timeout_ms / 1000
        self._trust = trust_of(ca_pem)
        self._accepted = ""
        self._invalidated_at_ms: int | None = None

    def accept(self, token: str) -> None:
        """Note that the upstream accepted the token."""
        self._accepted = token

    def refuse(self, token: str) -> bool:
        """The upstream refused the token, which is given up: whether the next one will be another.

        Of tokens that were never accepted one a minute is given up: that they are refused is not their fault.
        """
        if self._kept is None or self._kept.value != token:
            return True
        now_ms = self._now_ms()
        paused = self._invalidated_at_ms is not None and now_ms - self._invalidated_at_ms < INVALIDATION_PAUSE_MS
        if paused and self._accepted != token:
            return False
        self._invalidated_at_ms = now_ms
        self.forget()
        return True

    def log_failure(self, failure: FetchError) -> None:
        """Log a failed renewal, of which clients get no details."""
        _log.warning("no access token from %s: %s", self._auth.token_url, failure)

    async def fetch(self) -> Fetched[str]:
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
        body = await fetch(
            self._session,
            "POST",
            auth.token_url,
            whose="the authorization server",
            bytes_max=ANSWER_BYTES_MAX,
            timeout_s=self._timeout_s,
            trust=self._trust,
            headers=headers,
            data=urlencode(form),
        )
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError:
            raise FetchError("the authorization server's answer is not a token", is_lasting=True) from None
        if answer.token_type.lower() != "bearer" or not answer.access_token.isascii() or not answer.access_token.isprintable():
            raise FetchError("the authorization server's answer is not a bearer token", is_lasting=True)
        lifetime_ms = _lifetime_seconds(answer.expires_in) * 1000
        return Fetched(
            answer.access_token,
            due_ms=asked_at_ms + max(lifetime_ms - REFRESH_EARLY_MS, lifetime_ms // 2),
            ends_ms=asked_at_ms + lifetime_ms,
        )


def _lifetime_seconds(stated: float | str | None) -> int:
    """expires_in, which some servers send as text; bounded."""
    try:
        seconds = int(stated) if stated is not None else LIFETIME_DEFAULT_SECONDS
    except (ValueError, OverflowError):
        seconds = LIFETIME_DEFAULT_SECONDS
    return min(max(seconds, 1), LIFETIME_MAX_SECONDS)
