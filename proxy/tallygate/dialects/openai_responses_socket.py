"""OpenAI's Responses API over a WebSocket: a turn is a `response.create` event with the body of a request.

OpenAI, "WebSocket mode" (developers.openai.com/api/docs/guides/websocket-mode), and the types `ResponsesClientEvent` and
`ResponsesServerEvent` of its SDK: the server's events are those of a stream, with the `stream_id` of the `response.create` that
they answer. Of one `stream_id`, or of none, they come one response after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.lenient import lenient_decode, member
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.dialects.socket_dialect import Ahead, ClientMessage, ServerMessage, SocketTalk
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import Refusal, RequestRejectedError

KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."  # OpenAI, "Realtime API with WebSockets"
LANE_CHARS_MAX: Final = 256
_CREATE: Final = "response.create"
# What asks for nothing: Codex (codex-rs/codex-api) acknowledges a response with it.
_FREE: Final = frozenset({"response.processed"})
_WRAPPED: Final = b'"response":'  # where the Realtime API's event of that name has what it asks for
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_NO_RESPONSES: Final = ("response.steer.",)
_SHOWN_CHARS_MAX: Final = 100


class _ClientEvent(msgspec.Struct, gc=False):
    type: str
    stream_id: str | None = None
    background: bool | None = None


class _ServerEvent(msgspec.Struct, gc=False):
    """The fields acted on, each open to any value."""

    type: Any = None
    stream_id: Any = None
    response: Any = None
    status: Any = None
    error: Any = None


class OpenAiResponsesSocket(OpenAiResponses):
    """GET /v1/responses with an offer to speak WebSocket. Nothing but what a turn's body says decides about its cost."""

    name = "openai_responses_socket"
    query_values: Mapping[str, Any] = {}
    subprotocols: Sequence[str] = ()
    key_subprotocol = KEY_SUBPROTOCOL
    is_serial = True

    def __init__(self) -> None:
        super().__init__()
        self._client_events = msgspec.json.Decoder(_ClientEvent)
        self._server_events = msgspec.json.Decoder(_ServerEvent)
        self._envelope = Vocabulary(_ClientEvent.__struct_fields__)

    def talk(self, query: Mapping[str, str]) -> SocketTalk:
        del query
        return self

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a turn, which is always streamed."""
        return replace(super().read_request(body, path=path, query=query), stream=True)

    def read_client(self, message: bytes) -> ClientMessage:
        parsed = parse_body(message, self._client_events)
        self._envelope.check(parsed)
        kind, lane = parsed.fields.type, parsed.fields.stream_id or ""
        if kind == _CREATE:
            if parsed.fields.background:
                raise RequestRejectedError("No response runs in the background over a WebSocket: leave it out.", param="background")
            if _WRAPPED in parsed.keys:
                raise RequestRejectedError(
                    "'response' would be read as the request by some services: spell its members in the event.", param="response"
                )
            if len(lane) > LANE_CHARS_MAX:
                raise RequestRejectedError(f"'stream_id' may have at most {LANE_CHARS_MAX} characters.", param="stream_id")
            return ClientMessage(asks=True, lane=lane)
        if kind in _FREE:
            return ClientMessage(asks=False)
        shown = kind[:_SHOWN_CHARS_MAX]
        raise RequestRejectedError(
            f"The event {shown!r} does not pass here: it may begin a response whose cost is not held. Send {_CREATE!r}.",
            param="type",
        )

    @property
    def is_expecting(self) -> bool:
        return False

    def ahead(self, *, begun: str = "") -> tuple[Ahead, ...]:
        del begun
        return ()

    def read_server(self, message: bytes) -> ServerMessage:
        event = lenient_decode(message, self._server_events)
        kind = "" if event is None or not isinstance(event.type, str) else event.type
        if event is None or not kind.startswith(("response.", "error")) or kind.startswith(_NO_RESPONSES):
            return ServerMessage(is_of_turn=False)
        lane, response_id = event.stream_id, member(event.response, "id")
        return ServerMessage(
            lane=lane if isinstance(lane, str) else "",
            response_id=response_id if isinstance(response_id, str) else "",
            begins=kind == "response.created",
            ends=kind in _ENDS or kind == "error",
            error_status=status_of_error(event.status, event.error) if kind == "error" else 0,
        )

    def error_event(self, refusal: Refusal, *, request_id: str, lane: str, headers: Mapping[str, str]) -> bytes:
        """An `error` event as in the type `ResponseWsError`; Codex reads `headers` beside the error, and the SDK in it."""
        error = self.error_object(refusal) | {"request_id": request_id, "headers": headers}
        event = {"type": "error", "status": refusal.status, "error": error, "headers": headers}
        return msgspec.json.encode(event | {"stream_id": lane} if lane else event)


def status_of_error(status: object, error: object) -> int:
    """The HTTP status of an error that refuses what was asked: as the event states it, else by the kind of error.

    0 where there is no error object: such an event belongs to a response that has begun, as in a stream.
    """
    if isinstance(status, int) and 400 <= status < 600:
        return status
    if not isinstance(error, dict):
        return 0
    return 500 if member(error, "type") in ("server_error", "api_error") else 400
