"""aiohttp's client session, with this process's proxies and authorities."""

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ServerDisconnectedError,
    TCPConnector,
)
from yarl import URL

from tallygate.outbound.connect_failure import reason_of
from tallygate.outbound.way_out import WayOut, tls_context

Trust = ssl.SSLContext | Literal[True]


class FetchError(Exception):
    """A fetch failed. The text states what happened, never what was sent or answered.

    is_lasting   an immediate retry cannot help: the server refused, or its answer is malformed
    status       of the answer, if that is what was wrong; 0: it was something else
    """

    def __init__(self, message: str, *, is_lasting: bool = False, status: int = 0) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting
        self.status = status


def open_session(way: WayOut, *, connector: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> ClientSession:
    """Open a session that uses the proxies and trusts the authorities of `way`. The caller closes it.

    connector, options   of aiohttp's connector and session
    """

    async def through_proxy(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        proxy = way.proxy_for(str(request.url))
        if proxy is not None:
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
            request.update_proxy(URL.build(scheme="http", host=proxy.host, port=proxy.port), None, headers)
            if headers is not None and not request.is_ssl():
                request.headers.update(headers)  # without a tunnel the request itself goes to the proxy
        return await handler(request)

    connector = {"ssl": trust_of(way.ca_pem), **connector}
    return ClientSession(connector=TCPConnector(**connector), trust_env=False, middlewares=(through_proxy,), **options)


def trust_of(ca_pem: str) -> Trust:
    """The certificates that a session, or one of its requests, trusts. ca_pem: trusted beside the system's authorities."""
    return tls_context(ca_pem) if ca_pem else True


async def fetch(
    session: ClientSession,
    method: str,
    url: str,
    *,
    whose: str,
    bytes_max: int,
    timeout_s: float,
    trust: Trust = True,
    headers: Mapping[str, str] | None = None,
    data: str | Mapping[str, str] | None = None,
    may_repeat: bool = False,
) -> bytes:
    """Fetch the body of an answer with status 200; redirects are not followed. Raises FetchError.

    whose       the server's name in an error's text
    trust       certificates trusted instead of the session's
    data        a body, or the fields of a form
    may_repeat  retry once if a kept connection closed as it was used: the request may reach the server twice
    """
    timeout = ClientTimeout(total=timeout_s)
    try:
        async with session.request(
            method, url, data=data, headers=headers, timeout=timeout, allow_redirects=False, ssl=trust
        ) as answer:
            if answer.status != 200:
                is_lasting = answer.status < 500 and answer.status != 429
                redirects = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
                raise FetchError(f"{whose} answered {answer.status}{redirects}", is_lasting=is_lasting, status=answer.status)
            body = bytearray()
            while chunk := await answer.content.readany():
                body += chunk
                if len(body) > bytes_max:
                    raise FetchError(f"{whose}'s answer is too long: more than {bytes_max} bytes", is_lasting=True)
            return bytes(body)
    except (ClientError, TimeoutError) as error:
        if not (may_repeat and isinstance(error, ServerDisconnectedError)):
            raise FetchError(f"{whose} could not be reached: {reason_of(error) or type(error).__name__}") from None
    return await fetch(
        session, method, url, whose=whose, bytes_max=bytes_max, timeout_s=timeout_s, trust=trust, headers=headers, data=data
    )
