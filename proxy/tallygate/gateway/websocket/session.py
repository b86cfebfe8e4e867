"""One socket from its handshake to its close: messages go up and down, and turns begin and end among them.

Two tasks relay, one each way, and neither reads on while its other side does not take what it has. Whatever ends first ends the
session: the client, the upstream, or the gateway, which then ends what is open with the dialect's error event. Every turn that
was admitted is settled exactly once.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import WSCloseCode, WSMsgType
from msgspec.structs import replace

from tallygate.dialects.errors import retry_headers
from tallygate.dialects.socket_dialect import Ahead, ServerMessage, SocketTalk
from tallygate.domain.errors import ErrorCode, Refusal, Refused, RequestRejectedError
from tallygate.domain.stored_object import StoredKind, StoredReference
from tallygate.gateway.callers.keys import check_caller, presented_key
from tallygate.gateway.exchange.admitting import admit
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.call import Call, Caller, Client, Head, Intake, Received
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.entrance import Entrance
from tallygate.gateway.exchange.finish import failure_refusal
from tallygate.gateway.exchange.forward import rewritten_body
from tallygate.gateway.exchange.limit_headers import limit_headers
from tallygate.gateway.exchange.treatments import READ
from tallygate.gateway.exchange.understanding import Understanding
from tallygate.gateway.refusals import INTERNAL_ERROR, SHORT_WAIT_MS, SHUTTING_DOWN, overloaded, rejected
from tallygate.gateway.services import Services, work_on
from tallygate.gateway.websocket.handshake import ClientSocket
from tallygate.gateway.websocket.turn import Turn
from tallygate.gateway.websocket.upstream_socket import UpstreamSocket
from tallygate.http1.header import Header, headers_of
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure

TURNS_MAX: Final = 32  # open at once in one socket
KEPT_MAX: Final = 256  # responses of this socket that its turns may continue although nothing stores them
LAST_ANSWER_S: Final = 0.5  # for what may begin of what was sent last
EXPECTING_S_MAX: Final = 60.0  # from when its client has left; no answer that begins later is read
LAST_WORDS_S: Final = 2.0
REASON_BYTES_MAX: Final = 123  # RFC 6455 section 5.5: of a control frame's 125 bytes, the code takes two
_IS_OVER: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
# RFC 6455 section 7.4.1: 1005, 1006 and 1015 are never sent; 1004 is reserved. From 3000 on they are of libraries and applications.
_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_NOT_ALLOWED: Final = frozenset({401, 403})
_ENDS_SESSION: Final = frozenset({401})
_INTAKE: Final = Intake(is_body_read=True, codings=(), query="")
_NO_BINARY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST, message="Messages are JSON texts: this API has no binary messages.", should_retry=False
)
_NO_MAXIMUM: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST,
    message=(
        "The most that this model generates is not known, so a response that it begins by itself cannot be held to your limits: "
        "state 'max_output_tokens' in the session."
    ),
    param="session.max_output_tokens",
    should_retry=False,
)
_TOO_MUCH: Final = overloaded("The messages of your organization take too much of this gateway's memory.")
_log: Final = logging.getLogger(__name__)


class Close(NamedTuple):
    """How a session ends. code, reason: of the close frame for the side that is still there; refusal: for the client."""

    code: int
    reason: str = ""
    refusal: Refusal | None = None
    is_of_client: bool = False


class Stages(Protocol):
    """The stages of an exchange, as a pipeline has them."""

    services: Services
    entrance: Entrance
    understanding: Understanding
    answers: set[Answer]

    async def identify(self, head: Head) -> Caller: ...
    def permit(self, head: Head, caller: Caller) -> None: ...
    def count_refused(self, refused: Refused, head: Head | None, caller: Caller | None) -> None: ...
    async def finish(self, answer: Answer) -> Bill: ...


class Session:
    """See the module. Implements `ClientListener`.

    head      of the handshake; each turn is identified anew
    turns     open ones, in the order in which they were asked for
    leaving   how it ends as soon as no turn is open; None: it goes on
    last_at   monotonic seconds, when the last message came from either side
    """

    def __init__(self, stages: Stages, head: Head, caller: Caller, talk: SocketTalk, *, is_serial: bool) -> None:
        services = stages.services
        self.head = head
        self.turns: list[Turn] = []
        self.leaving: Close | None = None
        self.last_at = services.clock()
        self._stages = stages
        self._services = services
        self._talk = talk
        self._is_serial = is_serial
        self._org = caller.organization.id
        self._kept: OrderedDict[StoredReference, int | None] = OrderedDict()
        self._treatment = replace(READ, understand=partial(Understanding.read, kept=self._kept))
        self._stop: asyncio.Future[Close] = services.loop.create_future()
        self._turn_ended = asyncio.Event()
        self._is_client_gone = False
        self._received = 0  # bytes that may be waiting to become a message, reserved among those of bodies

    # What its client's connection tells, and others decide.

    def receive(self, size: int) -> None:
        """Reserve memory for bytes that have come, until they are a message that has been dealt with."""
        if self._stages.entrance.bodies.acquire(self._org, size):
            self._received += size
        else:
            self.stop(Close(WSCloseCode.TRY_AGAIN_LATER, ErrorCode.OVERLOADED, _TOO_MUCH))

    def client_gone(self) -> None:
        self.stop(Close(WSCloseCode.GOING_AWAY, is_of_client=True))

    def client_paused(self) -> None:
        for turn in self.turns:
            turn.relay.is_behind = True

    def client_resumed(self) -> None:
        for turn in self.turns:
            turn.relay.is_behind = False

    @property
    def is_busy(self) -> bool:
        """Return whether a turn is under way."""
        return any(not turn.is_spare for turn in self.turns)

    def stop(self, close: Close) -> None:
        """End the session soon, and its turns as they stand."""
        if not self._stop.done():
            self._stop.set_result(close)

    def leave(self, close: Close) -> None:
        """End the session once its turns are over."""
        self.leaving = self.leaving or close
        self._leave_if_idle()

    async def check_key(self) -> None:
        """End the session if its key holds no longer."""
        request, view = self.head.client.request, self._services.view
        try:
            key = presented_key(request)
            organization, credential = view.directory.find(key) or await view.foreign.find(key, request.remote or "")
            check_caller(organization, credential, self._services.now_ms())
        except Refused as refused:
            if refused.refusal.status in _NOT_ALLOWED:
                self.stop(_closed_for(refused.refusal))

    def check_silence(self, now: float, *, idle_s: float) -> None:
        """End the session if nothing has been said for too long, or the upstream is silent too long in a turn. now: as last_at."""
        upstream = self.head.upstream.config
        for turn in self.turns:
            patience_ms = upstream.idle_ms if turn.relay.head.status else upstream.first_byte_ms
            if turn.answer.sent_at is not None and not turn.relay.is_behind and now - turn.last_at > patience_ms / 1000:
                self._fail_turns(_failure(FailureKind.TIMEOUT, "it did not go on in time"))
                self.stop(Close(WSCloseCode.INTERNAL_ERROR, ErrorCode.UPSTREAM_TIMEOUT))
                return
        if not self.is_busy and now - self.last_at > idle_s:
            self.stop(Close(WSCloseCode.GOING_AWAY, "nothing was said for too long"))

    # Its life.

    async def run(self, client: ClientSocket, upstream: UpstreamSocket) -> None:
        """Relay until either side, or the gateway, ends it."""
        create = self._services.loop.create_task
        up, down = create(self._relay_up(client, upstream)), create(self._relay_down(client, upstream))
        try:
            await asyncio.wait((up, down, self._stop), return_when=asyncio.FIRST_COMPLETED)
            close, is_of_upstream = self._first_end(up, down)
            await _cancel(up)
            if close.is_of_client:
                await self._end_by_client(close, down, upstream)
            else:
                await _cancel(down)
                await self._end_by_others(close, client, upstream, is_of_upstream=is_of_upstream)
        finally:
            await _cancel(up)
            await _cancel(down)
            for turn in list(self.turns):
                turn.relay.client_gone()
                turn.relay.cut()
                await turn.end()
            self._release()

    def _first_end(self, up: "asyncio.Task[Close]", down: "asyncio.Task[Close]") -> tuple[Close, bool]:
        """How it ends, and whether the upstream ended it."""
        if self._stop.done() and not (self._stop.result().is_of_client and up.done()):  # its close frame tells more
            return self._stop.result(), False
        ended = up if up.done() else down
        try:
            return ended.result(), ended is down
        except Exception:  # noqa: BLE001 - the outermost place of a session
            _log.exception("socket %s failed", self.head.client.id)
            return Close(WSCloseCode.INTERNAL_ERROR, ErrorCode.INTERNAL_ERROR, INTERNAL_ERROR), False

    async def _end_by_client(self, close: Close, down: "asyncio.Task[Close]", upstream: UpstreamSocket) -> None:
        """Read turns on for their usage, within the bounds of answers whose client has left, and close the upstream's side."""
        self._is_client_gone = True
        for turn in list(self.turns):
            if turn.is_spare and self._talk.is_expecting:  # an answer to what was heard last may begin at this moment
                self._services.loop.call_later(LAST_ANSWER_S, turn.cut_if_spare)
            elif turn.is_spare:
                turn.relay.cut()
            turn.relay.client_gone()
        until = self._services.loop.time() + EXPECTING_S_MAX
        while not down.done():
            waiting: list[asyncio.Future[Any]] = [turn.relay.ended for turn in self.turns if not turn.is_over]
            if waiting:
                await asyncio.wait((down, *waiting), return_when=asyncio.FIRST_COMPLETED)
            elif self._talk.is_expecting and self._services.loop.time() < until:
                await asyncio.wait((down,), timeout=LAST_ANSWER_S)
                if all(turn.is_over for turn in self.turns):
                    break
            else:
                break
        self._fail_turns(_CLOSED)
        for turn in list(self.turns):
            await turn.end()
        await _cancel(down)
        await upstream.close(sendable(close.code))

    async def _end_by_others(self, close: Close, client: ClientSocket, upstream: UpstreamSocket, *, is_of_upstream: bool) -> None:
        """End turns as they stand, with the dialect's error event for each, and close both sides."""
        if is_of_upstream:
            self._fail_turns(_CLOSED)
        for turn in list(self.turns):
            if not turn.is_over:
                turn.relay.cut(close.refusal or SHUTTING_DOWN)
        cut = [turn for turn in self.turns if not turn.is_spare]
        for turn in list(self.turns):
            await turn.end()
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                for turn in cut:
                    await self._send_error(client, failure_refusal(turn.answer), turn.answer.client, turn.lane)
                if not cut and close.refusal is not None:
                    await self._send_error(client, close.refusal, self.head.client, "")
                reason = close.reason.encode()[:REASON_BYTES_MAX]
                await asyncio.gather(
                    client.close(code=sendable(close.code), message=reason), upstream.close(WSCloseCode.GOING_AWAY)
                )
        except (TimeoutError, ConnectionError):
            self.head.client.connection.abort()

    def _fail_turns(self, failure: UpstreamFailure) -> None:
        for turn in self.turns:
            if not turn.is_over:
                turn.relay.on_failure(failure)

    # Up.

    async def _relay_up(self, client: ClientSocket, upstream: UpstreamSocket) -> Close:
        while True:
            message = await client.receive()
            if message.type is WSMsgType.CLOSE:
                return Close(message.data, is_of_client=True)
            if message.type in _IS_OVER:
                return Close(WSCloseCode.GOING_AWAY, is_of_client=True)
            self.last_at = self._services.clock()
            if message.type is WSMsgType.BINARY:
                return Close(WSCloseCode.UNSUPPORTED_DATA, ErrorCode.INVALID_REQUEST, _NO_BINARY)
            self._release()  # what a turn's message takes, its exchange reserves
            await self._take(message.data, client, upstream)

    async def _take(self, data: bytes, client: ClientSocket, upstream: UpstreamSocket) -> None:
        """Deal with one message of the client's."""
        lane = ""
        try:
            asked = await work_on(self._services, self._org, len(data), partial(self._talk.read_client, data))
            lane = asked.lane
            for ahead in asked.ahead:
                await self._hold_ahead(ahead, lane, is_renewal=asked.adds)
            if asked.asks:
                await self._take_turn(data, lane, upstream)
            else:
                await upstream.send(data)
        except RequestRejectedError as error:
            await self._refuse(client, Refused(rejected(error)), self.head, None, lane)
        except _TurnRefusedError as error:
            await self._refuse(client, error.refused, error.head, error.caller, lane)
        except ConnectionError:
            await self._stop  # what reads from the upstream ends the session

    async def _take_turn(self, data: bytes, lane: str, upstream: UpstreamSocket) -> None:
        """Hold a turn that was asked for, and send it up. Raises _TurnRefusedError."""
        await self._wait_for_lane(lane)
        turn = await self._held(data, lane)
        body = await rewritten_body(turn.answer)
        if not turn.is_over and not upstream.is_closed:
            turn.answer.note_sent()
            turn.last_at = self._services.clock()
            await upstream.send(body)

    async def _hold_ahead(self, ahead: Ahead, lane: str, *, is_renewal: bool = False) -> None:
        """Have a turn held that the upstream may begin by itself. is_renewal: only if one is. Raises _TurnRefusedError."""
        spare = next(
            (turn for turn in self.turns if turn.is_spare and turn.ahead is not None and turn.ahead.kind == ahead.kind), None
        )
        held = spare.ahead if spare is not None else None
        if held is None and is_renewal:
            return
        if held is not None and held.covers_ms >= ahead.needs_ms and held.additions == ahead.additions:
            return
        await self._held(ahead.body, lane, ahead)
        if spare is not None and spare.is_spare:
            spare.relay.cut()
            await spare.end()

    async def _held(self, data: bytes, lane: str, ahead: Ahead | None = None) -> Turn:
        """Lead a turn through the stages that come before it is sent. Raises _TurnRefusedError."""
        services, stages = self._services, self._stages
        client = self._client_of_turn()
        head = replace(self.head, client=client, treatment=self._treatment)
        caller: Caller | None = None
        try:
            self._check_room()
            caller = await stages.identify(head)
            stages.permit(head, caller)
            with ExitStack() as places:
                visit = places.enter_context(stages.entrance.enter(head, caller))
                visit.reserve(len(data))
                call = await stages.understanding.call(head, caller, _INTAKE, Received(body=data))
                _check_maximum(call, ahead)
                held = await admit(services, call)
                turn = Turn(held, services, lane, places.pop_all(), self._forget, finish=stages.finish, ahead=ahead)
        except Refused as refused:
            raise _TurnRefusedError(refused, head, caller) from None
        turn.relay.on_cut = self._turn_cut
        self.turns.append(turn)
        stages.answers.add(turn.answer)
        if self._is_client_gone:
            turn.relay.client_gone()
        return turn

    def _check_room(self) -> None:
        if self.leaving is not None:
            raise Refused(self.leaving.refusal or SHUTTING_DOWN)
        if len(self.turns) >= TURNS_MAX:
            raise Refused(overloaded(f"A connection can have {TURNS_MAX} responses under way."))

    async def _wait_for_lane(self, lane: str) -> None:
        """Wait until no turn is open in a lane whose responses come one after the other."""
        while self._is_serial and any(turn.lane == lane for turn in self.turns):
            self._turn_ended.clear()
            await self._turn_ended.wait()

    def _client_of_turn(self) -> Client:
        """The client of an exchange of its own, under the configuration in force now."""
        services = self._services
        return replace(
            self.head.client, id=services.new_id(), view=services.view, started_at=services.clock(), started_at_ms=services.now_ms()
        )

    async def _refuse(self, client: ClientSocket, refused: Refused, head: Head, caller: Caller | None, lane: str) -> None:
        """Answer a message with an error event. The session goes on, unless its key or its organization may not."""
        refusal = refused.refusal
        self._stages.count_refused(refused, head, caller)
        ours: list[Header] = []
        if refused.decision is not None and caller is not None:
            ours = headers_of(limit_headers(refused.decision, caller.limits, head.dialect)[1])
        try:
            await self._send_error(client, refusal, head.client, lane, ours)
        except ConnectionError:
            self.client_gone()
        if refusal.status in _ENDS_SESSION or _is_long_pause(refusal):
            self.leave(_closed_for(refusal)._replace(refusal=None))

    async def _send_error(
        self, client: ClientSocket, refusal: Refusal, asked: Client, lane: str, more: Sequence[Header] = ()
    ) -> None:
        """Send an error event. asked: whose request it answers."""
        if client.closed:
            return
        headers = {name.decode(): value.decode() for name, value in (*_id_header(asked), *retry_headers(refusal), *more)}
        event = self._talk.error_event(refusal, request_id=asked.id, lane=lane, headers=headers)
        await client.send_frame(event, WSMsgType.TEXT)

    # Down.

    async def _relay_down(self, client: ClientSocket, upstream: UpstreamSocket) -> Close:
        while True:
            message = await upstream.socket.receive()
            if message.type is WSMsgType.CLOSE:
                return Close(message.data, message.extra or "")
            if message.type is not WSMsgType.TEXT:
                return Close(WSCloseCode.INTERNAL_ERROR, ErrorCode.UPSTREAM_INVALID_RESPONSE)
            data: bytes = message.data
            about = self._talk.read_server(data)
            self.last_at = self._services.clock()
            turn = self._turn_of(about) if about.is_of_turn else None
            if about.begins and (turn is None or turn.is_spare):
                turn = await self._unasked(client, about.kind, turn)
                if turn is None:
                    _log.error("socket %s: the upstream began a response that is not held", self.head.client.id)
                    return Close(WSCloseCode.INTERNAL_ERROR, ErrorCode.UPSTREAM_INVALID_RESPONSE)
            if turn is not None:
                turn.last_at = self.last_at
                if turn.answer.sent_at is None:
                    turn.answer.note_sent()
                turn.response_id = turn.response_id or about.response_id
                if about.is_read:
                    turn.relay.take(data, about)
                if turn.is_over:
                    await turn.end()
            if not self._is_client_gone:
                try:
                    await client.send_frame(data, WSMsgType.TEXT)
                except ConnectionError:
                    self.client_gone()

    async def _unasked(self, client: ClientSocket, kind: str, spare: Turn | None) -> Turn | None:
        """The turn of what the upstream began by itself, of what it has been sent; and another one for the rest of that.

        spare: held ahead; None: there was none, so it is held now. Returns None if nothing may begin by itself, or it is refused.
        """
        try:
            for ahead in self._talk.ahead(begun=kind):
                if ahead.kind == kind:
                    spare = spare or await self._held(ahead.body, "", ahead)
                    spare.answer.note_sent()
            for ahead in () if self._is_client_gone else self._talk.ahead():
                await self._hold_ahead(ahead, "")
        except _TurnRefusedError as error:
            await self._refuse(client, error.refused, error.head, error.caller, "")
            self.leave(_closed_for(error.refused.refusal)._replace(refusal=None))
        return spare

    def _turn_of(self, about: ServerMessage) -> Turn | None:
        """The turn of a message: of its response, else the first that may have it and has none."""
        if about.response_id:
            for turn in self.turns:
                if turn.response_id == about.response_id:
                    return turn
            if StoredReference(StoredKind.RESPONSE, about.response_id) in self._kept:
                return None  # it has ended
        if self._is_serial:
            of_lane = [turn for turn in self.turns if turn.lane == about.lane] or (self.turns if not about.begins else [])
            return of_lane[0] if of_lane else None
        if not about.response_id:
            return next(
                (turn for turn in self.turns if turn.lane == about.lane and not turn.response_id and not turn.is_spare), None
            )
        waiting = [turn for turn in self.turns if turn.kind == about.kind and not turn.response_id] if about.begins else []
        return min(waiting, key=attrgetter("is_spare"), default=None)

    # The end of a turn.

    def _turn_cut(self, refusal: Refusal) -> None:
        self.stop(_closed_for(refusal))

    def _forget(self, turn: Turn) -> None:
        self.turns.remove(turn)
        self._stages.answers.discard(turn.answer)
        if turn.response_id:
            self._kept[StoredReference(StoredKind.RESPONSE, turn.response_id)] = turn.answer.made_tokens.get(StoredKind.RESPONSE)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        self._turn_ended.set()
        self._leave_if_idle()

    def _leave_if_idle(self, *, waits: bool = True) -> None:
        """Leave if no turn is under way. waits: for an answer that may begin at this moment."""
        if self.leaving is None or self.is_busy:
            return
        if waits and self._talk.is_expecting:
            self._services.loop.call_later(LAST_ANSWER_S, partial(self._leave_if_idle, waits=False))
        else:
            self.stop(self.leaving)

    def _release(self) -> None:
        self._stages.entrance.bodies.release(self._org, self._received)
        self._received = 0


class _TurnRefusedError(Exception):
    """Carries a refusal, and whose it is as far as that is known, to where it is answered."""

    def __init__(self, refused: Refused, head: Head, caller: Caller | None) -> None:
        super().__init__(refused.refusal.message)
        self.refused, self.head, self.caller = refused, head, caller


def sendable(code: int | None) -> int:
    """The code to close one side with, after the other side's."""
    if code in _SENDABLE or (code is not None and 3000 <= code < 5000):
        return int(code)
    return WSCloseCode.INTERNAL_ERROR if code == WSCloseCode.ABNORMAL_CLOSURE else WSCloseCode.OK


def _check_maximum(call: Call, ahead: Ahead | None) -> None:
    """Refuse to hold ahead what would have to be given a maximum: there is no message to write it into."""
    if ahead is not None and call.estimate.imposed_maximum is not None:
        raise Refused(_NO_MAXIMUM)


def _closed_for(refusal: Refusal) -> Close:
    if refusal.code is ErrorCode.SHUTTING_DOWN:
        return Close(WSCloseCode.GOING_AWAY, refusal.code, refusal)
    return Close(WSCloseCode.POLICY_VIOLATION if refusal.status < 500 else WSCloseCode.INTERNAL_ERROR, refusal.code, refusal)


def _is_long_pause(refusal: Refusal) -> bool:
    """Return whether an organization has no money for so long that its clients had better come again."""
    wait_ms = refusal.retry_after_ms
    return refusal.code is ErrorCode.SPEND_LIMIT_EXCEEDED and (wait_ms is None or wait_ms > SHORT_WAIT_MS)


def _failure(kind: FailureKind, message: str) -> UpstreamFailure:
    return UpstreamFailure(kind=kind, message=message, request_sent=True, headers_seen=True)


_CLOSED: Final = _failure(FailureKind.TRUNCATED, "it closed the connection")


def _id_header(client: Client) -> list[Header]:
    return [(b"x-request-id", client.id.encode())]


async def _cancel(task: "asyncio.Task[Close]") -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
