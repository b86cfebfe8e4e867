"""The stage that holds the worst case of a call against every limit at once, or none."""

import asyncio

import msgspec

from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.errors import LimiterWipedError, Refused, StoreError
from tallygate.domain.token_counts import UsageSource
from tallygate.domain.usage_event import UNREGISTERED, Outcome, UsageEvent
from tallygate.gateway.exchange.assumed import ASSUMED, floor_of
from tallygate.gateway.exchange.call import Call, Held
from tallygate.gateway.exchange.terms import Terms
from tallygate.gateway.refusals import limiter_refusal, store_refusal
from tallygate.gateway.services import Services
from tallygate.telemetry.metrics import FAIL_OPEN, LIMITER_ERRORS, LIMITER_SECONDS, SHADOW_REFUSED

_encode = msgspec.json.Encoder().encode


async def admit(services: Services, call: Call) -> Held:
    """The call with what the limiter grants it. Whatever was granted must be settled, released or withdrawn from here on."""
    organization, terms, capability = call.caller.organization, call.caller.terms, call.head.route.capability
    admission = _admission(call, services.limits.lease_ms)
    is_fallback, metrics = False, services.metrics
    asked_at = services.clock()
    try:
        decision = await services.limiter.admit(admission)
        metrics.observe(LIMITER_SECONDS, services.clock() - asked_at, admission.reservation_id, "admit")
    except asyncio.CancelledError:
        services.withdrawals.note(admission, after=StoreError("its worker ends"))
        raise
    except LimiterWipedError:
        raise Refused(store_refusal(rebuilding=True)) from None
    except StoreError as error:
        metrics.inc(LIMITER_ERRORS, "admit")
        decision = services.fallback.admit(admission)
        is_fallback = decision.admitted
        if not decision.admitted:
            services.withdrawals.note(admission, after=error)
            raise _refused_without_store(decision, terms) from None
        metrics.inc(FAIL_OPEN, "spend" if terms.spend else "rate")
    for key in decision.shadow_refused_by:
        metrics.inc(SHADOW_REFUSED, organization.id, call.caller.credential.id, capability, terms.names[key])
    if not decision.admitted:
        fee = call.head.route.fee_nano_usd
        refusal = limiter_refusal(decision, terms, hold_nano_usd=admission.hold_min_nano_usd, fee_nano_usd=fee)
        raise Refused(refusal, decision=decision)
    return Held(call=call, admission=admission, decision=decision, is_fallback=is_fallback)


def _refused_without_store(decision: Decision, terms: Terms) -> Refused:
    """Of a rate limit as ever, of a spend limit because it cannot be checked."""
    is_rate = decision.refused_by in {key for key, _ in terms.rate}
    refusal = limiter_refusal(decision, terms, hold_nano_usd=0) if is_rate else store_refusal(rebuilding=False)
    return Refused(refusal, decision=decision)


def _admission(call: Call, lease_ms: int) -> AdmissionRequest:
    organization, terms, client, asked = call.caller.organization, call.caller.terms, call.head.client, call.estimate
    floor, floor_completion = floor_of(asked, call.facts, call.head.upstream.config, lease_ms)
    return AdmissionRequest(
        reservation_id=client.id,
        org=organization.id,
        rate=terms.rate_demands(asked.rate_tokens),
        spend=terms.spend_demands(client.started_at_ms),
        hold_nano_usd=asked.hold_nano_usd,
        hold_min_nano_usd=asked.hold_min_nano_usd,
        floor_nano_usd=floor,
        lease_ms=lease_ms,
        event=_first_event(call, floor, floor_completion),
        floor_prompt_tokens=asked.prompt_tokens,
        floor_completion_tokens=floor_completion,
    )


def _first_event(call: Call, floor_nano_usd: int, floor_completion_tokens: int) -> bytes:
    """The event of a worker that dies before its first checkpoint: the request was probably sent, and generated for."""
    head, caller, client, asked = call.head, call.caller, call.head.client, call.estimate
    flags: tuple[str, ...] = ()
    if head.is_metered:
        flags = (ASSUMED, "uncertain") if asked.price is not None else (ASSUMED, "uncertain", "unpriced")
    return _encode(
        UsageEvent(
            event_id=client.id,
            org=caller.organization.id,
            credential=caller.credential.id,
            capability=head.route.capability,
            endpoint=head.route.endpoint,
            method=client.request.method,
            request_model=call.facts.model,
            upstream=head.route.upstream,
            outcome=Outcome.EXPIRED,
            stream=call.facts.stream,
            started_at_ms=client.started_at_ms,
            prompt_tokens=asked.prompt_tokens,
            completion_tokens=floor_completion_tokens,
            usage_source=UsageSource.CHECKPOINT if head.is_metered else UsageSource.NONE,
            price_version=asked.price.version if asked.price is not None else None,
            cost_nano_usd=floor_nano_usd,
            fee_nano_usd=head.route.fee_nano_usd,
            request_bytes=len(call.body),
            client_request_id=caller.client_request_id,
            flags=flags if caller.credential.is_registered else (*flags, UNREGISTERED),
        )
    )
