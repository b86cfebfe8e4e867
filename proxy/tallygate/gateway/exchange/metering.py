"""Metering: the best counts of an answer, and the price that charges it."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.dialects.counts import TOTAL_ONLY
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.domain.markup import marked_up
from tallygate.domain.price import Price
from tallygate.domain.prompt import PromptShape
from tallygate.domain.routed_price import AnyPrice, RoutedPrice
from tallygate.domain.unit import TOKEN_UNITS, Unit
from tallygate.domain.usage import NO_USAGE, Conditions, Usage, UsageSource, usage_of_totals

UNREAD_BYTES_PER_TOKEN: Final = 4  # of English text; JSON around it makes this an overestimate, compression an underestimate
CHARGED_AT_BOUND: Final = "charged_at_bound"  # the flag of an event whose answering model has no price, or is not named
ASSUMED: Final = "assumed"  # the flag of an event whose amount is assumed, whatever its source
DECLINED: Final = (
    "declined"  # the flag of an event whose answer is a refusal that the provider does not bill, whatever its usage shows
)
NO_PROMPT: Final = PromptShape()  # of a request that reads nothing, or whose answer is not billed


class Metered(msgspec.Struct, frozen=True, kw_only=True):
    """A usage with its provenance. flags go into the usage event."""

    usage: Usage
    source: UsageSource
    flags: tuple[str, ...] = ()


def reported_usage(reading: MeterReading, prompt: PromptShape) -> Usage | None:
    """The provider's own counts; None also if they are zeros although there was a prompt.

    Some services send the usage object of an API without counting.
    """
    usage = reading.usage
    return usage if usage is None or usage.prompt or usage.completion or prompt == NO_PROMPT else None


def kept_for_an_hour(usage: Usage) -> Usage:
    """`usage` with all cache writes as one-hour writes: a header asked for an hour, which the usage does not show."""
    return usage.with_cache_writes_as(Unit.CACHE_WRITE_1H)


def leaves_out(usage: Usage, prompt: PromptShape, *, has_text: bool) -> bool:
    """Whether a usage counts no prompt although there was one, or no completion although there was text."""
    return (not usage.prompt and prompt != NO_PROMPT) or (not usage.completion and has_text)


def split_total(usage: Usage, *, prompt_tokens: int, counted_completion: int, is_all_seen: bool) -> Usage:
    """A usage whose total alone was stated, with the sides as they were counted here.

    is_all_seen     no tokens can have been generated that the text does not show; else what the prompt does not explain is output
    """
    completion = counted_completion if is_all_seen else max(counted_completion, usage.total - prompt_tokens)
    completion = min(completion, usage.completion)  # its prompt is what was stated of a cache
    return usage.with_output_as_input(usage.completion - completion)


def with_media(usage: Usage, media_tokens: Mapping[Unit, int]) -> Usage:
    """`usage` with the output that was seen to be images and sound in their units."""
    for unit, number in media_tokens.items():
        usage = usage.with_moved(Unit.OUTPUT, unit, number - usage.of(unit))
    return usage


def meter_answer(
    reading: MeterReading,
    usage: Usage | None,
    *,
    is_whole: bool,
    prompt_tokens: int,
    counted_completion: int,
    bytes_unread: int,
) -> Metered:
    """The counts to charge for an answer that the upstream began. usage: from `reported_usage`.

    The provider's own counts win where the answer is whole. Where it was cut, they may be older than the last text, so that the
    larger completion is charged, and the request's own prompt where they count none.
    Without a usage, the request's prompt and the count of the text are charged.
    bytes_unread    bytes of an answer that no meter could read (an unknown content type, or compressed although identity was asked)
    """
    flags = tuple(sorted(reading.flags)) if reading.flags else ()
    if usage is not None and (is_whole or (usage.prompt and usage.completion >= counted_completion)):
        source = UsageSource.COUNTED if TOTAL_ONLY in reading.flags else UsageSource.UPSTREAM
        return Metered(usage=usage, source=source, flags=flags)
    if usage is not None:
        known = usage if usage.prompt else usage.plus(Unit.INPUT, prompt_tokens)
        known = known.plus(Unit.OUTPUT, counted_completion - known.completion)
        return Metered(usage=known, source=UsageSource.COUNTED, flags=flags)
    if bytes_unread:
        guessed = usage_of_totals(prompt=prompt_tokens, completion=bytes_unread // UNREAD_BYTES_PER_TOKEN)
        return Metered(usage=guessed, source=UsageSource.ESTIMATED, flags=("uncertain", "unread"))
    counts = usage_of_totals(prompt=prompt_tokens, completion=counted_completion)
    if counted_completion:
        return Metered(usage=counts, source=UsageSource.COUNTED, flags=flags)
    return Metered(usage=counts, source=UsageSource.ESTIMATED, flags=(*flags, "uncertain"))


def meter_calls(reading: MeterReading, calls: Mapping[str, int], *, is_whole: bool, is_all_owed: bool = False) -> Metered:
    """What is charged in place of tokens: as the answer states it, else as it was asked for. is_all_owed: whatever it states."""
    quantities = {} if reading.usage is None else reading.usage.quantities
    stated = {unit: number for unit, number in quantities.items() if unit not in TOKEN_UNITS}
    flags = tuple(sorted(reading.flags))
    if stated and not is_all_owed:
        return Metered(
            usage=Usage({unit: number for unit, number in stated.items() if number}), source=UsageSource.UPSTREAM, flags=flags
        )
    asked = Usage({unit: number for unit, number in calls.items() if number})
    source = UsageSource.COUNTED if is_whole else UsageSource.ASSUMED
    return Metered(usage=asked, source=source, flags=flags if is_whole else (*flags, ASSUMED))


def charged_conditions(facts: RequestFacts, reading: MeterReading, usage: Usage, price: AnyPrice | None) -> Conditions:
    """The answer's statements; for anything that it does not state, the dearest case that the request allows."""
    possible = facts.conditions
    if reading.conditions:
        possible = tuple({replace(each, **reading.conditions): None for each in possible})
    if len(possible) == 1 or price is None:
        return possible[0]
    return max(possible, key=lambda conditions: price.cost_nano_usd(usage, conditions))


def nothing_owed(source: UsageSource, *flags: str) -> Metered:
    return Metered(usage=NO_USAGE, source=source, flags=flags)


def price_served(
    served_as: str, asked: AnyPrice | None, prices: PriceCatalogue, at_ms: int, *, markup: int = 0
) -> tuple[AnyPrice | None, bool]:
    """As `price_answered`, of an answer by a model that the request named beside the one it asked for."""
    served = prices.find(served_as, at_ms)
    return (asked, asked is not None) if served is None else (marked_up(served, markup), False)


def price_answered(
    facts: RequestFacts, response_model: str | None, asked: AnyPrice | None, prices: PriceCatalogue, at_ms: int, *, markup: int = 0
) -> tuple[AnyPrice | None, bool]:
    """The price that charges an answer, and whether it is only a bound: the model that answered has none, or is not named.

    Providers bill the model that served; with automatic routing it is known from the response only. Where it has no price, the
    price of the hold applies: that of the model asked for, or the dearest that routing can reach, with its markup.
    """
    if facts.model is not None and prices.agrees(facts.model, at_ms):
        return asked, False
    if response_model and response_model != facts.model:
        answered = prices.find(response_model, at_ms, asked=facts.model or "")
        if answered is not None and (answered.generates or not facts.has_output):
            if not facts.has_output and _embeds_alone(asked) and answered.rates[Unit.OUTPUT]:
                return asked, False  # another model's name: Azure answers text-embedding-ada-002 as `ada`
            return marked_up(answered, markup), False
        return asked, asked is not None
    return asked, isinstance(asked, RoutedPrice)


def _embeds_alone(price: AnyPrice | None) -> bool:
    """Whether it is the price of a model without output."""
    return isinstance(price, Price) and not price.rates[Unit.OUTPUT]
