"""One message to one endpoint, and its result: a POST, signed for programs, or a mail."""

import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, hdrs
from yarl import URL

from tallygate.config.webhook_endpoint import WebhookEndpoint, WebhookFormat
from tallygate.outbound.session import open_session
from tallygate.outbound.way_out import WayOut
from tallygate.webhooks.answer import Answer, reason
from tallygate.webhooks.mail import send_mail
from tallygate.webhooks.message import CHAT_BODIES, Message
from tallygate.webhooks.signature import signed_headers

TIMEOUT_SECONDS: Final = 15.0  # from the name's look-up to the answer's head
ANSWER_BYTES_MAX: Final = 1_024  # of a body, which only `tallygate webhooks test` shows
_DIRECT: Final = WayOut()
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


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

    async def send(self, endpoint: WebhookEndpoint, message: Message, *, reads_body: bool = False) -> Answer:
        """Send a message. Never raises for errors of receiver or network. reads_body: return the beginning of the answer."""
        if endpoint.mail is not None:
            trust = ssl.create_default_context(cadata=endpoint.ca_pem or None)
            timeout = self._timeout.total or TIMEOUT_SECONDS
            return await send_mail(endpoint.mail, message, at_ms=self._now_ms(), timeout_seconds=timeout, trust=trust)
        return await self._post(endpoint, message, reads_body=reads_body)

    async def _post(self, endpoint: WebhookEndpoint, message: Message, *, reads_body: bool) -> Answer:
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json", hdrs.USER_AGENT: self._user_agent}
        if endpoint.format is WebhookFormat.STANDARD:
            body = message.body
            headers |= signed_headers(message.id, body, keys=endpoint.keys, at_ms=self._now_ms())
        else:
            body = CHAT_BODIES[endpoint.format](message.wording)
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
            return Answer(error=reason(error))

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
