"""Assumed usage, charged where the exact usage cannot be had: never below what the provider can have generated.

It is what was counted, plus as much as the fastest provider can generate unseen in the time that it had. The sum is capped by
the most that the request could have generated, and by its hold.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import OnDisconnect, Upstream
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.token_counts import TokenCounts, UsageSource
from tallygate.gateway.exchange.estimate import Estimate, largest_that_fits, worst_cost_of
from tallygate.gateway.exchange.metering import Metered

ASSUMED: Final = "assumed"  # the flag of an event whose amount is assumed, whatever its source


class Unseen(msgspec.Struct, frozen=True, kw_only=True):
    """Output that nobody saw.

    tokens       the most that can have been generated beside what was counted
    output_max   the most that the request can have generated at all
    held         the cap in nano-USD; what was counted may be above it
    """

    tokens: int
    output_max: int
    held: int


def may_reason(model: str | None, prices: PriceCatalogue, at_ms: int) -> bool:
    """Whether a model may generate reasoning that no answer shows: it may, unless a price row denies it."""
    price = prices.find(model, at_ms) if model is not None else None
    return price is None or price.reasons


def finishes_anyway(upstream: Upstream, *, is_streamed: bool) -> bool:
    """Whether the provider generates the rest of an answer whose connection is gone. `cancel` is for those that stop."""
    return not is_streamed and upstream.on_disconnect is not OnDisconnect.CANCEL


def tokens_within(seconds: float, facts: RequestFacts, upstream: Upstream) -> int:
    """The most that can be generated in a time, all choices together, which are generated side by side.

    A second that has begun counts whole: rates are means, and a provider's first tokens may come in one burst.
    """
    return max(math.ceil(seconds), 1) * upstream.tokens_per_second_max * max(facts.choices, 1)


def with_unseen(metered: Metered, unseen: Unseen, facts: RequestFacts, price: AnyPrice | None) -> Metered:
    """`metered` with the unseen tokens, in the dearest kinds of token that the request can have used."""
    counts = metered.counts
    if price is not None and metered.source is not UsageSource.UPSTREAM:
        counts = max(_prompt_kinds(counts, facts), key=price.cost_nano_usd)
    tokens = min(unseen.tokens, max(0, unseen.output_max - counts.completion))
    if price is not None:
        adding = max(_output_kinds(counts, facts), key=lambda added: price.cost_nano_usd(added(tokens)))
        counts = adding(largest_that_fits(tokens, lambda more: price.cost_nano_usd(adding(more)) <= unseen.held))
    else:
        counts = replace(counts, completion=counts.completion + tokens)
    return Metered(counts=counts, source=UsageSource.ASSUMED, flags=tuple(dict.fromkeys((*metered.flags, ASSUMED))))


def floor_of(asked: Estimate, facts: RequestFacts, upstream: Upstream, lease_ms: int) -> tuple[int, int]:
    """Cost and output tokens of a worker that dies before its first checkpoint: the request was probably sent, and its upstream may
    have generated until the hold expires.
    """
    tokens = asked.output_tokens
    if not finishes_anyway(upstream, is_streamed=facts.stream):
        tokens = min(tokens, tokens_within(lease_ms / 1000, facts, upstream))
    return worst_cost_of(asked, tokens), tokens


def _prompt_kinds(counts: TokenCounts, facts: RequestFacts) -> list[TokenCounts]:
    """Counts whose input, of which no usage was reported, is wholly of each kind that the request can use."""
    kinds = [counts]
    if facts.cache_write_5m:
        kinds.append(replace(counts, cache_write_5m=counts.prompt))
    if facts.cache_write_1h:
        kinds.append(replace(counts, cache_write_1h=counts.prompt))
    if facts.audio_input:
        kinds.append(replace(counts, audio_prompt=counts.prompt))
    return kinds


def _output_kinds(counts: TokenCounts, facts: RequestFacts) -> list[Callable[[int], TokenCounts]]:
    completion = counts.completion
    kinds: list[Callable[[int], TokenCounts]] = [
        lambda more: replace(counts, completion=completion + more),
        lambda more: replace(counts, completion=completion + more, reasoning=counts.reasoning + more),
    ]
    if facts.audio_output:
        kinds.append(lambda more: replace(counts, completion=completion + more, audio_completion=counts.audio_completion + more))
    return kinds
