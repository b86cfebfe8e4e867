"""The stages of an exchange with an access log: only where one is asked for, so that nobody else pays for it."""

from dataclasses import dataclass

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


@dataclass(slots=True)
class _Seen:
    """What the stages of a request have come to know. status: that was sent; 0: none yet."""

    head: Head | None = None
    caller: Caller | None = None
    answer: Answer | None = None
    bill: Bill | None = None
    refusal: Refusal | None = None
    status: int = 0


class LoggedPipeline(Pipeline):
    """Serves requests, and hands the facts of each to the access log when it has ended.

    A WebSocket has one line, at its end. What its turns used is in their usage events.
    """

    def __init__(self, services: Services, log: AccessLog) -> None:
        super().__init__(services)
        self._log = log
        self._seen: dict[str, _Seen] = {}

    async def serve(self, client: Client) -> None:
        seen = self._seen[client.id] = _Seen()
        try:
            await super().serve(client)
        finally:
            del self._seen[client.id]
            status = _status(client, seen)
            if self._log.wants(status):
                self._log.add(self._facts(client, seen, status))

    def match(self, client: Client) -> Head | None:
        head = self._seen[client.id].head = super().match(client)
        return head

    async def identify(self, head: Head) -> Caller:
        caller = self._seen[head.client.id].caller = await super().identify(head)
        return caller

    async def finish(self, answer: Answer) -> Bill:
        seen = self._seen[answer.held.call.head.client.id]
        has_begun = answer.held.call.head.client.response.is_started
        bill = await finish(answer)
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

    def _facts(self, client: Client, seen: _Seen, status: int) -> Facts:
        head, caller, bill = seen.head, seen.caller, seen.bill
        facts: dict[str, object] = {
            "id": client.id,
            "org": None if caller is None else caller.organization.id,
            "credential": None if caller is None else caller.credential.id,
            "method": client.request.method,
            "route": None if head is None else head.route.path,
            "status": status or None,
            "code": _code(seen, status),
            "ms": round((self.services.clock() - client.started_at) * 1_000, 1),
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


def _status(client: Client, seen: _Seen) -> int:
    """The status that was sent; 0 if the client left before."""
    if seen.status or not client.response.is_finished:
        return seen.status
    if seen.head is not None and seen.head.route.method == WEBSOCKET:
        return 101
    return 204 if client.request.method == "OPTIONS" else 200


def _code(seen: _Seen, status: int) -> str | None:
    """The error code of the gateway's own answer, or how the upstream's ended if it was no success."""
    if seen.refusal is not None:
        return str(seen.refusal.code)
    if seen.answer is None or seen.bill is None:
        return None if status else Outcome.CLIENT_GONE.value
    relay = seen.answer.relay
    if relay.is_client_gone:
        return Outcome.CLIENT_GONE.value
    if relay.failure is not None or relay.refusal is not None:
        return str(failure_refusal(seen.answer).code)
    outcome = seen.bill.ending.outcome
    return None if outcome is Outcome.SUCCESS else outcome.value
