"""What other models than the one that answers can cost at most: advisors, fallbacks of a refusal, models of images."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from tallygate.dialects.dialect import OtherModel, RequestFacts
from tallygate.domain.organization import Plan
from tallygate.domain.price import worst_cost_nano_usd
from tallygate.domain.routed_price import AnyPrice, each_of
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Pass

UNKNOWN_WINDOW_TOKENS: Final = 1_000_000  # what a model can read where its price does not say: as much as the largest in wide use


class Priced(NamedTuple):
    """Another model, and its price; None where it may run unpriced."""

    model: OtherModel
    price: AnyPrice | None


class OthersAtMost(msgspec.Struct, frozen=True, kw_only=True):
    """The most that other models can add to a request.

    passes          of each model, what it uses if it does all that it may
    cost_nano_usd   of these passes
    again_tokens    what the answering model reads besides: after each of `again_times` pieces of advice all that there is by then
    """

    passes: tuple[tuple[int, Pass], ...] = ()  # each with the number of times that it stands for
    cost_nano_usd: int = 0
    again_tokens: int = 0
    again_times: int = 0


NO_OTHERS: Final = OthersAtMost()


def others_at_most(
    facts: RequestFacts, plan: Plan, others: Sequence[Priced], answering: AnyPrice | None, *, prompt_tokens: int, answer_max: int
) -> OthersAtMost:
    """prompt_tokens: what the prompt comes to at most; answering, answer_max: the model that answers, and what it can generate."""
    outputs = [_output_max(each, plan) for each in others]
    advised = [(each.model.times, output) for each, output in zip(others, outputs, strict=True) if each.model.feeds_answer]
    advice = sum([times * output for times, output in advised])
    passes, cost = [], 0
    for each, output in zip(others, outputs, strict=True):
        model, times = each.model, each.model.times
        window = window_of(each.price) * (1 if model.feeds_answer else facts.window_reads)
        read = min(prompt_tokens + answer_max + advice if model.max_input_tokens is None else model.max_input_tokens, window)
        unit_in = Unit.INPUT_IMAGE if Unit.INPUT_IMAGE in model.units else Unit.INPUT
        unit_out = Unit.OUTPUT_IMAGE if Unit.OUTPUT_IMAGE in model.units else Unit.OUTPUT
        passes.append((times, Pass(model=model.model, quantities={unit_in: read * times, unit_out: output * times})))
        if each.price is not None:
            rates = [
                case
                for price in each_of(each.price)
                for case in price.worst_rates(read, units=model.units, conditions=model.conditions)
            ]
            cost += times * worst_cost_nano_usd(tuple(rates), output)
    again_times = sum([times for times, _ in advised])
    again = again_times * min(prompt_tokens + answer_max + advice, window_of(answering))
    return OthersAtMost(passes=tuple(passes), cost_nano_usd=cost, again_tokens=again, again_times=again_times)


def assumed_passes(others: OthersAtMost, begun: int | None) -> list[Pass]:
    """What nobody saw of other models' work: all that they may do, or of each as often as any was seen to begin, and once more.

    begun   as seen in a stream, which shows each beginning; None: the answer is no stream
    """
    passes = []
    for times, each in others.passes:
        shown = times if begun is None else min(times, begun + 1)
        if shown:
            quantities = {unit: number // times * shown for unit, number in each.quantities.items()}
            passes.append(Pass(model=each.model, quantities=quantities))
    return passes


def assumed_again(others: OthersAtMost, begun: int | None) -> int:
    """What the answering model may have read again, of pieces of advice as in `assumed_passes`."""
    times = others.again_times
    shown = times if begun is None else min(times, begun + 1)
    return others.again_tokens // times * shown if times else 0


def _output_max(priced: Priced, plan: Plan) -> int:
    """The most that a model can generate each time."""
    if priced.model.max_output_tokens is not None:
        return priced.model.max_output_tokens
    maxima = [] if priced.price is None else [price.max_output_tokens for price in each_of(priced.price)]
    return max([most for most in maxima if most], default=plan.default_output_tokens)


def window_of(price: AnyPrice | None) -> int:
    """The most that a model can read at once."""
    windows = [] if price is None else [each.max_input_tokens for each in each_of(price)]
    return max([window or UNKNOWN_WINDOW_TOKENS for window in windows], default=UNKNOWN_WINDOW_TOKENS)
