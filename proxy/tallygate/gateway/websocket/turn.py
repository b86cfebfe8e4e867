"""One turn of a socket: what an exchange is over HTTP, with the same hold, meter, bill, event and settlement."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from msgspec.structs import replace

from tallygate.dialects.socket_dialect import RESPONSE, Ahead, ServerMessage
from tallygate.domain.errors import Refusal, StoreError
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.answer_reader import NO_HEAD, AnswerHead, AnswerReader
from tallygate.gateway.exchange.call import Held
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.finish import tokens_made
from tallygate.gateway.exchange.relay import Relay
from tallygate.gateway.services import Services

_EVENTS: Final = AnswerHead(status=200, content_type="text/event-stream", is_labelled_events=True)
_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")  # in JSON they stand between tokens alone


class TurnRelay(Relay):
    """What becomes of a turn's answer. Its bytes go down in frames, beside it; here they are read.

    on_cut   called when the turn is ended by us, with a refusal for its client
    """

    on_cut: Callable[[Refusal], None] | None = None

    def take(self, message: bytes, about: ServerMessage) -> None:
        """Read one message of the turn, which may be the last."""
        if self.ended.done():
            return
        if about.error_status and not self.head.status:
            self.first_byte_at = self._clock()
            self.head = replace(NO_HEAD, status=about.error_status)
            self.on_complete()
            return
        if not self.head.status:
            self.first_byte_at = self._clock()
            self.head = _EVENTS
            self.reader.begin(self.head, hides_usage_chunk=False)
        self.reader.feed(b"data: " + message.translate(_BLANKS) + b"\n\n")
        if self.is_client_gone:
            self._read_on(len(message))
        if about.ends:
            self.on_complete()

    def client_gone(self) -> None:
        if self.is_client_gone:
            return
        self.is_client_gone = True
        if self.ended.done():
            return
        if self._start_drain is not None:
            self._drain = self._start_drain(is_stream=True)
        if self._drain is None:
            self.cut()
        else:
            self.is_behind = False  # what waited for the client is read on
            self._drain.limit(self._loop, self.cut)

    def cut(self, refusal: Refusal | None = None) -> None:
        was_open = not self.ended.done()
        super().cut(refusal)
        if was_open and refusal is not None and self.on_cut is not None:
            self.on_cut(refusal)


class TurnAnswer(Answer):
    """The answer of a turn."""

    __slots__ = ("turn_relay",)

    def _new_relay(self) -> Relay:
        call, services = self.held.call, self.services
        drains = call.head.upstream.drains
        self.turn_relay = TurnRelay(
            response=call.head.client.response,
            reader=AnswerReader(self, call.head.dialect, call.facts, call.objects),
            exchange=self,
            start_drain=None if drains is None else partial(drains.start, call.caller.organization.id),
            loop=services.loop,
            clock=services.clock,
        )
        return self.turn_relay


class Turn:
    """An admitted turn, until it is settled.

    lane         in which its messages come; response_id: of its response, once that is known
    ahead        what it was held for, if nobody has asked for it
    places       what it has taken of the worker, given back at its end
    finish       the last stage of an exchange
    """

    def __init__(
        self,
        held: Held,
        services: Services,
        lane: str,
        places: ExitStack,
        on_end: Callable[["Turn"], None],
        *,
        finish: Callable[[Answer], Awaitable[Bill]],
        ahead: Ahead | None,
    ) -> None:
        self.answer = TurnAnswer(held, services)
        self.lane = lane
        self.ahead = ahead
        self.kind = RESPONSE if ahead is None else ahead.kind
        self.response_id = ""
        self.last_at = services.clock()
        self._places = places
        self._on_end = on_end
        self._finish = finish
        self._ending: asyncio.Task[None] | None = None

    @property
    def relay(self) -> TurnRelay:
        return self.answer.turn_relay

    @property
    def is_spare(self) -> bool:
        """Return whether it was held ahead, and the upstream has not begun it."""
        return self.ahead is not None and self.answer.sent_at is None

    @property
    def is_over(self) -> bool:
        return self.relay.ended.done()

    def cut_if_spare(self) -> None:
        """End it unless the upstream has begun it."""
        if self.is_spare:
            self.relay.cut()

    async def end(self) -> None:
        """Settle it, once its answer is over. Whoever asks waits for the one settlement, which no cancellation ends."""
        if self._ending is None:
            self._ending = self.answer.services.loop.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            if self.is_spare:
                self._withdraw()
                return
            bill = await self._finish(self.answer)
            self.answer.note_made_tokens(tokens_made(self.answer, bill))  # for the next one, which may continue it
        finally:
            self._places.close()
            self._on_end(self)

    def _withdraw(self) -> None:
        """Return a hold that was not needed: nothing was served, and nothing is entered."""
        held, services = self.answer.held, self.answer.services
        self.answer.begin_ending()
        if held.is_fallback:
            services.fallback.release(held.admission)
        services.withdrawals.note(held.admission, after=StoreError("it was held ahead, and nobody spoke"))
