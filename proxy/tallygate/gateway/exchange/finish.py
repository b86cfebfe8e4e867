"""How an exchange ends: settled first, then the client sees the end of its answer. Or refused, in the dialect's own shape."""

from typing import Final

from tallygate.domain.errors import Refusal
from tallygate.domain.exchange import Event, State
from tallygate.domain.money import usd_text
from tallygate.gateway.exchange.live_exchange import Account, LiveExchange
from tallygate.gateway.exchange.object_checks import note_objects
from tallygate.gateway.headers import response_headers
from tallygate.gateway.refusals import INTERNAL_ERROR
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.content_codings import ACCEPTED
from tallygate.http1.header import Header, http_date

_LABEL_OTHER: Final = "other"
# RFC 9110 section 15.5.22: which protocol is required. It is the one that is spoken; the answer closes the connection beside.
_UPGRADE_REQUIRED: Final[tuple[Header, ...]] = ((b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade"))


async def finish(live: LiveExchange, response: ClientResponse) -> None:
    """Settle or release, then write what was held back."""
    relay, admission = live.relay, live.admission
    if relay is None or admission is None:
        raise RuntimeError("an exchange ends that was never admitted")
    clock = live.services.clock
    upstream_ended_at = clock()
    if live.lifecycle.state is State.FORWARDED:
        live.apply(Event.UPSTREAM_REFUSED if relay.status >= 400 else Event.UPSTREAM_ENDED)
    elif live.lifecycle.state is State.ADMITTED:
        live.apply(Event.UPSTREAM_UNREACHABLE)
    await _count(live)
    account = live.account()
    if live.is_fallback:
        live.services.fallback.end(admission)
    note_objects(live, account)
    await live.services.settler.settle(admission, live.actual(account), owed=account.owed)
    if live.lifecycle.state is State.METERED:
        live.apply(Event.SETTLEMENT_POSTED)
    if relay.failure is not None:
        live.services.metrics.upstream_error(relay.failure.kind)
    _write_end(live, response, account)
    ended_at = clock()
    sent_at = live.sent_at if live.sent_at is not None else upstream_ended_at
    live.services.metrics.observe(
        live.capability,
        ended_at - live.started_at,
        None if relay.first_byte_at is None else relay.first_byte_at - live.started_at,
        (sent_at - live.started_at) + (ended_at - upstream_ended_at),
        live.id,
    )


async def _count(live: LiveExchange) -> None:
    """Count what the upstream did not: text of a cut answer, or of one without a usage object."""
    relay, facts = live.relay, live.facts
    if relay is None or facts is None or live.sent_at is None or relay.status >= 300:
        return
    if live.has_last_word:
        return
    await live.count_text(is_last=True)
    told = live.told_usage
    if told is None or not told.prompt:
        live.exact_prompt = await live.services.tokens.prompt(facts.prompt, live.model_of_answer, org=live.org)


def _write_end(live: LiveExchange, response: ClientResponse, account: Account) -> None:
    relay = live.relay
    if relay is None or relay.is_client_gone:
        return
    failure = relay.failure
    if not response.is_started:
        if failure is not None or not relay.is_complete:
            refuse(live, response, _failure_refusal(live), is_counted=False)
            return
        ours = live.early_headers() + _cost_headers(account)
        headers = response_headers(
            relay.headers, ours=ours, status=relay.status, now_ms=live.services.now_ms(), is_http_1_0=relay.is_http_1_0
        )
        response.whole(relay.status, headers, b"".join(relay.buffered or ()))
        return
    if relay.is_complete:
        response.finish(b"".join(relay.held))
        return
    held = b"".join(relay.held)
    if held:
        response.write(held)
    is_inside = relay.meter is not None and relay.meter.reading.ends_inside
    if relay.is_event_stream and live.dialect is not None and not is_inside:
        response.write(live.dialect.stream_error(_failure_refusal(live), request_id=live.id))
    response.cut()


def _failure_refusal(live: LiveExchange) -> Refusal:
    relay = live.relay
    if relay is not None and relay.refusal is not None:
        return relay.refusal
    if relay is None or relay.failure is None:
        return INTERNAL_ERROR
    failure = relay.failure
    is_safe = not failure.request_sent
    return Refusal(
        status=failure.status_hint,
        code=failure.code,
        message=f"The AI service failed: {failure.message}.",
        retry_after_ms=1_000 if is_safe else None,
        should_retry=True if is_safe else None,
    )


def refuse(live: LiveExchange, response: ClientResponse, refusal: Refusal, *, is_counted: bool = True) -> None:
    """Answer with an error of our own, in the dialect's shape, and count it."""
    if is_counted:
        limit = str(refusal.details.get("limit") or refusal.code)
        organization, credential = live.organization, live.credential
        live.services.metrics.refused(
            organization.id if organization is not None else _LABEL_OTHER,
            credential.id if credential is not None else _LABEL_OTHER,
            live.capability,
            limit,
        )
    if response.is_started:
        response.abort()
        return
    response.close_if_awaited()
    content_type, body = live.spoken.error(refusal, request_id=live.id)
    headers: list[Header] = [
        (b"content-type", content_type.encode()),
        (b"date", http_date(live.services.now_ms())),
        *live.early_headers(),
        *retry_headers(refusal),
    ]
    if live.spoken.request_id_header is not None:
        headers.append((live.spoken.request_id_header, live.id.encode()))  # relayed answers have the upstream's own
    if live.spoken.reset_header is not None and refusal.status == 429 and refusal.retry_after_ms is not None:
        until_ms = live.services.now_ms() + refusal.retry_after_ms
        headers.append((live.spoken.reset_header, b"%d" % -(-until_ms // 1000)))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallygate"'))
    if refusal.status == 415:
        headers.append((b"accept-encoding", ", ".join(ACCEPTED).encode()))  # RFC 9110 section 15.5.16
    if refusal.status == 405:
        headers.append((b"allow", str(refusal.details.get("allow", "")).encode()))
    if refusal.status == 426:
        headers += _UPGRADE_REQUIRED
        response.close_after()
    response.whole(refusal.status, headers, body)


def retry_headers(refusal: Refusal) -> list[Header]:
    """When to come back, in the three forms that SDKs read. Seconds round up: a retry must never come too early."""
    headers: list[Header] = []
    if refusal.retry_after_ms is not None:
        headers.append((b"retry-after", b"%d" % -(-refusal.retry_after_ms // 1000)))
        headers.append((b"retry-after-ms", b"%d" % refusal.retry_after_ms))
    if refusal.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
    return headers


def _cost_headers(account: Account) -> list[Header]:
    if not account.owed:
        return []
    return [
        (b"tallygate-cost-usd", usd_text(account.cost_nano_usd).encode()),
        (b"tallygate-usage-source", account.metered.source.encode()),
    ]
