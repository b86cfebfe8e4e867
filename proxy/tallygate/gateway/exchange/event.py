"""The usage event of an exchange: a first one at admission, in case no other follows, and the final one from its bill."""

from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.domain.billed import billed_of, columns_of
from tallygate.domain.routed_price import RoutedPrice
from tallygate.domain.usage import Usage, UsageSource
from tallygate.domain.usage_event import UNREGISTERED, Outcome, UsageEvent
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.call import Call
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.estimate import Estimate
from tallygate.gateway.exchange.metering import ASSUMED, CHARGED_AT_BOUND
from tallygate.telemetry.unpriced_models import UNPRICED_UNITS

_EXPIRED, _CHECKPOINT = Outcome.EXPIRED, UsageSource.CHECKPOINT  # read once: a member of an enum takes a call to look up
encode: Final = msgspec.json.Encoder().encode
OUTPUT_CLAMPED = "output_clamped"  # flag of an event whose request had its maximum output lowered
STATED_COST = "stated_cost"  # flag of an event that is charged what the provider stated


def first_event(call: Call, floor_nano_usd: int, floor_completion_tokens: int) -> UsageEvent:
    """The event of a worker that dies before its first checkpoint: the request was probably sent, and generated for."""
    head, caller, client, asked = call.head, call.caller, call.head.client, call.estimate
    source, flags = head.treatment.first_word(asked)
    event = UsageEvent(
        event_id=client.id,
        org=caller.organization.id,
        credential=caller.credential.id,
        capability=head.route.capability,
        endpoint=head.route.endpoint,
        method=client.request.method,
        request_model=call.facts.model,
        upstream=head.route.upstream,
        outcome=_EXPIRED,
        stream=call.facts.stream,
        started_at_ms=client.started_at_ms,
        usage_source=source,
        request_bytes=len(call.received.body),
        client_request_id=caller.client_request_id,
    )
    return replace(  # in two steps: CPython passes more than 15 arguments with names on in a dictionary, for 10,000 instructions
        event,
        prompt_tokens=asked.prompt_tokens,
        completion_tokens=floor_completion_tokens,
        billed=billed_of(Usage(call.facts.calls)) if call.facts.calls else None,
        price_version=asked.price.version if asked.price is not None else None,
        cost_nano_usd=floor_nano_usd,
        fee_nano_usd=head.route.fee_nano_usd,
        flags=flags if caller.credential.is_registered else (*flags, UNREGISTERED),
    )


def assumed(asked: Estimate) -> tuple[UsageSource, tuple[str, ...]]:
    """Source and flags of an estimate that is charged, since nobody saw the answer."""
    flags: tuple[str, ...] = (ASSUMED, "uncertain") if asked.price is not None else (ASSUMED, "uncertain", "unpriced")
    return _CHECKPOINT, (*flags, CHARGED_AT_BOUND) if isinstance(asked.price, RoutedPrice) else flags


def assumed_batch(_asked: Estimate) -> tuple[UsageSource, tuple[str, ...]]:
    """Source and flags of a batch whose hold is charged, since nobody saw what became of it."""
    return _CHECKPOINT, (ASSUMED, "uncertain")


def none_used(_asked: Estimate) -> tuple[UsageSource, tuple[str, ...]]:
    """Source and flags of a request that uses no tokens, whatever the answer."""
    return UsageSource.NONE, ()


def event_of(answer: Answer, bill: Bill) -> UsageEvent:
    """The event at admission, updated with the answer's amounts."""
    held, relay = answer.held, answer.relay
    caller, head, client = held.call.caller, held.call.head, held.call.head.client
    flags: tuple[str, ...] = ()
    if bill.cost_nano_usd > held.decision.held_nano_usd and caller.limits.spend:
        flags = ("overrun",)
    if answer.clamped is not None:
        flags = (*flags, OUTPUT_CLAMPED)
    if not caller.credential.is_registered:
        flags = (*flags, UNREGISTERED)
    started_at, first = client.started_at, relay.first_byte_at
    return replace(
        charged(held.event, bill, flags=flags, is_billed=head.dialect.is_billed),
        response_model=relay.reader.reading.response_model,
        status=relay.head.status,
        duration_ms=round((answer.services.clock() - started_at) * 1000),
        first_byte_ms=None if first is None else round((first - started_at) * 1000),
        request_bytes=answer.request_bytes,
        response_bytes=relay.reader.bytes_in,
        made=answer.made,
        deleted=answer.deleted,
    )


def charged(event: UsageEvent, bill: Bill, *, flags: tuple[str, ...] = (), is_billed: bool = True) -> UsageEvent:
    """An event with what a bill decides of it: its amounts, and what is odd about them. flags: further ones."""
    flags = (*bill.metered.flags, *flags)
    is_stated = bill.stated_cost is not None and bill.stated_cost.is_charged
    if bill.is_owed and bill.price is None and is_billed and not is_stated:
        flags = (*flags, "unpriced")
    if bill.unpriced_units:
        flags = (*flags, UNPRICED_UNITS)
    if bill.is_bound and bill.cost_nano_usd > bill.fee_nano_usd:
        flags = (*flags, CHARGED_AT_BOUND)
    if is_stated:
        flags = (*flags, STATED_COST)
    event = replace(
        event,
        outcome=bill.ending.outcome,
        usage_source=bill.metered.source,
        flags=flags,
        billed=billed_of(bill.metered.usage, bill.conditions, bill.stated_cost),
        price_version=bill.price.version if bill.price is not None else None,
        cost_nano_usd=bill.cost_nano_usd,
        fee_nano_usd=bill.fee_nano_usd,
    )
    amounts = columns_of(bill.metered.usage)
    amounts.update(bill.by_kind)
    return replace(event, **amounts)
