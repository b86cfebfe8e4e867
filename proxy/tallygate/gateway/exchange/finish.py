"""The end of an exchange: its settlement, then the end of the answer; or its refusal, in the dialect's own shape."""

from http import HTTPStatus
from typing import Final

from tallygate.dialects.dialect import Dialect
from tallygate.dialects.errors import retry_headers
from tallygate.domain.errors import Refusal
from tallygate.domain.made_object import MADE_MAX
from tallygate.domain.money import usd_text
from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome
from tallygate.gateway.exchange.account import account_of
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.asked_price import count_unpriced
from tallygate.gateway.exchange.bill import bill_of, has_last_word, usage_of
from tallygate.gateway.exchange.call import Client
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.client_body import StreamedBody
from tallygate.gateway.headers import response_headers
from tallygate.gateway.jobs.deferral import account_of_job, job_of
from tallygate.gateway.refusals import INTERNAL_ERROR
from tallygate.http1.content_codings import ACCEPTED
from tallygate.http1.header import Header, http_date, text_of
from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure
from tallygate.telemetry.metrics import (
    FIRST_BYTE_SECONDS,
    OVERHEAD_SECONDS,
    REQUEST_SECONDS,
    STATED_COST,
    STATED_COST_PRICED,
)
from tallygate.telemetry.unpriced_models import UNPRICED_UNITS

# A request with this header and value gets what its stream costs in comments behind the last event. Who asks for it reads the
# stream itself, and can skip comments (WHATWG HTML section 9.2.6); anybody else gets the upstream's bytes and no more.
STREAM_COST: Final = "tallygate-stream-cost"
AS_COMMENT: Final = "comment"
_COST_NAMES: Final = (b"tallygate-cost-usd", b"tallygate-usage-source")
_UPSTREAM_ERROR: Final = Outcome.UPSTREAM_ERROR  # read once: a member of an enum takes a call to look up
OTHER_TOKENIZER: Final = 4  # times as many tokens as one vocabulary, at most, another makes of the same text
# RFC 9110 section 15.5.22: which protocol is required. It is the one that is spoken; the answer closes the connection beside.
_UPGRADE_REQUIRED: Final[tuple[Header, ...]] = ((b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade"))


async def finish(answer: Answer) -> Bill:
    """Settle or release, then send the bytes that were held back."""
    answer.begin_ending()
    held, relay, services = answer.held, answer.relay, answer.services
    client = held.call.head.client
    upstream_ended_at = services.clock()
    if relay.reader.coded is not None:
        await relay.reader.read_on()
    await held.call.head.treatment.count(answer)
    bill = bill_of(answer)
    if held.is_fallback:
        services.fallback.release(held.admission)
    _note_objects(answer, bill)
    job = None if held.call.facts.job_kind is None else job_of(answer)
    await services.settler.settle(account_of(answer, bill) if job is None else account_of_job(job))
    if bill.stated_cost is not None:
        upstream = held.call.head.route.upstream
        services.metrics.add(STATED_COST, bill.stated_cost.nano_usd, upstream)
        services.metrics.add(STATED_COST_PRICED, bill.priced_nano_usd, upstream)
    if bill.unpriced_units:
        count_unpriced(services, held.call.head, held.call.caller, answer.model, UNPRICED_UNITS)
    if relay.failure is not None or (bill.ending.outcome is _UPSTREAM_ERROR and relay.refusal is None):
        _note_failure(answer)  # not of one that was broken off here, as at a worker's end
    _write_end(answer, bill, shows_cost=bill.is_owed and job is None)
    ended_at = services.clock()
    sent_at = answer.sent_at if answer.sent_at is not None else upstream_ended_at
    observe, capability = services.metrics.observe, held.call.head.route.capability
    observe(REQUEST_SECONDS, ended_at - client.started_at, client.id, capability)
    if relay.first_byte_at is not None:
        observe(FIRST_BYTE_SECONDS, relay.first_byte_at - client.started_at, client.id, capability)
    observe(OVERHEAD_SECONDS, (sent_at - client.started_at) + (ended_at - upstream_ended_at), client.id)
    return bill


def _note_failure(answer: Answer) -> None:
    """Count and log a failure of the upstream: of the connection, by its own status, or inside its answer."""
    failure, status = answer.relay.failure, answer.relay.head.status
    if failure is not None:
        kind, reason = str(failure.kind), failure.reason or failure.message
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind, reason = "status", f"it answered with status {status}"
    else:
        kind, reason = "in_stream", "its answer has an error inside"
    answer.services.upstream_failures.note(answer.held.call.head.route.upstream, kind, reason)


async def count_nothing(_answer: Answer) -> None:
    """Count nothing: nobody reads the answer."""


async def count_answer(answer: Answer) -> None:
    """Count the text that the upstream did not: of a cut answer, or of one without a usage object."""
    if answer.sent_at is None or answer.relay.head.status >= 300:
        return
    usage = usage_of(answer)
    if usage is not None and has_last_word(answer, usage):
        answer.note_reported(usage)
        return
    await answer.text.count(answer, is_last=True)
    if usage is None or not usage.prompt:
        await answer.count_prompt()


def _note_objects(answer: Answer, bill: Bill) -> None:
    """Record in the store, before the settlement, the objects that the answer made or deleted."""
    call = answer.held.call
    if call.objects is None and not call.named.deleting:
        return
    if answer.relay.reader.made is not None:
        answer.note_made_tokens(call.head.treatment.made_tokens(answer, bill))
    owners, organization = answer.services.owners, call.caller.organization
    if deleted := answer.deleted:
        owners.forget(organization, deleted)
    if made := answer.made:
        owners.remember(organization, made[:MADE_MAX])


def tokens_stated(answer: Answer, _bill: Bill) -> dict[str, int]:
    """The tokens of created objects, as the answer itself states them."""
    made = answer.relay.reader.made
    return {"cached_content": made.tokens} if made is not None and made.tokens is not None else {}


def tokens_made(answer: Answer, bill: Bill) -> dict[str, int]:
    """Bound what was made by what was read and generated.

    A response brings all that it was made of, and itself. Of text alone another model makes some more tokens; of images, audio and
    files many times as many, so that nothing is known then; nor where the provider left some of it out for a model that reads less.
    """
    call = answer.held.call
    facts = call.facts
    is_text = not (facts.prompt.images or facts.prompt.opaque_bytes or facts.has_audio)
    is_seen = not facts.has_unknown_input or (not facts.has_unseen_input and call.named.referred_tokens is not None)
    is_exact = bill.metered.source is UsageSource.UPSTREAM and has_last_word(answer, usage_of(answer))
    if facts.is_cut_upstream or not (is_text and is_seen and is_exact):
        return {}
    usage = bill.metered.usage
    return {"response": OTHER_TOKENIZER * usage.total}


def _write_end(answer: Answer, bill: Bill, *, shows_cost: bool) -> None:
    """Complete the answer, or end it visibly incomplete. That of a socket's turn has gone down in frames."""
    relay, head = answer.relay, answer.held.call.head
    client = head.client
    response = client.response
    if relay.is_client_gone or response.is_finished:
        return
    now_ms = answer.services.now_ms()
    if not response.is_started:
        if relay.failure is not None or not relay.is_complete:
            write_refusal(client, head.dialect, failure_refusal(answer), answer.early_headers()[1], now_ms)
            return
        names, text = answer.early_headers()
        if shows_cost:
            paid, source = usd_text(bill.cost_nano_usd).encode(), bill.metered.source.encode()
            names += _COST_NAMES
            text += b"tallygate-cost-usd: %b\r\ntallygate-usage-source: %b\r\n" % (paid, source)
        begun, ours = relay.head, (names, text)
        headers = response_headers(begun.headers, ours=ours, status=begun.status, now_ms=now_ms, is_http_1_0=begun.is_http_1_0)
        response.whole(begun.status, headers, relay.body.rest())
        return
    if relay.is_complete:
        rest = relay.body.rest()
        if shows_cost and client.request.headers.get(STREAM_COST) == AS_COMMENT and _takes_comment(answer):
            cost = usd_text(bill.cost_nano_usd)
            rest += f": tallygate-cost-usd={cost}\n: tallygate-usage-source={bill.metered.source}\n\n".encode()
        response.finish(rest)
        return
    response.write(relay.body.rest())
    if relay.is_event_stream and not answer.reading.ends_inside:
        response.write(head.dialect.stream_error(failure_refusal(answer), request_id=client.id))
    response.cut()


def _takes_comment(answer: Answer) -> bool:
    """Return whether a comment may follow an answer: a stream of events, uncoded and of no announced length, that ends with one."""
    relay = answer.relay
    is_open = isinstance(relay.body, StreamedBody) and not relay.head.codings and answer.held.call.head.dialect.allows_comments
    return is_open and relay.is_event_stream and not answer.reading.ends_inside


def failure_refusal(answer: Answer) -> Refusal:
    """The refusal that stands in place of an answer, or of its end."""
    relay = answer.relay
    if relay.refusal is not None:
        return relay.refusal
    return INTERNAL_ERROR if relay.failure is None else refusal_of_failure(relay.failure)


def refusal_of_failure(failure: UpstreamFailure) -> Refusal:
    """The refusal of a request whose upstream failed."""
    is_safe = not failure.request_sent
    again = False if failure.kind is FailureKind.UNAUTHORIZED else True if is_safe else None  # the operator must fix a key first
    return Refusal(
        code=failure.code,
        message=f"The AI service failed: {failure.message}.",
        retry_after_ms=1_000 if is_safe else None,
        should_retry=again,
    )


def write_refusal(client: Client, dialect: Dialect, refusal: Refusal, ours: bytes, now_ms: int) -> None:
    """Answer with an error of our own, in the dialect's shape. ours: the lines that any answer to this request has."""
    response = client.response
    if response.is_finished:
        return
    if response.is_started:
        response.abort()
        return
    response.close_if_awaited()
    content_type, body = dialect.error(refusal, request_id=client.id)
    begin = text_of([(b"content-type", content_type.encode()), (b"date", http_date(now_ms))])
    headers: list[Header] = [*retry_headers(refusal)]
    if dialect.request_id_header is not None:
        headers.append((dialect.request_id_header, client.id.encode()))  # relayed answers have the upstream's own
    if dialect.reset_header is not None and refusal.status == 429 and refusal.retry_after_ms is not None:
        until_ms = now_ms + refusal.retry_after_ms
        headers.append((dialect.reset_header, b"%d" % -(-until_ms // 1000)))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallygate"'))
    if refusal.status == 415:
        headers.append((b"accept-encoding", ", ".join(ACCEPTED).encode()))  # RFC 9110 section 15.5.16
    if refusal.status == 405:
        headers.append((b"allow", str(refusal.details.get("allow", "")).encode()))
    if refusal.status == 426:
        headers += _UPGRADE_REQUIRED
        response.close_after()
    response.whole(refusal.status, begin + ours + text_of(headers), body)
