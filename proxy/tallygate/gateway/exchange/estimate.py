"""The worst case of a request before it is sent: its price, its tokens, and the amount to hold."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.organization import Plan
from tallygate.domain.price import NO_MAXIMUM, Price, WorstRates, with_fee, worst_cost_nano_usd
from tallygate.domain.routed_price import AnyPrice, RoutedPrice, each_of
from tallygate.gateway.exchange.other_models import NO_OTHERS, UNKNOWN_WINDOW_TOKENS, OthersAtMost, Priced, others_at_most

ROUTED_SHARE: Final = 25  # requests with a model that the provider chooses that fit into a spend limit at once, if possible
RATED_UNKNOWN_TOKENS: Final = 16_384
CLAMP_FLOOR_TOKENS: Final = 750
INPUT_EDGE_TOKENS: Final = 4  # what some providers put around each text to embed; an empty one is charged too


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in nano-USD.

    price             None: unpriced by policy
    rates             what `price` and the route's fee come to at most for this prompt, and for each token of output
    prompt_tokens     upper bound of the input; output_tokens: maximum output of all choices together, what was predicted included
    predicted_tokens  given as a prediction: charged as output where it is wrong, whatever the maximum is
    floor_tokens      the least maximum for each answer that clamping may leave
    imposed_maximum   maximum output of each answer, added to a request that states none; None: none is added. It is added where
                      a spend limit binds and no price states a maximum either, and where the provider chooses the model, if the
                      worst case is above the limit's share (ROUTED_SHARE) or the operator states a maximum
    rate_tokens       what token rate limits are asked for: the output that the request states, else the plan's default, and of
                      input that nobody has seen no more than RATED_UNKNOWN_TOKENS unless the plan states a number. Of an image no
                      more than the plan's default
    others            what other models than the one that answers can add; a part of every amount
    hold              worst case, of all output_tokens; hold_min: fee, input and the least output worth having
    """

    price: AnyPrice | None
    rates: WorstRates | None
    prompt_tokens: int
    output_tokens: int
    predicted_tokens: int
    floor_tokens: int
    imposed_maximum: int | None
    rate_tokens: int
    hold_nano_usd: int
    hold_min_nano_usd: int
    others: OthersAtMost = NO_OTHERS

    @property
    def input_nano_usd(self) -> int:
        """What fee and input alone cost."""
        return worst_cost_of(self, 0)


NOTHING_ASKED: Final = Estimate(
    price=None,
    rates=None,
    prompt_tokens=0,
    output_tokens=0,
    predicted_tokens=0,
    floor_tokens=0,
    imposed_maximum=None,
    rate_tokens=0,
    hold_nano_usd=0,
    hold_min_nano_usd=0,
)


def estimate_unread(fee_nano_usd: int) -> Estimate:
    """The estimate of a request that no dialect reads: its route's fee."""
    if not fee_nano_usd:
        return NOTHING_ASKED
    return replace(
        NOTHING_ASKED,
        rates=with_fee(None, fee_nano_usd),
        hold_nano_usd=fee_nano_usd,
        hold_min_nano_usd=fee_nano_usd,
    )


def estimate(
    facts: RequestFacts,
    plan: Plan,
    price: AnyPrice | None,
    prompt_tokens: int,
    *,
    predicted_tokens: int = 0,
    referred_tokens: int | None = None,
    others: Sequence[Priced] = (),
    fee_nano_usd: int = 0,
    spend_limit_nano_usd: int | None = None,
) -> Estimate:
    """The worst case of a request whose visible input has at most `prompt_tokens`.

    referred_tokens   what the stored objects that it names come to at most; None: not known
    others            its other models, with their prices
    fee_nano_usd      of its route
    spend_limit_nano_usd   the least that binds its caller, where plans clamp unless they say otherwise; None: none does
    """
    read_once = prompt_tokens
    prompt_tokens = prompt_tokens * facts.prompt_reads + facts.added_tokens
    if not facts.has_output:
        prompt_tokens += INPUT_EDGE_TOKENS * len(facts.prompt.texts)
    choices = facts.choices if facts.choices > 1 else 1
    models: tuple[Price | None, ...] = each_of(price) if price is not None else (None,)
    prompts, unknown = [prompt_tokens] * len(models), 0
    if facts.has_unknown_input:
        prompts = [prompt_tokens + _unknown_tokens(facts, plan, model, prompt_tokens, referred_tokens) for model in models]
        unknown = max(prompts) - prompt_tokens
    added = NO_OTHERS
    if others:
        maxima = [model.max_output_tokens for model in models if model is not None and model.max_output_tokens]
        answer_max = facts.max_output_tokens or max(maxima, default=plan.default_output_tokens)
        added = others_at_most(facts, plan, others, price, prompt_tokens=read_once + unknown, answer_max=answer_max * choices)
        prompts = [each + added.again_tokens for each in prompts]
    rated = prompt_tokens
    if unknown or added.again_tokens:
        rated += min(unknown, RATED_UNKNOWN_TOKENS) if plan.unknown_input_tokens is None else unknown
        rated += min(added.again_tokens, RATED_UNKNOWN_TOKENS)
    imposed = None
    of_tokens = None if price is None else _worst_rates(facts, price, prompts, choices, predicted_tokens)
    rates = with_fee(of_tokens, fee_nano_usd + added.cost_nano_usd)
    has_spend_limit = spend_limit_nano_usd is not None
    clamps = has_spend_limit if plan.clamp is None else plan.clamp
    if not facts.has_output:
        output = expected = 0
    elif facts.max_output_tokens is not None:
        output = expected = facts.max_output_tokens * choices
        if facts.images is not None:  # most of what is held of an image is never used
            expected = min(facts.max_output_tokens, plan.default_output_tokens) * choices
            rated = min(rated, RATED_UNKNOWN_TOKENS)
    else:
        maxima = [model.max_output_tokens for model in models if model is not None and model.max_output_tokens]
        bound = max(maxima, default=plan.default_output_tokens)
        if has_spend_limit and price is not None and not maxima:
            imposed = bound
        if isinstance(price, RoutedPrice) and not facts.is_any_model:
            share = (spend_limit_nano_usd or 0) // ROUTED_SHARE if clamps else 0
            fits = None if not share else lambda tokens: worst_cost_nano_usd(rates, tokens * choices + predicted_tokens) <= share
            most = _routed_maximum(price, bound, plan.default_output_tokens, fits)
            if most is not None:
                bound = imposed = max(most, facts.output_min_tokens)
        output = bound * choices
        expected = min(bound, plan.default_output_tokens) * choices
    hold = worst_cost_nano_usd(rates, output + predicted_tokens)
    floor = _clamp_floor(plan, facts.output_min_tokens, output // choices)
    return Estimate(
        price=price,
        rates=rates,
        prompt_tokens=prompts[0] if len(prompts) == 1 else max(prompts),
        output_tokens=output + predicted_tokens,
        predicted_tokens=predicted_tokens,
        floor_tokens=floor,
        imposed_maximum=imposed,
        rate_tokens=rated + expected + predicted_tokens,
        hold_nano_usd=hold,
        hold_min_nano_usd=worst_cost_nano_usd(rates, floor * choices + predicted_tokens) if clamps else hold,
        others=added,
    )


def _routed_maximum(price: RoutedPrice, bound: int, usual: int, fits: Callable[[int], bool] | None) -> int | None:
    """The maximum output of an answer whose model the provider chooses; None: none is needed.

    bound   the most that any of the models can generate
    usual   the least that is imposed because of a spend limit
    fits    whether an answer of so many tokens leaves the limit its share; None: no limit asks
    """
    most = price.default_output_max
    if most is None and fits is not None and not fits(bound):
        most = max(largest_that_fits(bound, fits), usual)
    return None if most is None else min(most, bound, price.every_output_max or bound)


def _clamp_floor(plan: Plan, least: int, most: int) -> int:
    """The least maximum that clamping leaves: a shorter answer is seldom worth having, unless the plan asks for what can be had."""
    floor = plan.clamp_floor_tokens
    if floor is None:
        floor = 1 if plan.clamp else CLAMP_FLOOR_TOKENS
    floor = floor if floor > least else least
    return floor if floor < most else most


def _unknown_tokens(facts: RequestFacts, plan: Plan, price: Price | None, prompt_tokens: int, referred_tokens: int | None) -> int:
    """The most tokens of unknown input, which the request does not show: its recorded size, else all that the model can read."""
    window = price.max_input_tokens if price is not None and price.max_input_tokens else UNKNOWN_WINDOW_TOKENS
    reads = max(facts.window_reads, facts.prompt_reads)
    readable = max(max(window, facts.window_min_tokens) * reads - prompt_tokens, 0)
    if not facts.has_unseen_input and referred_tokens is not None:
        return min(referred_tokens * facts.prompt_reads, readable)
    return readable if plan.unknown_input_tokens is None else plan.unknown_input_tokens


def refuse_absurd(asked: Estimate) -> None:
    """Refuse a worst case that exceeds every limit's range, which only a maximum times a number of answers can reach."""
    if asked.hold_nano_usd <= MONEY_MAX_NANO_USD and asked.rate_tokens <= MONEY_MAX_NANO_USD:
        return
    message = (
        f"This request asks for up to {asked.output_tokens} tokens, which no limit can count: "
        "lower its maximum output or its number of answers."
    )
    raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message))


def affordable_output(facts: RequestFacts, asked: Estimate, held_nano_usd: int) -> int | None:
    """The maximum output per choice that a smaller hold pays for, with clamping; None if the request may go as it is."""
    if held_nano_usd >= asked.hold_nano_usd or asked.output_tokens == 0:
        return asked.imposed_maximum
    choices = max(facts.choices, 1)
    predicted = asked.predicted_tokens
    stated = (asked.output_tokens - predicted) // choices
    most = largest_that_fits(stated, lambda tokens: worst_cost_nano_usd(asked.rates, tokens * choices + predicted) <= held_nano_usd)
    if isinstance(asked.price, RoutedPrice) and asked.price.every_output_max is not None:
        most = min(most, asked.price.every_output_max)  # a model that the provider may choose would refuse more
    return max(most, asked.floor_tokens)


def largest_that_fits(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, where whatever is smaller than one that fits does too; 0 where none does."""
    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def worst_cost_of(asked: Estimate, output_tokens: int) -> int:
    """The most that the request's input and so much output cost."""
    return worst_cost_nano_usd(asked.rates, output_tokens)


def _worst_rates(facts: RequestFacts, price: AnyPrice, prompts: list[int], choices: int, predicted_tokens: int) -> WorstRates:
    """What each model that may answer, in the order of `each_of`, comes to at most for its upper bound of the input.

    A model that the provider chooses ends at its own maximum, whatever the request states; of one that is asked for, the statement
    is believed.
    """
    units, conditions, calls = facts.units, facts.conditions + facts.default_conditions, facts.calls
    if isinstance(price, Price):
        return price.worst_rates(prompts[0], units=units, conditions=conditions, calls=calls)
    cases: list[tuple[int, int, int]] = []
    for model, prompt_tokens in zip(price.prices, prompts, strict=True):
        maximum = model.max_output_tokens
        output_max = maximum * choices + predicted_tokens if maximum else NO_MAXIMUM
        cases += model.worst_rates(prompt_tokens, units=units, conditions=conditions, calls=calls, output_max=output_max)
    return tuple(cases)
