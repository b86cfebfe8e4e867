"""Factors of a plainer name's price: a model in one region costs more than the list says, by a name that bears the region."""

from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.declared import read_declared
from tallygate.config.kinds import Decimal, Words, declare
from tallygate.config.price_row import model_pattern, versioned
from tallygate.config.section import Section
from tallygate.domain.model_patterns import MODEL_PATTERN, matches_any
from tallygate.domain.price import Price, Rule
from tallygate.domain.ratio import ONE, ratio

SURCHARGES_MAX: Final = 200
_PATTERNS_MAX: Final = 200
SURCHARGE_FIELDS: Final = (
    declare(
        "models",
        Words(
            "Names, or beginnings of names followed by *.",
            parse=model_pattern,
            items_max=_PATTERNS_MAX,
            pattern=f"^{MODEL_PATTERN.pattern}$",
        ),
        (),
        is_required=True,
    ),
    declare("times", Decimal("A factor, at least 1, of a plainer name's rates of tokens.", parse=ratio), None, is_required=True),
)


@dataclass(frozen=True, slots=True)
class Surcharge:
    """A factor, in millionths, of the rates of tokens, for names that begin so and have no row of their own."""

    models: tuple[str, ...]
    factor: int


def read_surcharges(document: Section) -> tuple[Surcharge, ...]:
    """`surcharges`, in the order in which they are asked: the first one that names the model decides."""
    found = []
    for item in document.sections("surcharges", items_max=SURCHARGES_MAX):
        values = read_declared(item, SURCHARGE_FIELDS)
        factor = values["times"]
        item.close()
        if factor is not None and factor < ONE:
            item.place_of("times").problem("must be at least 1: a name is only guessed to be a plainer one's")
        elif factor is not None:
            found.append(Surcharge(values["models"], factor))
    return tuple(found)


def surcharge_of(model: str, surcharges: tuple[Surcharge, ...]) -> Surcharge | None:
    """The first surcharge that names the model."""
    return next((surcharge for surcharge in surcharges if matches_any(model, surcharge.models)), None)


def surcharged(series: tuple[Price, ...], model: str, surcharges: tuple[Surcharge, ...]) -> tuple[Price, ...]:
    """Rows of a plainer name as they price `model`; they still name the plainer one."""
    surcharge = surcharge_of(model, surcharges)
    if surcharge is None or surcharge.factor == ONE:
        return series
    rule = Rule(factor=surcharge.factor)
    return tuple(versioned(replace(price, rules=(*price.rules, rule))) for price in series)
