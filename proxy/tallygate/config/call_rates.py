"""What calls of a provider's tools cost: stated once for many models, and for a row only where it differs."""

from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.price_row import read_rates, versioned
from tallygate.config.section import Section, show
from tallygate.domain.model_patterns import MODEL_PATTERN, matches_any
from tallygate.domain.price import Price, Rates
from tallygate.domain.unit import TOKEN_UNITS, Unit, alternative

_CALL_UNITS: Final = frozenset(Unit) - TOKEN_UNITS
_PATTERNS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class CallRates:
    """Rates of what is no token, for models of these names, or beginnings of names followed by `*`."""

    models: tuple[str, ...]
    rates: Rates


def read_call_rates(document: Section) -> tuple[CallRates, ...]:
    """`calls`, in the order in which they are asked: of each unit the first one that names the model decides."""
    found = []
    for item in document.sections("calls", items_max=1_000):
        patterns = item.scalars("models", items_max=_PATTERNS_MAX, may_be_empty=False)
        if patterns is None:
            item.require("models")
        rates, _ = read_rates(item, only=_CALL_UNITS)
        if not rates:
            item.place.problem(f"has no rate: it needs one of {', '.join(sorted(_CALL_UNITS))}")
        item.close(also=_CALL_UNITS)
        for place, text in patterns or ():
            if MODEL_PATTERN.fullmatch(text) is None and text != "*":
                place.problem(f"must be a model name, or the start of one followed by *, got {show(text)}")
        found.append(CallRates(tuple(text for _, text in patterns or ()), rates))
    return tuple(found)


def with_call_rates(price: Price, calls: tuple[CallRates, ...], names: tuple[str, ...]) -> Price:
    """`price` and the rates of `calls` for a model of these names, where the price states none.

    Of two alternative units, the one that is stated first leaves no place for the other.
    """
    missing: dict[str, int] = {}
    for each in calls:
        if any(matches_any(name, each.models) for name in names):
            missing = {**_beside(missing, each.rates), **missing}
    added = {unit: rate for unit, rate in _beside(price.rates, missing).items() if unit not in price.rates}
    if not added:
        return price
    return versioned(replace(price, rates={**price.rates, **added}), as_model=price.version.rpartition("@")[0])


def _beside(stated: Rates, further: Rates) -> Rates:
    """Those of `further` whose alternative is not `stated`, narrowed or not."""
    names = {unit.partition(":")[0] for unit in stated}
    return {unit: rate for unit, rate in further.items() if alternative(unit.partition(":")[0]) not in names}
