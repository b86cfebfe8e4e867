"""The stages of an exchange with others that look on: only where an access log or a collector is wanted, so that nobody else pays.

`AccessLines` is one observer; `exchange_spans.py` has the other.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tallygate.config.model import WEBSOCKET
from tallygate.domain.errors import Refusal, Refused
from tallygate.domain.money import usd_text
from tallygate.domain.usage_event import Outcome
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.call import Caller, Client, Head
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.finish import failure_refusal, finish
from tallygate.gateway.exchange.pipeline import Pipeline
from tallygate.gateway.services import Services
from tallygate.telemetry.access_log import AccessLog, Facts

if TYPE_CHECKING:
    from tallygate.telemetry.trace_context import Trace

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """What the stages of a request have come to know.

    status    that was sent; 0: none yet
    trace     of the request, if it is traced
    ended_at  monotonic seconds
    """

    head: Head | None = None
    caller: Caller | None = None
    answer: Answer | None = None
    bill: Bill | None = None
    refusal: Refusal | None = None
    status: int = 0
    trace: "Trace | None" = None
    ended_at: float = 0.0

    @property
    def code(self) -> str | None:
        """The error code of the gateway's own answer, or how the upstream's ended if it was no success."""
        if self.refusal is not None:
            return str(self.refusal.code)
        if self.answer is None or self.bill is None:
            return None if self.status else Outcome.CLIENT_GONE.value
        relay = self.answer.relay
        if relay.is_client_gone:
            return Outcome.CLIENT_GONE.value
        if relay.failure is not None or relay.refusal is not None:
            return str(failure_refusal(self.answer).code)
        outcome = self.bill.ending.outcome
        return None if outcome is Outcome.SUCCESS else outcome.value


class Observer:
    """Looks on at exchanges. Here each method does nothing; none may wait."""

    def begun(self, client: Client, seen: Seen) -> None:
        """A request has come."""

    def matched(self, head: Head, seen: Seen) -> Head:
        """Its endpoint is known. Returns the head with which it goes on."""
        del seen
        return head

    def ended(self, client: Client, seen: Seen) -> None:
        """It has ended, and so has its answer."""

    def turn_ended(self, answer: Answer, bill: Bill) -> None:
        """A turn of a WebSocket has been settled, before its session ends."""


class ObservedPipeline(Pipeline):
    """Serves requests, and hands what became of each to the observers when it has ended."""

    def __init__(self, services: Services, observers: Sequence[Observer]) -> None:
        super().__init__(services)
        self._observers = observers
        self._seen: dict[str, Seen] = {}

    async def serve(self, client: Client) -> None:
        seen = self._seen[client.id] = Seen()
        for observer in self._observers:
            observer.begun(client, seen)
        try:
            await super().serve(client)
        finally:
            del self._seen[client.id]
            seen.status = _status(client, seen)
            seen.ended_at = self.services.clock()
            for observer in self._observers:
                _show(client, observer.ended, client, seen)

    def match(self, client: Client) -> Head | None:
        head = super().match(client)
        if head is not None:
            seen = self._seen[client.id]
            for observer in self._observers:
                head = observer.matched(head, seen)
            seen.head = head
        return head

    async def identify(self, head: Head) -> Caller:
        caller = await super().identify(head)
        if (seen := self._seen.get(head.client.id)) is not None:  # else it is a turn of a socket
            seen.caller = caller
        return caller

    async def finish(self, answer: Answer) -> Bill:
        has_begun = answer.held.call.head.client.response.is_started
        bill = await finish(answer)
        seen = self._seen.get(answer.held.call.head.client.id)
        if seen is None:
            for observer in self._observers:
                _show(answer.client, observer.turn_ended, answer, bill)
            return bill
        seen.answer, seen.bill = answer, bill
        relay = answer.relay
        if has_begun or not relay.is_client_gone:
            is_own = not has_begun and (relay.failure is not None or not relay.is_complete)
            seen.status = failure_refusal(answer).status if is_own else relay.head.status
        return bill

    def refuse(self, refused: Refused, client: Client, head: Head | None, caller: Caller | None) -> None:
        if (seen := self._seen.get(client.id)) is not None:
            seen.refusal, seen.status = refused.refusal, refused.refusal.status
        super().refuse(refused, client, head, caller)


def _show(client: Client, show: Callable[..., None], *what: object) -> None:
    """Let an observer see something, and log what it raises: an answer that was given does not become a failure."""
    try:
        show(*what)
    except Exception:  # noqa: BLE001 - as above
        _log.exception("what became of exchange %s is not shown", client.id)


def _status(client: Client, seen: Seen) -> int:
    """The status that was sent; 0 if the client left before."""
    if seen.status or not client.response.is_finished:
        return seen.status
    if seen.head is not None and seen.head.route.method == WEBSOCKET:
        return 101
    return 204 if client.request.method == "OPTIONS" else 200


class AccessLines(Observer):
    """Hands the facts of requests to the access log.

    A WebSocket has one line, at its end. What its turns used is in their usage events.
    """

    def __init__(self, log: AccessLog) -> None:
        self._log = log

    def ended(self, client: Client, seen: Seen) -> None:
        if self._log.wants(seen.status):
            self._log.add(_facts(client, seen))


def _facts(client: Client, seen: Seen) -> Facts:
    head, caller, bill = seen.head, seen.caller, seen.bill
    facts: dict[str, object] = {
        "id": client.id,
        "org": None if caller is None else caller.organization.id,
        "credential": None if caller is None else caller.credential.id,
        "method": client.request.method,
        "route": None if head is None else head.route.path,
        "status": seen.status or None,
        "code": seen.code,
        "ms": round((seen.ended_at - client.started_at) * 1_000, 1),
    }
    if bill is not None and seen.answer is not None:
        usage = bill.metered.usage
        facts |= {
            "model": seen.answer.model,
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "usd": usd_text(bill.cost_nano_usd),
            "source": bill.metered.source.value,
        }
    if caller is not None and caller.client_request_id is not None:
        facts["client_request_id"] = caller.client_request_id
    return {name: value for name, value in facts.items() if value is not None}
