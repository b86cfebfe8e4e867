"""An OpenID provider's own description and keys (OpenID Connect Discovery 1.0), at hand: bounded, and renewed in time."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientSession

from tallygate.config.key_set import KEY_SET_BYTES_MAX, KeySet, read_key_set
from tallygate.config.sign_in import OpenIdProvider
from tallygate.config.urls import is_loopback
from tallygate.outbound.refreshed import Fetched, Refreshed
from tallygate.outbound.session import FetchError, fetch

PATH: Final = "/.well-known/openid-configuration"
DOCUMENT_BYTES_MAX: Final = 262_144
TTL_MS: Final = 3_600_000
STALE_MAX_MS: Final = 24 * 3_600_000  # how long the last ones hold when no new ones can be had
RETRY_MS: Final = 5_000
UNKNOWN_KEY_PAUSE_MS: Final = 10_000  # between two fetches that tokens with unknown keys ask for
_log = logging.getLogger(__name__)


class _Document(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[Any] = msgspec.field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: Any = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """What a provider says of itself.

    takes_basic    whether the client may prove itself in the header of a request for tokens; else it does in the form
    states_issuer  whether its answers to browsers name it (RFC 9207)
    """

    authorization_url: str
    token_url: str
    keys: KeySet
    takes_basic: bool
    states_issuer: bool


class OpenIdDiscovery(Refreshed[Discovered]):
    """One provider's. session: not closed here; now_ms: monotonic."""

    def __init__(self, provider: OpenIdProvider, session: ClientSession, *, now_ms: Callable[[], int], timeout_ms: int) -> None:
        super().__init__(now_ms=now_ms, retry_ms=lambda _left_ms: RETRY_MS)
        self._provider = provider
        self._session = session
        self._timeout_s = timeout_ms / 1000
        self._asked_for_unknown_at_ms: int | None = None

    async def with_key(self, key_id: str) -> Discovered:
        """The description; fetched anew, at most once in a while, if `key_id` is not among its keys. Raises FetchError."""
        found = await self.get()
        now_ms, last_ms = self._now_ms(), self._asked_for_unknown_at_ms
        if not key_id or key_id in found.keys or (last_ms is not None and now_ms - last_ms < UNKNOWN_KEY_PAUSE_MS):
            return found
        self._asked_for_unknown_at_ms = now_ms
        self.renew()
        await self.wait()
        return self.current() or found

    async def fetch(self) -> Fetched[Discovered]:
        try:
            document = msgspec.json.decode(
                await self._fetched(self._provider.issuer.rstrip("/") + PATH, DOCUMENT_BYTES_MAX), type=_Document
            )
            if document.issuer != self._provider.issuer:
                raise FetchError(f"its configuration is of another issuer than {self._provider.issuer}", is_lasting=True)
            found = Discovered(
                authorization_url=_endpoint(document.authorization_endpoint),
                token_url=_endpoint(document.token_endpoint),
                keys=read_key_set(await self._fetched(_endpoint(document.jwks_uri), KEY_SET_BYTES_MAX), self._provider.algorithms),
                takes_basic="client_secret_basic" in document.token_endpoint_auth_methods_supported,
                states_issuer=document.authorization_response_iss_parameter_supported is True,
            )
        except (msgspec.MsgspecError, RecursionError):
            raise FetchError("its configuration is not that of an OpenID provider", is_lasting=True) from None
        except ValueError as error:
            raise FetchError(f"its configuration or key set {error}", is_lasting=True) from None
        now_ms = self._now_ms()
        return Fetched(found, due_ms=now_ms + TTL_MS, ends_ms=now_ms + STALE_MAX_MS)

    def log_failure(self, failure: FetchError) -> None:
        _log.warning("OpenID provider %s not read: %s", self._provider.issuer, failure)

    async def _fetched(self, url: str, bytes_max: int) -> bytes:
        return await fetch(
            self._session,
            "GET",
            url,
            whose="the OpenID provider",
            bytes_max=bytes_max,
            timeout_s=self._timeout_s,
            headers={"Accept": "application/json"},
        )


def _endpoint(text: str) -> str:
    """A URL to which browsers or secrets are sent, which may have a query. Raises ValueError."""
    parts = urlsplit(text)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_safe or not parts.hostname or parts.username is not None or parts.fragment or not text.isascii() or " " in text:
        raise ValueError("names an address that is no https URL")
    return text
