"""The stage that holds the worst case of a call against every limit at once, or none."""

import asyncio

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.errors import LimiterWipedError, Refused, StoreError
from tallygate.domain.usage_event import UsageEvent
from tallygate.gateway.exchange.assumed import floor_of
from tallygate.gateway.exchange.call import Call, Held
from tallygate.gateway.exchange.caller_limits import Demands
from tallygate.gateway.exchange.event import encode, first_event
from tallygate.gateway.refusals import limiter_refusal, store_refusal
from tallygate.gateway.services import Services
from tallygate.telemetry.metrics import FAIL_OPEN, LIMITER_ERRORS, LIMITER_SECONDS, SHADOW_REFUSED


async def admit(services: Services, call: Call) -> Held:
    """Admit a call, or raise Refused. A granted hold must be settled, released or withdrawn."""
    organization, limits, capability = call.caller.organization, call.caller.limits, call.head.route.capability
    demands = limits.demands_at(call.head.client.started_at_ms)
    admission, event = _admission(call, demands, services.bounds.lease_ms)
    is_fallback, metrics = False, services.metrics
    asked_at = services.clock()
    try:
        decision = await services.limiter.admit(admission, demands.words)
        metrics.observe(LIMITER_SECONDS, services.clock() - asked_at, admission.reservation_id, "admit")
    except asyncio.CancelledError:
        services.withdrawals.note(admission, after=StoreError("its worker ends"))
        raise
    except LimiterWipedError:
        raise Refused(store_refusal(rebuilding=True), model=call.facts.model) from None
    except StoreError as error:
        metrics.inc(LIMITER_ERRORS, "admit")
        decision = services.fallback.admit(admission)
        is_fallback = decision.admitted
        if not decision.admitted:
            services.withdrawals.note(admission, after=error)
            raise _refused_without_store(decision, call) from None
        metrics.inc(FAIL_OPEN, "spend" if limits.spend else "rate")
    for key in decision.shadow_refused_by:
        metrics.inc(SHADOW_REFUSED, organization.id, call.caller.credential.id, capability, limits.names[key])
    if not decision.admitted:
        fee = call.head.route.fee_nano_usd
        refusal = limiter_refusal(
            decision,
            limits,
            hold_nano_usd=admission.hold_min_nano_usd,
            fee_nano_usd=fee,
            is_batch=call.facts.batch is not None,
        )
        raise Refused(refusal, decision=decision, model=call.facts.model)
    return Held(call=call, admission=admission, event=event, decision=decision, is_fallback=is_fallback)


def _refused_without_store(decision: Decision, call: Call) -> Refused:
    """The refusal without the store: for a rate limit as usual, for spend since it cannot be checked."""
    limits = call.caller.limits
    is_rate = decision.refused_by in {key for key, _ in limits.rate}
    refusal = limiter_refusal(decision, limits, hold_nano_usd=0) if is_rate else store_refusal(rebuilding=False)
    return Refused(refusal, decision=decision, model=call.facts.model)


def _admission(call: Call, demands: Demands, lease_ms: int) -> tuple[AdmissionRequest, UsageEvent]:
    """The admission request, with the event that the limiter enters if the worker dies before any checkpoint."""
    organization, limits, client, asked = call.caller.organization, call.caller.limits, call.head.client, call.estimate
    floor, floor_completion = floor_of(asked, call.facts, call.head.upstream.config, lease_ms)
    event = first_event(call, floor, floor_completion)
    admission = AdmissionRequest(
        reservation_id=client.id,
        org=organization.id,
        rate=limits.rate_demands(call),
        spend=demands.spend,
        hold_nano_usd=asked.hold_nano_usd,
        hold_min_nano_usd=asked.hold_min_nano_usd,
        floor_nano_usd=floor,
        lease_ms=lease_ms,
        event=encode(event),
        floor_prompt_tokens=asked.prompt_tokens,
        floor_completion_tokens=floor_completion,
    )
    return admission, event
