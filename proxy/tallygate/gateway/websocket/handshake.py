"""The handshake with a client: its key, its offers, and the switch of its connection (RFC 6455 section 4)."""

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from tallygate.dialects.socket_dialect import SocketDialect
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.exchange.answer import SHARED_NAMES, exchange_headers
from tallygate.gateway.exchange.call import Client
from tallygate.gateway.headers import response_headers
from tallygate.gateway.services import Services
from tallygate.http1.header import Header, headers_of

_VERSION: Final = "13"
_HEARTBEAT_S: Final = 30.0
_CLOSE_S: Final = 1.0
_OF_HANDSHAKE: Final = b"sec-websocket-"
_OF_BODIES: Final = frozenset({b"content-type", b"accept", b"accept-encoding"})
_MALFORMED: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST,
    message=(
        "The WebSocket handshake is not valid: it is a GET without a body, with `Connection: Upgrade`, `Upgrade: websocket`, "
        "`Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key` of 16 bytes in base64."
    ),
    should_retry=False,
)

ClientSocket = web.WebSocketResponse[bool]


def offer_of(request: web.BaseRequest, dialect: SocketDialect) -> web.BaseRequest:
    """The request with its key in a header, only the dialect's subprotocols, and no extensions: no frame is compressed."""
    offered = [each.strip() for each in ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())).split(",")]
    headers = CIMultiDict(request.headers)
    headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL, None)
    headers.popall(hdrs.SEC_WEBSOCKET_EXTENSIONS, None)
    for each in offered:
        if each.startswith(dialect.key_subprotocol):
            headers.add(hdrs.AUTHORIZATION, f"Bearer {each.removeprefix(dialect.key_subprotocol)}")
    known = [each for each in offered if each in dialect.subprotocols]
    if known:
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = ", ".join(known)
    return request.clone(headers=headers)


def check_offer(request: web.BaseRequest) -> None:
    """Refuse a handshake that two servers could read differently, or that cannot be completed."""
    is_plain = request.method == "GET" and not request.body_exists
    if not is_plain or request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) != _VERSION:
        raise Refused(_MALFORMED)
    if not web.WebSocketResponse(protocols=offered_protocols(request)).can_prepare(request):
        raise Refused(_MALFORMED)


def offered_protocols(request: web.BaseRequest) -> list[str]:
    """The subprotocols of an offer that has passed `offer_of`."""
    return [each for each in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(", ") if each]


def passing(headers: Sequence[Header]) -> list[Header]:
    """The headers of a handshake that go on to the other side's, which has its own key and extensions, and no body."""
    lower = [(header[0].lower(), header) for header in headers]
    return [header for name, header in lower if name not in _OF_BODIES and not name.startswith(_OF_HANDSHAKE)]


async def accept(
    services: Services,
    client: Client,
    *,
    upstream: Sequence[Header],
    subprotocol: str | None,
    on_bytes: Callable[[int], None],
) -> ClientSocket:
    """Switch the client's connection. upstream: the headers of its own answer; on_bytes: told of all bytes that come."""
    socket: ClientSocket = web.WebSocketResponse(
        timeout=_CLOSE_S,
        heartbeat=_HEARTBEAT_S,
        protocols=() if subprotocol is None else (subprotocol,),
        compress=False,
        max_msg_size=services.bounds.body_bytes_max,
        decode_text=False,
    )
    ours = (*SHARED_NAMES, b"server"), exchange_headers(client, services.clock()) + b"server: tallygate\r\n"
    text = response_headers(upstream, ours=ours, status=101, now_ms=services.now_ms())
    for name, value in passing(headers_of(text)):
        socket.headers.add(name.decode("latin-1"), value.decode("latin-1"))
    client.response.hand_over()
    client.connection.speak_frames(on_bytes)
    request = client.request
    if subprotocol is None and hdrs.SEC_WEBSOCKET_PROTOCOL in request.headers:  # aiohttp would log what was offered
        headers = CIMultiDict(request.headers)
        headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL)
        request = request.clone(headers=headers)
    await socket.prepare(request)
    return socket
