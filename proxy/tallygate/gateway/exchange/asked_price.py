"""The price of the model that a request asks for, and what becomes of one that has none."""

from msgspec.structs import replace

from tallygate.config.catalogue import PriceCatalogue
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.job_kinds import VIDEOS
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.domain.organization import Plan, UnknownModelPolicy
from tallygate.domain.price import Price
from tallygate.domain.prompt import PromptShape
from tallygate.domain.routed_price import AnyPrice, each_of
from tallygate.domain.unit import COMPLETION_UNITS, TOKEN_UNITS, Unit
from tallygate.gateway.callers.key_traces import gives_away
from tallygate.gateway.exchange.call import Caller, Head
from tallygate.gateway.services import Services
from tallygate.telemetry.metrics import UNKNOWN_MODELS


def listed_price(facts: RequestFacts, prices: PriceCatalogue, at_ms: int) -> AnyPrice | None:
    """The catalogue's price that bounds this request; None for an unknown model."""
    if facts.model is None:
        return prices.dearest_of_all(at_ms) if facts.is_any_model else prices.dearest(at_ms, family=facts.model_family)
    price = prices.find(facts.model, at_ms)
    if price is None or (price.bills_no_tokens and not (facts.calls_instead or facts.is_by_calls)):
        return None
    return price if price.generates or not facts.has_output else None


def price_of_unknown(facts: RequestFacts, plan: Plan, prices: PriceCatalogue, at_ms: int) -> Price | None:
    """The plan's price for a model without one, or None if it may run unpriced. Raises Refused."""
    if plan.unknown_model.value is UnknownModelPolicy.UNPRICED:
        return None
    if plan.unknown_model.value is UnknownModelPolicy.PRICE_AS:
        price = prices.find(plan.unknown_model.text, at_ms)
        if price is not None:
            return price
    unknown = (
        "The provider chooses the model of this request, and no price is configured that could bound its cost."
        if facts.model is None
        else f"No price is configured for the model {facts.model[:200]!r}, so its cost cannot be held to your limits."
    )
    message = f"{unknown} Ask the operator to add it."
    raise Refused(Refusal(code=ErrorCode.UNKNOWN_MODEL, message=message, param="model"))


def as_priced(facts: RequestFacts, price: AnyPrice | None) -> RequestFacts:
    """A request with `calls_instead`, as its price charges it: by these alone where it has a rate for them, else by tokens.

    A price with rates of other things alone lacks one, and so does one by which what is generated is free. Images that are read
    cost nothing where no rate is stated for them.
    """
    instead = dict(facts.calls_instead)
    if Unit.SOURCE_IMAGE in instead and price is not None and price.lacks((Unit.SOURCE_IMAGE,)):
        del instead[Unit.SOURCE_IMAGE]
    by_calls = replace(
        facts,
        prompt=PromptShape(),
        has_output=False,
        max_output_tokens=None,
        output_min_tokens=1,
        added_tokens=0,
        units=frozenset(),
        calls={**facts.calls, **instead},
        calls_instead={},
        is_by_calls=True,
    )
    if price is None or not price.lacks(instead) or facts.job_kind in VIDEOS:  # of which no token is known
        return by_calls
    is_free = not any(rate for each in each_of(price) for unit, rate in each.rates.items() if unit in COMPLETION_UNITS)
    if facts.has_output and is_free:
        return by_calls
    of_others = any(unit not in TOKEN_UNITS for each in each_of(price) for unit in each.rates)
    if of_others and not any(each.has_token_rates for each in each_of(price)):
        return by_calls
    return replace(facts, calls_instead={})


def refuse_unpriced_calls(facts: RequestFacts, plan: Plan, price: AnyPrice) -> None:
    """Refuse a request that can cause what has no rate, unless the plan lets what is not priced run. Raises Refused."""
    lacking = price.lacks(facts.calls)
    if not lacking or plan.unknown_model.value is not UnknownModelPolicy.REFUSE:
        return
    units = ", ".join(lacking)
    message = (
        f"No price is configured for {units} of the model {(facts.model or '')[:200]!r}, so its cost cannot be held to your "
        f"limits. Ask the operator to add it{'' if facts.is_by_calls else ', or leave out the tool'}."
    )
    param = "model" if facts.is_by_calls else "tools"
    raise Refused(Refusal(code=ErrorCode.UNKNOWN_MODEL, message=message, param=param))


def count_unpriced(services: Services, head: Head, caller: Caller, model: str | None, policy: str, *, named_for: str = "") -> None:
    """Count a request that has no price, or not for all that it used, and note its model for the operator.

    policy      as in the metric: what becomes of the request
    named_for   why the model is noted, where that is not the policy
    """
    org = caller.organization.id
    services.metrics.inc(UNKNOWN_MODELS, org, policy)
    if model and not gives_away(model.encode(errors="replace"), ()):  # its name is logged
        services.unpriced.note(model, org, named_for or policy, now_ms=head.client.started_at_ms)
