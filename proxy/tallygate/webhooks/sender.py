"""One signed POST to one endpoint, and its result."""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout, DummyCookieJar, hdrs
from yarl import URL

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.outbound.session import open_session
from tallygate.outbound.way_out import WayOut
from tallygate.webhooks.signature import signed_headers

TIMEOUT_SECONDS: Final = 15.0  # from the name's look-up to the answer's head
ANSWER_BYTES_MAX: Final = 1_024  # of a body, which only `tallygate webhooks test` shows
REASON_CHARS_MAX: Final = 200
_DIRECT: Final = WayOut()
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result. status: None if there was no answer; `error` states why, else repeats it. retry_after_ms: of 429 and 503."""

    status: int | None = None
    error: str = ""
    retry_after_ms: int | None = None
    body: bytes = b""

    @property
    def is_delivered(self) -> bool:
        """Return whether the answer is a 2xx. Redirects are not followed: the signature is for the reviewed endpoint."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        return self.status == HTTPStatus.GONE


class Sender:
    """Sends messages, each over its own connection through the process's proxies, without cookies or redirects. `close` it.

    Addresses are resolved as the connection is made, private ones too: endpoints come from a reviewed file.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        user_agent: str,
        connections_max: int,
        timeout_seconds: float = TIMEOUT_SECONDS,
        way: WayOut = _DIRECT,
    ) -> None:
        self._now_ms = now_ms
        self._user_agent = user_agent
        self._connections_max = connections_max
        self._timeout = ClientTimeout(total=timeout_seconds)
        self._way = way
        self._opened: ClientSession | None = None

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def send(self, endpoint: WebhookEndpoint, message_id: str, body: bytes, *, reads_body: bool = False) -> Answer:
        """Send a message. Never raises for errors of receiver or network. reads_body: return the beginning of the answer."""
        headers = {
            **signed_headers(message_id, body, keys=endpoint.keys, at_ms=self._now_ms()),
            hdrs.CONTENT_TYPE: "application/json",
            hdrs.USER_AGENT: self._user_agent,
        }
        url = URL(endpoint.url, encoded=True)
        trust = ssl.create_default_context(cadata=endpoint.ca_pem) if endpoint.ca_pem else True
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, ssl=trust, timeout=self._timeout
            ) as response:
                return Answer(
                    status=response.status,
                    error=f"status {response.status}",
                    retry_after_ms=self._retry_after_ms(response.status, response.headers.get(hdrs.RETRY_AFTER, "")),
                    body=await response.content.read(ANSWER_BYTES_MAX) if reads_body else b"",
                )
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout.total:g} seconds")
        except (ClientError, OSError, ValueError) as error:  # ValueError: an answer that is not HTTP
            return Answer(error=_reason(error))

    @property
    def _session(self) -> ClientSession:
        """The session, made at its first use, in the loop that uses it."""
        if self._opened is None:
            self._opened = open_session(
                self._way,
                connector={"force_close": True, "limit": self._connections_max, "use_dns_cache": False},
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            )
        return self._opened

    def _retry_after_ms(self, status: int, text: str) -> int | None:
        """Parse Retry-After, seconds or a date (RFC 9110, 10.2.3); None for anything else."""
        if status not in _BUSY or not text:
            return None
        if _SECONDS.fullmatch(text):
            return int(text) * 1000
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # OverflowError: numbers out of a date's range
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0, round((at - datetime.fromtimestamp(self._now_ms() / 1000, UTC)).total_seconds() * 1000))


def _reason(error: Exception) -> str:
    """The reason, without the URL, whose query may be a secret, and without control characters."""
    text = error.message if isinstance(error, ClientResponseError) else str(error)
    return "".join(char if char.isprintable() else "\ufffd" for char in f"{type(error).__name__}: {text}"[:REASON_CHARS_MAX])
