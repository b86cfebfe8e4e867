"""The way up: a WebSocket to the upstream, over its proxy and under its authorities."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
    WSCloseCode,
    WSMsgType,
    WSServerHandshakeError,
)
from multidict import CIMultiDict
from yarl import URL

from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.refusals import WEBSOCKET_NOT_SERVED
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.header import Header
from tallygate.http1.upstream_failure import FailureKind, UpstreamError
from tallygate.outbound.connect_failure import reason_of

MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024  # a final response repeats all of its output, images included
HANDSHAKE_S: Final = 15.0  # for the upstream's answer to it, once there is a connection
_HEARTBEAT_S: Final = 30.0
_CLOSE_S: Final = 1.0
_AUTOMATIC: Final = ("User-Agent", "Accept", "Accept-Encoding")
_TOO_MANY: Final = 429
_KEY_REFUSED: Final = Refusal(
    code=ErrorCode.INVALID_API_KEY, message="The AI service does not accept the API key.", should_retry=False
)


class UpstreamSocket:
    """An open WebSocket. `async with` closes it, if nobody has.

    headers       of the upstream's answer; subprotocol: the one that it chose
    """

    def __init__(
        self, session: ClientSession, socket: ClientWebSocketResponse[bool], headers: Sequence[Header], subprotocol: str | None
    ) -> None:
        self._session = session
        self.socket = socket
        self.headers = headers
        self.subprotocol = subprotocol

    async def send(self, message: bytes) -> None:
        """Send a text message, no faster than the upstream takes it. Raises ConnectionError."""
        await self.socket.send_frame(message, WSMsgType.TEXT)

    async def close(self, code: int) -> None:
        """Close it with a code, and wait a moment for the upstream's own."""
        await self.socket.close(code=code)

    @property
    def is_closed(self) -> bool:
        return self.socket.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del kind, error, trace
        try:
            if not self.is_closed:
                await self.close(WSCloseCode.GOING_AWAY)
        finally:
            await self._session.close()


async def dial(upstream: UpstreamClient, target: str, headers: Sequence[Header], subprotocols: Sequence[str]) -> UpstreamSocket:
    """Open a WebSocket to an upstream. target: its path with the query.

    Raises UpstreamError where it cannot be reached or does not accept the key, Refused where it does not speak WebSocket there.
    """
    address, proxy = upstream.pool.address, upstream.pool.proxy
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        if value.isascii():
            sent.add(name.decode("ascii"), value.decode("ascii"))
    login = None if proxy is None or not proxy.authorization else {"Proxy-Authorization": proxy.authorization}
    if login is not None and not address.is_tls:  # without a tunnel the request itself goes to the proxy
        sent.update(login)
    answers: list[ClientResponse] = []

    async def keep_answer(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        answer = await handler(request)
        answers.append(answer)
        if 300 <= answer.status < 400:  # never followed: the key would go with it
            answer.close()
            raise Refused(WEBSOCKET_NOT_SERVED)
        return answer

    session = ClientSession(
        connector=TCPConnector(limit=1, ssl=True if upstream.pool.tls is None else upstream.pool.tls),
        trust_env=False,
        cookie_jar=DummyCookieJar(),
        middlewares=(keep_answer,),
        skip_auto_headers=_AUTOMATIC,
        timeout=ClientTimeout(total=None),
    )
    url = URL(f"{'https' if address.is_tls else 'http'}://{address.host_header}{target}", encoded=True)
    try:
        async with asyncio.timeout(upstream.config.connect_ms / 1000 + HANDSHAKE_S):
            socket = await session.ws_connect(
                url,
                protocols=subprotocols,
                timeout=ClientWSTimeout(ws_close=_CLOSE_S),
                heartbeat=_HEARTBEAT_S,
                headers=sent,
                proxy=None if proxy is None else URL.build(scheme="http", host=proxy.host, port=proxy.port),
                proxy_headers=login,
                max_msg_size=MESSAGE_BYTES_MAX,
                decode_text=False,
            )
    except BaseException as error:  # also where this task is cancelled: the session is closed
        await session.close()
        raise _failure_of(error, upstream) from error
    chosen = socket.protocol
    return UpstreamSocket(session, socket, [] if not answers else list(answers[-1].raw_headers), chosen)


def _failure_of(error: BaseException, upstream: UpstreamClient) -> BaseException:
    """What is raised for an error of the handshake."""
    if isinstance(error, WSServerHandshakeError):
        return _refused_with(error.status, upstream)
    if isinstance(error, TimeoutError):
        return UpstreamError(FailureKind.TIMEOUT, "it did not answer the WebSocket handshake in time")
    if isinstance(error, (ClientError, OSError, ValueError)):
        return UpstreamError(FailureKind.UNREACHABLE, "no WebSocket to it could be opened", reason=reason_of(error))
    return error


def _refused_with(status: int, upstream: UpstreamClient) -> Exception:
    if status == 401 and upstream.credentials.is_own:
        return UpstreamError(FailureKind.UNAUTHORIZED, "it does not accept the gateway's own key")
    if status == 401:
        return Refused(_KEY_REFUSED)
    if status == _TOO_MANY or status >= 500:
        return UpstreamError(FailureKind.UNREACHABLE, f"it answered the WebSocket handshake with status {status}")
    return Refused(WEBSOCKET_NOT_SERVED)
