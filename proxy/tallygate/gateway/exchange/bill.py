"""What an exchange comes to: from how its answer ended, and what was read of it, to the counts that are charged and their cost."""

import msgspec
from msgspec.structs import replace

from tallygate.dialects.dialect import UsageTold
from tallygate.domain.ending import Ending, ending_of
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.token_counts import TokenCounts, UsageSource
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.assumed import Unseen, assumed, finishes_anyway, may_reason, tokens_within
from tallygate.gateway.exchange.metering import (
    Metered,
    kept_for_an_hour,
    leaves_out,
    meter_answer,
    nothing_owed,
    price_answered,
    told_usage,
)


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange comes to as it stands.

    price          that its tokens are charged by; None: they are unpriced
    cost_nano_usd  of its tokens, and fee_nano_usd with it
    is_owed        False: the hold is released
    is_bound       `price` bounds that of the model that answered, which is not known
    """

    ending: Ending
    metered: Metered
    price: AnyPrice | None = None
    cost_nano_usd: int = 0
    fee_nano_usd: int = 0
    is_owed: bool = False
    is_bound: bool = False


def bill_of(answer: Answer, *, ahead_seconds: float = 0.0) -> Bill:
    """What the exchange comes to as it stands. Never free once the upstream has accepted a request that costs something.

    ahead_seconds   further time in which its upstream may generate, and nobody will see it
    """
    call, relay, reading = answer.held.call, answer.relay, answer.reading
    facts, asked, head = call.facts, call.estimate, call.head
    ending = ending_of(
        is_sent=answer.sent_at is not None,
        status=relay.status,
        is_complete=relay.is_complete,
        is_client_gone=relay.is_client_gone,
        has_failed=reading.failed,
        is_short=relay.is_event_stream and not reading.is_unread and not reading.ended,
    )
    fee = head.route.fee_nano_usd if ending.may_owe else 0
    if not head.is_metered:
        metered = nothing_owed(UsageSource.NONE)
        return Bill(ending=ending, metered=metered, cost_nano_usd=fee, fee_nano_usd=fee, is_owed=fee > 0)
    if not ending.may_owe:
        return Bill(ending=ending, metered=nothing_owed(UsageSource.UPSTREAM), price=asked.price)
    usage = usage_told(answer)
    is_whole = has_last_word(answer, usage)
    metered = meter_answer(
        reading,
        usage,
        is_whole=is_whole,
        prompt_tokens=asked.prompt_tokens if answer.exact_prompt is None else answer.exact_prompt,
        counted_completion=_counted_completion(answer),
        bytes_unread=relay.bytes_unread,
    )
    client = head.client
    price, is_bound = price_answered(
        facts, reading.response_model, asked.price, client.view.prices, client.started_at_ms, markup=head.markup
    )
    if not is_whole:
        metered = _with_unseen(answer, metered, usage, price, ahead_seconds)
    cost = fee + (price.cost_nano_usd(metered.counts) if price is not None else 0)
    return Bill(ending=ending, metered=metered, price=price, cost_nano_usd=cost, fee_nano_usd=fee, is_owed=True, is_bound=is_bound)


def usage_told(answer: Answer) -> TokenCounts | None:
    """The upstream's own counts, as far as it has told them."""
    facts = answer.held.call.facts
    usage = told_usage(answer.reading, facts.prompt)
    return usage if usage is None or not facts.writes_1h else kept_for_an_hour(usage)


def has_last_word(answer: Answer, usage: TokenCounts | None) -> bool:
    """Whether the upstream told what it used, in an answer that came to its own end: nothing is left to count.

    The end of the HTTP message is not enough: Anthropic's streams begin with a count of 1, and one that breaks off with an
    error event, or without a word, ends in good order. Nor is it needed, except that of several choices one may end first.
    What was told before the end is not the last word, and neither is what leaves out a side that there was.
    usage: as `usage_told` has it
    """
    reading = answer.reading
    if not answer.relay.is_complete and answer.held.call.facts.choices > 1:
        return False
    is_early = reading.is_provisional or reading.is_interim or reading.is_outrun
    return reading.ended and not reading.failed and not is_early and _tells_all(answer, usage)


def _tells_all(answer: Answer, usage: TokenCounts | None) -> bool:
    """Whether there is a usage that leaves nothing out."""
    if usage is None:
        return False
    facts = answer.held.call.facts
    has_text = facts.has_output and (bool(answer.text.tokens) or answer.reading.has_text)
    return not leaves_out(usage, facts.prompt, has_text=has_text)


def _counted_completion(answer: Answer) -> int:
    """What has been counted of the answer, with all that a provider counts around the text."""
    reading = answer.reading
    if reading.is_unread:
        return 0
    answers = answer.held.call.facts.choices
    text = answer.services.tokens.completion(answer.text.tokens, answer.model, answers=answers, calls=reading.calls)
    return text + reading.media_tokens


def _with_unseen(
    answer: Answer, metered: Metered, usage: TokenCounts | None, price: AnyPrice | None, ahead_seconds: float
) -> Metered:
    """What was counted, with what nobody saw. The same, where everything was seen and nobody promised to count it."""
    call, relay, reading = answer.held.call, answer.relay, answer.reading
    facts, asked, client, upstream = call.facts, call.estimate, call.head.client, call.head.upstream.config
    if usage is not None and not facts.has_output:
        return metered  # its input is all that there can be
    is_running_on = reading.is_provisional and not relay.is_streamed
    if relay.is_complete and not relay.is_streamed and not reading.failed and not is_running_on and _tells_all(answer, usage):
        return metered  # in a body too large or too odd to be read whole
    is_whole = relay.is_complete and reading.ended and not reading.failed
    is_unseen = facts.has_output and (
        facts.audio_output
        or relay.is_behind
        or (upstream.hides_reasoning and may_reason(answer.model, client.view.prices, client.started_at_ms))
        or not (is_whole or (relay.is_streamed and relay.bytes_in))
        or relay.bytes_unread
    )
    is_promised = call.head.dialect.usage_told is UsageTold.ALWAYS or (
        call.head.dialect.usage_told is UsageTold.STREAMS_WHEN_ASKED and (not facts.stream or answer.asks_usage or facts.asks_usage)
    )
    if not (is_unseen or ahead_seconds or (is_promised and (is_whole or not relay.is_streamed))):
        return metered
    now = answer.services.clock()
    ended_at = relay.ended_at if relay.ended_at is not None else now
    sent_at = answer.sent_at if answer.sent_at is not None else now
    tokens = 0
    if facts.has_output and (is_unseen or ahead_seconds):
        tokens = tokens_within((ended_at - sent_at if is_unseen else 0.0) + ahead_seconds, facts, upstream)
    if (ahead_seconds or relay.is_left or is_running_on) and finishes_anyway(upstream, is_streamed=relay.is_streamed):
        tokens = asked.output_tokens
    if facts.has_unknown_input and usage is None:
        metered = replace(metered, counts=replace(metered.counts, prompt=max(metered.counts.prompt, asked.prompt_tokens)))
    held = (answer.held.decision.held_nano_usd or asked.hold_nano_usd) - call.head.route.fee_nano_usd
    return assumed(metered, Unseen(tokens=tokens, output_max=asked.output_tokens, held=held), facts, price)
