"""The worst case of a request, before it is sent: which price, how many tokens, how much money to hold."""

from typing import Final

import msgspec
from msgspec.structs import replace

from proxy.config.catalogue import PriceCatalogue
from proxy.dialects.dialect import RequestFacts
from proxy.domain.errors import ErrorCode, Refusal
from proxy.domain.money import MONEY_MAX_NANO_USD
from proxy.domain.organization import Plan, UnknownModelPolicy
from proxy.domain.price import Price, WorstRates, worst_cost_nano_usd

UNKNOWN_WINDOW_TOKENS: Final = 1_000_000  # what a model can read where its price does not say: as much as the largest in wide use
LONG_WINDOW_BETA: Final = "context-1m"
LONG_WINDOW_TOKENS: Final = 1_000_000
RATED_UNKNOWN_TOKENS: Final = 16_384
CLAMP_FLOOR_TOKENS: Final = 750
INPUT_EDGE_TOKENS: Final = 4  # what some providers put around each text to embed; an empty one is charged too


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in nano-USD.

    price           None: unpriced by policy
    prompt_tokens     upper bound of the input; output_tokens: maximum output of all choices together, what was predicted included
    predicted_tokens  given as a prediction: charged as output where it is wrong, whatever the maximum is
    floor_tokens      the least maximum for each answer that clamping may leave
    assumed_tokens    where a spend limit binds, and neither request nor price states a maximum: the one assumed for each answer,
                      which the request is then sent with
    rate_tokens       what token rate limits are asked for: the output that the request states, else the plan's default, and of
                      input that nobody has seen no more than RATED_UNKNOWN_TOKENS unless the plan states a number
    hold              worst case; hold_min: input and the least output worth having; input_cost: the input alone
    """

    price: Price | None
    prompt_tokens: int
    output_tokens: int
    predicted_tokens: int
    floor_tokens: int
    assumed_tokens: int | None
    rate_tokens: int
    hold_nano_usd: int
    hold_min_nano_usd: int
    input_nano_usd: int


def listed_price(facts: RequestFacts, prices: PriceCatalogue, at_ms: int) -> Price | None:
    """The catalogue's price that bounds this request; None for an unknown model."""
    if facts.model is None:
        return prices.dearest(at_ms, family=facts.model_family)
    return prices.find(facts.model, at_ms)


def price_of_unknown(facts: RequestFacts, plan: Plan, prices: PriceCatalogue, at_ms: int) -> Price | Refusal | None:
    """What the plan says of a model without a price; None where it may run unpriced."""
    if plan.unknown_model is UnknownModelPolicy.UNPRICED:
        return None
    if plan.unknown_model is UnknownModelPolicy.PRICE_AS and plan.price_as is not None:
        price = prices.find(plan.price_as, at_ms)
        if price is not None:
            return price
    unknown = (
        "The provider chooses the model of this request, and no price is configured that could bound its cost."
        if facts.model is None
        else f"No price is configured for the model {facts.model[:200]!r}, so its cost cannot be held to your limits."
    )
    return Refusal(status=400, code=ErrorCode.UNKNOWN_MODEL, message=f"{unknown} Ask the operator to add it.", param="model")


def with_cache_ttl(facts: RequestFacts, ttl: str) -> RequestFacts:
    """The facts under Gloo's request header `X-Cache-TTL` (5m or 1h), which marks a prompt for caching without a word in the body.

    Any other value may come to mean a time as dear as the longest.
    """
    if not ttl:
        return facts
    return replace(facts, cache_write_5m=True, cache_write_1h=facts.cache_write_1h or ttl.strip() != "5m")


def with_long_window(facts: RequestFacts, betas: str) -> RequestFacts:
    """The facts under Anthropic's header `anthropic-beta`, whose `context-1m-…` lets a model read a million tokens."""
    return replace(facts, window_min_tokens=LONG_WINDOW_TOKENS) if LONG_WINDOW_BETA in betas.lower() else facts


def estimate(
    facts: RequestFacts,
    plan: Plan,
    price: Price | None,
    prompt_tokens: int,
    *,
    predicted_tokens: int = 0,
    referred_tokens: int | None = None,
    has_spend_limit: bool = False,
) -> Estimate:
    """The worst case of a request of whose input `prompt_tokens` at most can be seen.

    referred_tokens   what the stored objects that it names come to at most; None: not known
    has_spend_limit   a spend limit binds its caller: then plans clamp unless they say otherwise
    """
    prompt_tokens = prompt_tokens * facts.prompt_reads + facts.added_tokens
    if not facts.has_output:
        prompt_tokens += INPUT_EDGE_TOKENS * len(facts.prompt.texts)
    unknown = _unknown_tokens(facts, plan, price, prompt_tokens, referred_tokens)
    rated = prompt_tokens + (min(unknown, RATED_UNKNOWN_TOKENS) if plan.unknown_input_tokens is None else unknown)
    prompt_tokens += unknown
    choices = max(facts.choices, 1)
    assumed = None
    if not facts.has_output:
        output = expected = 0
    elif facts.max_output_tokens is not None:
        output = expected = facts.max_output_tokens * choices
    else:
        bound = price.max_output_tokens if price is not None and price.max_output_tokens else plan.default_output_tokens
        if has_spend_limit and price is not None and not price.max_output_tokens:
            assumed = bound
        output = bound * choices
        expected = min(bound, plan.default_output_tokens) * choices
    rates = _worst_rates(facts, price, prompt_tokens)
    hold = _cost(rates, output + predicted_tokens)
    clamps = has_spend_limit if plan.clamp is None else plan.clamp
    floor = min(max(_clamp_floor(plan), facts.output_min_tokens), output // choices)
    return Estimate(
        price=price,
        prompt_tokens=prompt_tokens,
        output_tokens=output + predicted_tokens,
        predicted_tokens=predicted_tokens,
        floor_tokens=floor,
        assumed_tokens=assumed,
        rate_tokens=rated + expected + predicted_tokens,
        hold_nano_usd=hold,
        hold_min_nano_usd=_cost(rates, floor * choices + predicted_tokens) if clamps else hold,
        input_nano_usd=_cost(rates, 0),
    )


def _clamp_floor(plan: Plan) -> int:
    """The least maximum that clamping leaves: a shorter answer is seldom worth having, unless the plan asks for what can be had."""
    if plan.clamp_floor_tokens is not None:
        return plan.clamp_floor_tokens
    return 1 if plan.clamp else CLAMP_FLOOR_TOKENS


def _unknown_tokens(facts: RequestFacts, plan: Plan, price: Price | None, prompt_tokens: int, referred_tokens: int | None) -> int:
    """The most that input can come to which the request does not show: what is recorded of it, else all that the model can read."""
    if not facts.has_unknown_input:
        return 0
    window = price.max_input_tokens if price is not None and price.max_input_tokens else UNKNOWN_WINDOW_TOKENS
    readable = max(max(window, facts.window_min_tokens) * facts.window_reads - prompt_tokens, 0)
    if not facts.has_unseen_input and referred_tokens is not None:
        return min(referred_tokens, readable)
    return readable if plan.unknown_input_tokens is None else plan.unknown_input_tokens


def refusal_of_absurd(asked: Estimate) -> Refusal | None:
    """Refuses a worst case above what any limit can count, which only a maximum times a number of answers comes to."""
    if max(asked.hold_nano_usd, asked.rate_tokens) <= MONEY_MAX_NANO_USD:
        return None
    message = (
        f"This request asks for up to {asked.output_tokens} tokens, which no limit can count: "
        "lower its maximum output or its number of answers."
    )
    return Refusal(status=400, code=ErrorCode.INVALID_REQUEST, message=message)


def affordable_output(facts: RequestFacts, asked: Estimate, held_nano_usd: int) -> int | None:
    """With clamping: the maximum output per choice that a smaller hold pays for; None if the request may go as it is."""
    if held_nano_usd >= asked.hold_nano_usd or asked.output_tokens == 0:
        return asked.assumed_tokens
    choices = max(facts.choices, 1)
    spare = held_nano_usd - asked.input_nano_usd
    whole = asked.hold_nano_usd - asked.input_nano_usd
    predicted = asked.predicted_tokens
    per_choice = (spare * asked.output_tokens // whole - predicted) // choices  # cost is linear in output, but for its one rounding
    rates = _worst_rates(facts, asked.price, asked.prompt_tokens)
    while per_choice > asked.floor_tokens and _cost(rates, per_choice * choices + predicted) > held_nano_usd:
        per_choice -= 1
    return max(per_choice, asked.floor_tokens)


def worst_cost_of(facts: RequestFacts, asked: Estimate, output_tokens: int) -> int:
    """What the request's input and so much output cost at most."""
    return _cost(_worst_rates(facts, asked.price, asked.prompt_tokens), output_tokens)


def _worst_rates(facts: RequestFacts, price: Price | None, prompt_tokens: int) -> WorstRates | None:
    if price is None:
        return None
    return price.worst_rates(
        prompt_tokens,
        cache_write_5m=facts.cache_write_5m,
        cache_write_1h=facts.cache_write_1h,
        audio_input=facts.audio_input,
        audio_output=facts.audio_output,
    )


def _cost(rates: WorstRates | None, output_tokens: int) -> int:
    return 0 if rates is None else worst_cost_nano_usd(rates, output_tokens)
