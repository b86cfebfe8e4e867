"""The bill of an exchange: the counts that are charged and their cost, from how its answer ended and what was read of it."""

from typing import Final

from msgspec.structs import replace

from tallygate.config.model import StatedCostPolicy
from tallygate.dialects.counts import IMPOSSIBLE, TOTAL_ONLY
from tallygate.dialects.dialect import UsageReporting
from tallygate.domain.billed import StatedCost
from tallygate.domain.ending import Ending, ending_of
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage, UsageSource
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.assumed import Unseen, as_assumed, finishes_anyway, may_reason, tokens_within, with_unseen
from tallygate.gateway.exchange.charging import Bill, Terms, bill_of_usage, price_of_answer
from tallygate.gateway.exchange.metering import (
    ASSUMED,
    DECLINED,
    Metered,
    kept_for_an_hour,
    leaves_out,
    meter_answer,
    meter_calls,
    nothing_owed,
    reported_usage,
    split_total,
    with_media,
)
from tallygate.gateway.exchange.other_models import assumed_again, assumed_passes, window_of

_UPSTREAM: Final = UsageSource.UPSTREAM  # read once: a member of an enum takes a call to look up
_NOT_METERED: Final = nothing_owed(UsageSource.NONE)


def bill_of(answer: Answer, *, ahead_seconds: float = 0.0) -> Bill:
    """The bill of an exchange so far. Never zero once the upstream has accepted a request that costs something.

    ahead_seconds   further time in which the upstream may generate output that nobody will see
    """
    relay, reading, head = answer.relay, answer.relay.reader.reading, answer.held.call.head
    ending = ending_of(
        is_sent=answer.sent_at is not None,
        status=relay.head.status,
        is_complete=relay.is_complete,
        is_client_gone=relay.is_client_gone,
        has_failed=reading.failed,
        is_short=not reading.ended and not reading.is_unread and relay.is_event_stream,
    )
    return head.treatment.bill(answer, ending, head.route.fee_nano_usd if ending.may_owe else 0, ahead_seconds)


def bill_fee(_answer: Answer, ending: Ending, fee: int, _ahead_seconds: float) -> Bill:
    """The bill of an answer that nobody reads."""
    return Bill(ending=ending, metered=_NOT_METERED, cost_nano_usd=fee, fee_nano_usd=fee, is_owed=fee > 0)


def bill_batch(answer: Answer, ending: Ending, fee: int, _ahead_seconds: float) -> Bill:
    """The bill of a batch that may have begun, and of which nothing more would be heard: what is held for it."""
    if not ending.may_owe:
        return Bill(ending=ending, metered=nothing_owed(UsageSource.UPSTREAM))
    metered = nothing_owed(UsageSource.CHECKPOINT, ASSUMED, "uncertain")
    cost = answer.held.call.estimate.hold_nano_usd
    return Bill(ending=ending, metered=metered, cost_nano_usd=cost, fee_nano_usd=fee, is_owed=cost > 0)


def bill_tokens(answer: Answer, ending: Ending, fee: int, ahead_seconds: float) -> Bill:
    """The bill of an answer that a dialect reads."""
    call, relay, reading = answer.held.call, answer.relay, answer.relay.reader.reading
    facts, asked, head = call.facts, call.estimate, call.head
    if not ending.may_owe:
        return Bill(ending=ending, metered=nothing_owed(UsageSource.UPSTREAM), price=asked.price)
    if reading.is_unbilled and _has_ended(answer):
        metered = nothing_owed(UsageSource.UPSTREAM, *sorted({*reading.flags, DECLINED}))
        return Bill(ending=ending, metered=metered, price=asked.price, cost_nano_usd=fee, fee_nano_usd=fee, is_owed=fee > 0)
    usage = answer.reported or usage_of(answer)
    if answer.reported is not None and not reading.flags and not facts.is_by_calls:  # nearly always
        is_whole, metered = True, Metered(usage=answer.reported, source=_UPSTREAM)
    elif facts.is_by_calls:
        is_whole = True
        is_over = relay.is_complete if facts.images is None else _has_ended(answer)  # images are owed whole
        metered = meter_calls(reading, facts.calls, is_whole=is_over, is_all_owed=facts.images is not None and not is_over)
    else:
        reads = 1 if facts.images is None else facts.prompt_reads  # each of several images reads it
        prompt_tokens = asked.prompt_tokens if answer.exact_prompt is None else answer.exact_prompt * reads
        counted = _counted_completion(answer)
        if usage is not None and TOTAL_ONLY in reading.flags:
            is_all_seen = not _may_hide(answer)
            usage = split_total(usage, prompt_tokens=prompt_tokens, counted_completion=counted, is_all_seen=is_all_seen)
        is_whole = has_last_word(answer, usage)
        has_completion = not is_whole and usage is not None and usage.completion > 0 and _has_ended(answer)
        metered = meter_answer(
            reading,
            usage,
            is_whole=is_whole,
            prompt_tokens=prompt_tokens,
            counted_completion=0 if has_completion else counted,
            bytes_unread=relay.reader.bytes_unread if facts.has_output else 0,
        )
    if reading.media_tokens and metered.source is UsageSource.COUNTED:
        metered = replace(metered, usage=with_media(metered.usage, reading.media_tokens))
    if reading.ended and reading.usage is not None and not is_whole and not _reports_all(answer, usage):
        metered = replace(metered, flags=tuple(dict.fromkeys((*metered.flags, IMPOSSIBLE))))
    terms = Terms(asked=asked.price, prices=head.client.view.prices, at_ms=head.client.started_at_ms, markup=head.markup)
    price, is_bound = price_of_answer(facts, reading, terms)
    if not is_whole:
        if (reading.rounds_begun or facts.other_models) and not _has_ended(answer):
            metered = _with_rounds(answer, metered, price)
        metered = _with_assumed(answer, metered, usage, price, ahead_seconds)
        if facts.other_models and (usage is None or not _has_ended(answer)):
            metered = _with_others(answer, metered)
    stated = reading.stated_cost_nano_usd if is_whole else None
    is_charged = stated is not None and head.upstream.config.stated_cost is StatedCostPolicy.SETTLE
    stated_cost = None if stated is None else StatedCost(nano_usd=stated, is_charged=is_charged)
    return bill_of_usage(facts, reading, metered, price, terms, ending=ending, fee=fee, is_bound=is_bound, stated_cost=stated_cost)


def usage_of(answer: Answer) -> Usage | None:
    """The upstream's own counts so far; None while it has reported none."""
    facts = answer.held.call.facts
    usage = reported_usage(answer.relay.reader.reading, facts.prompt)
    return usage if usage is None or not facts.writes_1h else kept_for_an_hour(usage)


def has_last_word(answer: Answer, usage: Usage | None) -> bool:
    """Whether the upstream reported its final usage, so that nothing is left to count.

    The end of the HTTP message is not enough: Anthropic's streams begin with a count of 1, and one that breaks off with an
    error event, or without any, still ends as valid HTTP. Nor is it needed, except that of several choices one may end first.
    Usage reported before the end is not final, and neither is one that leaves out a prompt or a completion that there was.
    usage: from `usage_of`
    """
    return _has_ended(answer) and _reports_all(answer, usage)


def _has_ended(answer: Answer) -> bool:
    """Whether the answer is over, and the usage, if there is one, was stated after all of it."""
    reading = answer.relay.reader.reading
    if not answer.relay.is_complete and answer.held.call.facts.choices > 1:
        return False
    is_early = reading.awaits_final_usage or reading.is_usage_midstream or reading.has_text_after_usage
    is_broken = reading.failed and not reading.is_failure_counted
    return reading.ended and not is_broken and not is_early


def _may_hide(answer: Answer) -> bool:
    """Whether the model may have generated tokens that no answer shows."""
    client, upstream = answer.held.call.head.client, answer.held.call.head.upstream.config
    return upstream.hides_reasoning and may_reason(answer.model, client.view.prices, client.started_at_ms)


def _reports_all(answer: Answer, usage: Usage | None) -> bool:
    """Whether a usage was reported that covers both prompt and completion."""
    if usage is None:
        return False
    facts = answer.held.call.facts
    has_text = facts.has_output and (bool(answer.text.tokens) or answer.relay.reader.reading.has_text)
    return not leaves_out(usage, facts.prompt, has_text=has_text)


def _counted_completion(answer: Answer) -> int:
    """Completion tokens counted in the answer, with the framing that a provider counts around the text."""
    reading = answer.relay.reader.reading
    if reading.is_unread:
        return 0
    answers = answer.held.call.facts.choices
    text = answer.services.tokens.completion(answer.text.tokens, answer.model, answers=answers, calls=reading.calls)
    return text + sum(reading.media_tokens.values())


def _with_assumed(answer: Answer, metered: Metered, usage: Usage | None, price: AnyPrice | None, ahead_seconds: float) -> Metered:
    """`metered` with assumed tokens for output that nobody saw; unchanged where all was seen and no usage was promised."""
    call, relay, reading = answer.held.call, answer.relay, answer.relay.reader.reading
    facts, asked, upstream = call.facts, call.estimate, call.head.upstream.config
    if facts.images is not None:  # one that broke off is billed as if it had come
        return metered if _has_ended(answer) else _with_tokens_and_calls(answer, metered, asked.output_tokens, price)
    if usage is not None and not facts.has_output:
        return metered  # its input is all that there can be
    if usage is not None and IMPOSSIBLE in reading.flags and usage.completion and _has_ended(answer):  # it states no prompt
        if facts.has_unknown_input:
            metered = _with_prompt_of(metered, asked.prompt_tokens)
        return metered
    is_running_on = reading.awaits_final_usage and not relay.is_streamed
    if relay.is_complete and not relay.is_streamed and not reading.failed and not is_running_on and _reports_all(answer, usage):
        return metered  # of a body too large or too odd to be read whole
    is_whole = relay.is_complete and reading.ended and not reading.failed
    is_undecoded = relay.reader.coded is not None and relay.reader.coded.is_unread
    is_unseen = facts.has_output and (
        (Unit.OUTPUT_AUDIO in facts.units and not reading.is_measured)
        or relay.is_behind
        or (_may_hide(answer) and not (is_whole and reading.is_output_zero))
        or not (is_whole or (relay.is_streamed and relay.reader.bytes_in))
        or relay.reader.bytes_unread
        or is_undecoded
    )
    is_promised = call.head.dialect.usage_reporting is UsageReporting.ALWAYS or (
        call.head.dialect.usage_reporting is UsageReporting.STREAMS_WHEN_ASKED
        and (not facts.stream or answer.gateway_asks_usage or facts.client_asks_usage)
    )
    if not (is_unseen or ahead_seconds or (is_promised and (is_whole or not relay.is_streamed))):
        if is_whole or usage is not None or not facts.has_unknown_input:
            return metered
        return as_assumed(metered, _with_prompt_of(metered, asked.prompt_tokens).usage)  # a cut stream shows its output alone
    now = answer.services.clock()
    ended_at = relay.ended_at if relay.ended_at is not None else now
    sent_at = answer.sent_at if answer.sent_at is not None else now
    tokens = 0
    if facts.has_output and (is_unseen or ahead_seconds):
        tokens = tokens_within((ended_at - sent_at if is_unseen else 0.0) + ahead_seconds, facts, upstream)
    goes_on = (ahead_seconds or relay.is_left or is_running_on) and finishes_anyway(upstream, is_streamed=relay.is_streamed)
    if goes_on or is_undecoded or (facts.job_kind is not None and not reading.ended):
        tokens = asked.output_tokens
    if facts.has_unknown_input and usage is None:
        metered = _with_prompt_of(metered, asked.prompt_tokens)
    return _with_tokens_and_calls(answer, metered, tokens, price)


def _with_tokens_and_calls(answer: Answer, metered: Metered, tokens: int, price: AnyPrice | None) -> Metered:
    """`metered` with tokens that nobody saw, and with all calls, which may have run where nobody saw it."""
    call = answer.held.call
    facts, asked = call.facts, call.estimate
    held = (answer.held.decision.held_nano_usd or asked.hold_nano_usd) - call.head.route.fee_nano_usd - asked.others.cost_nano_usd
    metered = replace(metered, usage=metered.usage.with_calls(facts.calls))
    return with_unseen(metered, Unseen(tokens=tokens, output_max=asked.output_tokens, held=held), facts, price)


def _with_others(answer: Answer, metered: Metered) -> Metered:
    """`metered` with what other models may have done that nobody saw."""
    relay = answer.relay
    passes = assumed_passes(answer.held.call.estimate.others, relay.reader.reading.others_begun if relay.is_streamed else None)
    return as_assumed(metered, metered.usage.with_passes(passes))


def _with_rounds(answer: Answer, metered: Metered, price: AnyPrice | None) -> Metered:
    """`metered` with what tools at the provider may have caused: those that had begun, and what the model read again after them.

    The usage at the start of Anthropic's streams has the first round's input alone, that at the end has all of it. What a tool
    finds may fill the window.
    """
    call, reading = answer.held.call, answer.relay.reader.reading
    again = assumed_again(call.estimate.others, reading.others_begun if answer.relay.is_streamed else None)
    read = metered.usage.prompt + reading.rounds_begun * window_of(price) + again
    assumed = _with_prompt_of(metered, min(read, call.estimate.prompt_tokens))
    begun = {unit: reading.billed_calls.get(unit, 0) + number for unit, number in reading.pending_calls.items()}
    return as_assumed(metered, assumed.usage.with_calls(begun))


def _with_prompt_of(metered: Metered, tokens: int) -> Metered:
    """`metered` with a prompt of so many tokens at least."""
    return replace(metered, usage=metered.usage.plus(Unit.INPUT, tokens - metered.usage.prompt))
