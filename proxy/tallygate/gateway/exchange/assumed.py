"""Assumed usage, charged where the exact usage cannot be had: never below what the provider can have generated.

It is what was counted, plus as much as the fastest provider can generate unseen in the time that it had. The sum is capped by
the most that the request could have generated, and by its hold.
"""

import math
from functools import lru_cache
from typing import Final

import msgspec

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.model import OnDisconnect, Upstream
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.unit import COMPLETION_UNITS, PROMPT_UNITS, Unit
from tallygate.domain.usage import Usage, UsageSource
from tallygate.gateway.exchange.estimate import Estimate, largest_that_fits, worst_cost_of
from tallygate.gateway.exchange.metering import ASSUMED, Metered

_CANCEL: Final = OnDisconnect.CANCEL  # read once: a member of an enum takes a call to look up


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
    """Return whether a model may generate reasoning that no answer shows: it may, unless a price row denies it."""
    price = prices.find(model, at_ms) if model is not None else None
    return price is None or price.reasons


def finishes_anyway(upstream: Upstream, *, is_streamed: bool) -> bool:
    """Return whether the provider generates the rest of an answer whose connection is gone. `cancel` is for those that stop."""
    return not is_streamed and upstream.on_disconnect is not _CANCEL


def tokens_within(seconds: float, facts: RequestFacts, upstream: Upstream) -> int:
    """The most that can be generated in a time, all choices together, which are generated side by side.

    A second that has begun counts whole: rates are means, and a provider's first tokens may come in one burst.
    """
    return max(math.ceil(seconds), 1) * upstream.tokens_per_second_max * max(facts.choices, 1)


def with_unseen(metered: Metered, unseen: Unseen, facts: RequestFacts, price: AnyPrice | None) -> Metered:
    """`metered` with the unseen tokens, in the dearest kinds of token that the request can have used."""
    usage = metered.usage
    tokens = min(unseen.tokens, max(0, unseen.output_max - usage.completion))
    if price is None:
        return as_assumed(metered, usage.plus(Unit.OUTPUT, tokens))

    def cost(used: Usage) -> int:
        return max([price.cost_nano_usd(used, conditions) for conditions in facts.conditions])

    prompt_kinds, completion_kinds = _kinds(facts.units)
    if prompt_kinds and metered.source is not UsageSource.UPSTREAM:
        usage = max([usage, *[usage.with_prompt_as(unit) for unit in prompt_kinds]], key=cost)
    costs = [cost(usage.plus(unit, tokens)) for unit in completion_kinds]
    dearest = max(costs)
    unit, fitting = completion_kinds[costs.index(dearest)], tokens
    if dearest > unseen.held:
        fitting = largest_that_fits(tokens, lambda more: cost(usage.plus(unit, more)) <= unseen.held)
    return as_assumed(metered, usage.plus(unit, fitting))


@lru_cache(maxsize=256)  # of the sets that requests can have there are some dozens
def _kinds(units: frozenset[Unit]) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """The units of a prompt and of a completion that the whole of either can be charged in at worst."""
    in_order = [unit for unit in Unit if unit in units]
    more = [unit for unit in in_order if unit in COMPLETION_UNITS]
    return tuple([unit for unit in in_order if unit in PROMPT_UNITS]), (Unit.OUTPUT, Unit.REASONING_OUTPUT, *more)


def as_assumed(metered: Metered, usage: Usage) -> Metered:
    """`metered` with a usage that is assumed."""
    return Metered(usage=usage, source=UsageSource.ASSUMED, flags=tuple(dict.fromkeys((*metered.flags, ASSUMED))))


def floor_of(asked: Estimate, facts: RequestFacts, upstream: Upstream, lease_ms: int) -> tuple[int, int]:
    """Cost and output tokens of a worker that dies before its first checkpoint: the request was probably sent, and its upstream may
    have generated until the hold expires.
    """
    tokens = asked.output_tokens
    if facts.job_kind is not None or finishes_anyway(upstream, is_streamed=facts.stream):
        return asked.hold_nano_usd, tokens
    tokens = min(tokens, tokens_within(lease_ms / 1000, facts, upstream))
    return worst_cost_of(asked, tokens), tokens
