"""What calls of a provider's tools cost: stated once for many models, and for a row only where it differs."""

from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.declared import read_field
from tallygate.config.kinds import Words, declare
from tallygate.config.price_row import model_pattern, read_rates, versioned
from tallygate.config.section import Section
from tallygate.domain.model_patterns import MODEL_PATTERN, matches_any
from tallygate.domain.price import Price, Rates
from tallygate.domain.unit import TOKEN_UNITS, Unit, alternative

CALL_UNITS: Final = frozenset(Unit) - TOKEN_UNITS
CALLS_MAX: Final = 1_000
_PATTERNS_MAX: Final = 200


def _models(text: str) -> str:
    return text if text == "*" else model_pattern(text)


MODELS: Final = declare(
    "models",
    Words(
        "Names, or beginnings of names followed by *; * alone for every model.",
        parse=_models,
        items_max=_PATTERNS_MAX,
        pattern=rf"^(?:{MODEL_PATTERN.pattern}|\*)$",
    ),
    (),
    is_required=True,
)


@dataclass(frozen=True, slots=True)
class CallRates:
    """Rates of what is no token, for models of these names, or beginnings of names followed by `*`."""

    models: tuple[str, ...]
    rates: Rates


def read_call_rates(document: Section) -> tuple[CallRates, ...]:
    """`calls`, in the order in which they are asked: of each unit the first one that names the model decides."""
    found = []
    for item in document.sections("calls", items_max=CALLS_MAX):
        models = read_field(item, MODELS)
        rates, _ = read_rates(item, only=CALL_UNITS)
        if not rates:
            item.place.problem(f"has no rate: it needs one of {', '.join(sorted(CALL_UNITS))}")
        item.close(also=CALL_UNITS)
        found.append(CallRates(models, rates))
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
