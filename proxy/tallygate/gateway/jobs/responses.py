"""Background responses: read whole once their status is final, and charged as any answer is."""

from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.config.model import StatedCostPolicy
from tallygate.dialects.dialect import Dialect, MeterReading, RequestFacts
from tallygate.dialects.meters import BODY_TOO_LARGE
from tallygate.domain.admission import Account
from tallygate.domain.billed import StatedCost
from tallygate.domain.ending import Ending
from tallygate.domain.job import DEFERRED, Job
from tallygate.domain.made_object import MadeObject
from tallygate.domain.markup import marked_up
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.usage_event import UNREGISTERED, UsageEvent
from tallygate.gateway.exchange.asked_price import listed_price
from tallygate.gateway.exchange.assumed import Unseen, may_reason, tokens_within, with_unseen
from tallygate.gateway.exchange.charging import Bill, Terms, bill_of_usage, price_of_answer
from tallygate.gateway.exchange.event import charged, encode
from tallygate.gateway.exchange.metering import ASSUMED, Metered, leaves_out, meter_answer, meter_calls, reported_usage
from tallygate.gateway.services import Services, work_on
from tallygate.outbound.session import FetchError

LOST: Final = "job_lost"  # the flag of an event whose upstream knows nothing of its job any more: charged as it was held
_decode_facts: Final = msgspec.json.Decoder(RequestFacts).decode
_decode_event: Final = msgspec.json.Decoder(UsageEvent).decode


def facts_of(job: Job) -> RequestFacts:
    """What a job's request says about its charge."""
    return _decode_facts(job.facts)


def event_of(job: Job) -> UsageEvent:
    """A job's event, as it is entered if nothing more is heard of it."""
    return _decode_event(job.event)


async def settled_response(services: Services, job: Job, answer: bytes) -> Account | None:
    """The account of a background response, from what its upstream says of it; None while it is under way.

    Raises FetchError for an answer that is not about this response.
    """
    facts, dialect = facts_of(job), services.dialects[job.dialect]
    reading = await work_on(services, job.org, len(answer), lambda: read_whole(dialect, facts, answer))
    is_tail = BODY_TOO_LARGE in reading.flags and reading.usage is not None  # all that is read of one: its usage comes last
    if reading.job_id != job.object_id and not is_tail:
        raise FetchError("the upstream's answer is not about this response")
    if reading.awaits_final_usage:
        return None
    text = reading.drain_text()
    tokens = await services.tokens.text(text, facts.model, org=job.org) if text else 0
    counted = services.tokens.completion(tokens, reading.response_model or facts.model, answers=1, calls=reading.calls)
    seconds = max(0, services.now_ms() - job.started_at_ms) / 1000
    bill = bill_of_reading(services, job, facts, reading, counted=counted, seconds=seconds)
    if has_lost_price(job, bill) or (facts.other_models and reading.usage is None):
        return account_as_held(job, ASSUMED)
    return account_of_bill(services, job, bill, response_model=reading.response_model)


def read_whole(dialect: Dialect, facts: RequestFacts, answer: bytes) -> MeterReading:
    """Read a whole answer that is no stream."""
    meter = dialect.meter(replace(facts, stream=False), content_type="application/json", hide_usage_chunk=False)
    meter.feed(answer)
    meter.end_body()
    return meter.reading


def bill_of_reading(
    services: Services, job: Job, facts: RequestFacts, reading: MeterReading, *, counted: int, seconds: float | None = None
) -> Bill:
    """The bill of work that is done.

    counted   tokens of the text that it has
    seconds   in which it may have generated what is not shown; None: it shows all
    """
    view = services.view
    asked = listed_price(facts, view.prices, job.started_at_ms)
    terms = Terms(
        asked=None if asked is None else marked_up(asked, job.markup),
        prices=view.prices,
        at_ms=job.started_at_ms,
        markup=job.markup,
    )
    usage = reported_usage(reading, facts.prompt)
    is_whole = usage is not None and not reading.failed and not leaves_out(usage, facts.prompt, has_text=bool(counted))
    if facts.is_by_calls:
        is_whole = True
        metered = meter_calls(reading, facts.calls, is_whole=True)
    else:
        metered = meter_answer(
            reading,
            usage,
            is_whole=is_whole,
            prompt_tokens=job.prompt_tokens,
            counted_completion=counted,
            bytes_unread=reading.unread_bytes,
        )
    price, is_bound = price_of_answer(facts, reading, terms)
    upstream = view.upstreams.get(job.upstream)
    if seconds is not None and usage is None and upstream is not None:
        hides = upstream.config.hides_reasoning and may_reason(reading.response_model or facts.model, view.prices, terms.at_ms)
        if hides or not counted:
            metered = _with_unseen(metered, job, facts, price, tokens_within(seconds, facts, upstream.config))
    stated = reading.stated_cost_nano_usd if is_whole else None
    is_charged = upstream is not None and upstream.config.stated_cost is StatedCostPolicy.SETTLE
    return bill_of_usage(
        facts,
        reading,
        metered,
        price,
        terms,
        ending=Ending.BROKEN if reading.failed else Ending.COMPLETE,
        fee=job.fee_nano_usd,
        is_bound=is_bound,
        stated_cost=None if stated is None else StatedCost(nano_usd=stated, is_charged=is_charged),
    )


def _with_unseen(metered: Metered, job: Job, facts: RequestFacts, price: AnyPrice | None, tokens: int) -> Metered:
    """`metered` with output that was generated and is not shown: what is cancelled has neither usage nor, it may be, any output."""
    metered = replace(metered, usage=metered.usage.with_calls(facts.calls))
    most = event_of(job).completion_tokens
    return with_unseen(metered, Unseen(tokens=tokens, output_max=most, held=job.held_nano_usd - job.fee_nano_usd), facts, price)


def has_lost_price(job: Job, bill: Bill) -> bool:
    """Whether what was held at a price has none any more, nor a cost that its provider stated."""
    is_stated = bill.stated_cost is not None and bill.stated_cost.is_charged
    return bill.price is None and not is_stated and job.held_nano_usd > job.fee_nano_usd


def account_of_bill(
    services: Services, job: Job, bill: Bill, *, response_model: str | None, made: tuple[MadeObject, ...] = ()
) -> Account:
    """The account that settles a job by its bill. made: objects that its end brought."""
    usage, event = bill.metered.usage, event_of(job)
    event = replace(
        charged(event, bill, flags=(DEFERRED, *lasting_flags(event))),
        response_model=response_model,
        duration_ms=max(0, services.now_ms() - job.started_at_ms),
        made=tuple(dict.fromkeys((*event.made, *made))),
    )
    return Account(
        admission=job.admission,
        cost_nano_usd=bill.cost_nano_usd,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        event=encode(event),
    )


def lasting_flags(event: UsageEvent) -> tuple[str, ...]:
    """The flags of the request's own event that hold for whatever becomes of it."""
    return tuple([flag for flag in event.flags if flag == UNREGISTERED])


def account_as_held(job: Job, flag: str = LOST) -> Account:
    """The account of a job that is charged as it was held, since what was done, or its price, is not known. flag: why."""
    event = event_of(job)
    return Account(
        admission=job.admission,
        cost_nano_usd=job.held_nano_usd,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        event=encode(replace(event, flags=tuple(dict.fromkeys((*event.flags, DEFERRED, flag))))),
    )
