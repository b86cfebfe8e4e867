"""One signed POST to one endpoint, and what came of it."""

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
ANSWER_BYTES_MAX: Final = 1_024  # of a body: it is looked at by `tallygate webhooks test` alone
REASON_CHARS_MAX: Final = 200
_DIRECT: Final = WayOut()
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """status: None if there was no answer; `error` says why, else repeats it. retry_after_ms: of 429 and 503, if it was given."""

    status: int | None = None
    error: str = ""
    retry_after_ms: int | None = None
    body: bytes = b""

    @property
    def is_delivered(self) -> bool:
        """Any 2xx. A redirect is none: it is not followed, for the signature was made for the endpoint that was reviewed."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        return self.status == HTTPStatus.GONE


class Sender:
    """Every attempt has a connection of its own, without cookies or redirects, by the process's way out. `close` at the end.

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
        """Never raises for what the receiver or the network does. reads_body: the answer's beginning, for people to look at."""
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
        except (ClientError, OSError, ValueError) as error:  # ValueError: an answer that is no HTTP
            return Answer(error=_reason(error))

    @property
    def _session(self) -> ClientSession:
        """Made when it is first used, in the loop that uses it."""
        if self._opened is None:
            self._opened = open_session(
                self._way,
                connector={"force_close": True, "limit": self._connections_max, "use_dns_cache": False},
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            )
        return self._opened

    def _retry_after_ms(self, status: int, text: str) -> int | None:
        """Seconds or a date (RFC 9110, 10.2.3); None for anything else."""
        if status not in _BUSY or not text:
            return None
        if _SECONDS.fullmatch(text):
            return int(text) * 1000
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # the latter from numbers that no date has
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0, round((at - datetime.fromtimestamp(self._now_ms() / 1000, UTC)).total_seconds() * 1000))


def _reason(error: Exception) -> str:
    """Without the URL, whose query may be a secret, and without what a terminal obeys."""
    text = error.message if isinstance(error, ClientResponseError) else str(error)
    return "".join(char if char.isprintable() else "\ufffd" for char in f"{type(error).__name__}: {text}"[:REASON_CHARS_MAX])
