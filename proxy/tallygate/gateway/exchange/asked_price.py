"""The price of the model that a request asks for, and what becomes of one that has none."""

import logging
from collections import Counter
from typing import Final

from tallygate.config.catalogue import PriceCatalogue
from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.domain.organization import Plan, UnknownModelPolicy
from tallygate.domain.price import Price
from tallygate.domain.routed_price import AnyPrice

NAMES_OF_AN_ORGANIZATION_MAX: Final = 10
NAMES_MAX: Final = 200
_HOUR_MS: Final = 3_600_000
_CHARS_MAX: Final = 100
_log: Final = logging.getLogger(__name__)


class UnpricedModels:
    """Logs names of models without a price, so that an operator can price them.

    Each name once an hour, so many at most of one organization and of all: callers make them up.
    """

    def __init__(self) -> None:
        self._hour = -1
        self._names: set[str] = set()
        self._of: Counter[str] = Counter()

    def note(self, model: str, organization: str, policy: str, *, now_ms: int) -> None:
        """Note a request for `model`. policy: what the plan does with it."""
        hour = now_ms // _HOUR_MS
        if hour != self._hour:
            self._hour, self._names, self._of = hour, set(), Counter()
        if model in self._names or len(self._names) >= NAMES_MAX or self._of[organization] >= NAMES_OF_AN_ORGANIZATION_MAX:
            return
        self._names.add(model)
        self._of[organization] += 1
        _log.warning("no price for the model %s, asked for by %s: %s", ascii(model[:_CHARS_MAX]), organization, policy)


def listed_price(facts: RequestFacts, prices: PriceCatalogue, at_ms: int) -> AnyPrice | None:
    """The catalogue's price that bounds this request; None for an unknown model."""
    if facts.model is None:
        return prices.dearest_of_all(at_ms) if facts.is_any_model else prices.dearest(at_ms, family=facts.model_family)
    price = prices.find(facts.model, at_ms)
    return price if price is None or price.generates or not facts.has_output else None


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


def refuse_unpriced_calls(facts: RequestFacts, plan: Plan, price: AnyPrice) -> None:
    """Refuse a request that can cause what has no rate, unless the plan lets what is not priced run. Raises Refused."""
    lacking = price.lacks(facts.calls)
    if not lacking or plan.unknown_model.value is not UnknownModelPolicy.REFUSE:
        return
    units = ", ".join(lacking)
    message = (
        f"No price is configured for {units} of the model {(facts.model or '')[:200]!r}, so its cost cannot be held to your "
        "limits. Ask the operator to add it, or leave out the tool."
    )
    raise Refused(Refusal(code=ErrorCode.UNKNOWN_MODEL, message=message, param="tools"))
