"""What a catalogue and another source of prices state differently, and the differences that somebody has reviewed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.declared import read_declared
from tallygate.config.kinds import Words, declare
from tallygate.config.price_row import read_price
from tallygate.config.price_source import Row, SourceModel
from tallygate.config.problems import Problems
from tallygate.config.section import Place, Section
from tallygate.domain.declared import Text
from tallygate.domain.model_patterns import matches_any
from tallygate.domain.money import rate_text
from tallygate.domain.price import Price, Rates, Rule, Schedule
from tallygate.domain.unit import TOKEN_UNITS, UNITS_PER_RATE, Unit
from tallygate.domain.usage import STANDARD, Conditions

REVIEWED_FIELDS: Final = (
    declare("models", Words("Names, or beginnings of names followed by *.", parse=str), (), is_required=True),
    declare("reason", Text("Why the difference is meant.", 500), is_required=True),
)
REVIEWED_MAX: Final = 1_000
WHAT: Final = declare("what", Words("Figures that only one side states, or `model`, a name that the list lacks.", parse=str), ())
NOT_LISTED: Final = "model"
STATED: Final = "stated"  # in place of figures, where only one side knows a condition
_UNITS: Final = tuple(unit for unit in Unit if unit in TOKEN_UNITS)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one model.

    what     the unit, with the size of the prompt and the condition; `model` if the catalogue does not have the name
    here     the catalogue's figure, as a row states it; "" for none
    there    the source's; "" where it states none
    """

    provider: str
    model: str
    what: str
    here: str
    there: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Differences that are meant, of models by pattern.

    what      patterns of figures that only one side states
    figures   pairs of figures, here and there, by what they are of; another pair is a new difference
    """

    models: tuple[str, ...]
    what: tuple[str, ...]
    figures: Mapping[str, tuple[str, str]]
    reason: str
    place: Place

    def covers(self, found: Difference) -> bool:
        if not matches_any(found.model, self.models):
            return False
        is_one_sided = not found.there or found.what == NOT_LISTED
        return self.figures.get(found.what) == (found.here, found.there) or (is_one_sided and matches_any(found.what, self.what))


@dataclass(frozen=True, slots=True)
class ReviewedNames:
    """Names of the catalogue, by pattern, that the source does not have."""

    models: tuple[str, ...]
    reason: str
    place: Place


def read_reviewed(document: Section) -> tuple[tuple[Reviewed, ...], tuple[ReviewedNames, ...]]:
    """The file of reviewed differences: `differences`, and `unknown_there`."""
    found = []
    for item in document.sections("differences", items_max=REVIEWED_MAX):
        values = read_declared(item, (*REVIEWED_FIELDS, WHAT))
        figures = _read_figures(item.section("figures"))
        item.close()
        if not figures and not values["what"]:
            item.place.problem("needs `what`, which only one side states, or `figures` of both sides")
        found.append(Reviewed(figures=figures, place=item.place, **values))
    unknown = []
    for item in document.sections("unknown_there", items_max=REVIEWED_MAX):
        unknown.append(ReviewedNames(place=item.place, **read_declared(item, REVIEWED_FIELDS)))
        item.close()
    document.close()
    return tuple(found), tuple(unknown)


def _read_figures(section: Section | None) -> dict[str, tuple[str, str]]:
    found = {}
    for what in list(section.keys()) if section is not None else ():
        pair = [text for _, text in section.scalars(what, items_max=2) or ()] if section is not None else []
        if len(pair) == 2:
            found[what] = (pair[0], pair[1])
        elif section is not None:
            section.place_of(what).problem("must be two figures: the one here and the one there")
    return found


def differences(catalogue: PriceCatalogue, models: Iterable[SourceModel], at_ms: int) -> Iterator[Difference]:
    """What both state differently at an instant, model by model; a model of the source without a price is left out."""
    for model in models:
        priced = prices_of(model)
        theirs = max([price for price in priced if price.effective_ms <= at_ms], key=lambda price: price.effective_ms, default=None)
        if theirs is None:
            continue
        for name in model.names:
            ours = catalogue.row(name, at_ms)
            if ours is None:
                yield Difference(model.provider, name, NOT_LISTED, "", _figure(theirs.rates, Unit.INPUT))
            else:
                yield from (
                    Difference(model.provider, name, what, here, there) for what, (here, there) in _compared(ours, theirs).items()
                )


def prices_of(model: SourceModel) -> list[Price]:
    """The rows of a model of the source, as they price its first name."""
    return [_price(model.names[0], row) for row in model.rows]


def _price(name: str, row: Row) -> Price:
    problems = Problems()
    prices = read_price(Section(Place(name, 1, "", problems), {"model": name, **row}))
    if problems or not prices:
        raise ValueError("; ".join(problems.texts()))
    return prices[0]


def _compared(ours: Price, theirs: Price) -> dict[str, tuple[str, str]]:
    """What differs, with both figures: under every condition, for every size of prompt, at every hour that one of them knows.

    Of several hours the first of the day that differs, so that it is the same at whatever time somebody compares. The day is a
    Monday: the source knows no days of the week, and its hours are those of working days (DeepSeek's).
    """
    rules = (*ours.rules, *theirs.rules)
    minutes = sorted({0, *[minute for rule in rules for minute in rule.utc_minutes or ()]})
    found: dict[str, tuple[str, str]] = {}
    conditions = {STANDARD: "", **{_conditions(rule): _condition_text(_conditions(rule)) for rule in rules}}
    for minute in minutes:
        here, there = ours.starting_at(minute), theirs.starting_at(minute)
        for condition, text in conditions.items():
            if text and (is_here := _states(here, condition)) != _states(there, condition):
                found.setdefault(text, (STATED, "") if is_here else ("", STATED))
                continue
            for what, figures in _schedules(here, there, condition).items():
                found.setdefault(", ".join(filter(None, (what, text))), figures)
    return found


def _states(price: Price, conditions: Conditions) -> bool:
    return any(_conditions(rule) == conditions for rule in price.rules)


def _conditions(rule: Rule) -> Conditions:
    return Conditions(**{name: getattr(rule, name) or "" for name in ("service_tier", "speed", "geography")})


def _condition_text(conditions: Conditions) -> str:
    stated: Mapping[str, str] = {name: getattr(conditions, name) for name in ("service_tier", "speed", "geography")}
    return ", ".join(f"{name}: {value}" for name, value in stated.items() if value)


def _schedules(here: Price, there: Price, conditions: Conditions) -> dict[str, tuple[str, str]]:
    ours, theirs = here.schedule(conditions), there.schedule(conditions)
    found = {}
    for size in sorted({tier.from_tokens for tier in (*ours, *theirs)}):
        a, b = _at(ours, size), _at(theirs, size)
        for unit in _UNITS:
            if a[unit] != b[unit] and (unit in here.rates or unit in there.rates):
                there_text = _figure(b, unit) if unit in there.rates else ""
                found[f"{unit}{f' from {size}' if size else ''}"] = _figure(a, unit) if unit in here.rates else "", there_text
    return found


def _at(schedule: Schedule, size: int) -> Rates:
    return next(tier.rates for tier in reversed(schedule) if size >= tier.from_tokens)


def _figure(rates: Rates, unit: Unit) -> str:
    return rate_text(rates[unit], UNITS_PER_RATE[unit])


def unknown_there(catalogue: PriceCatalogue, models: Iterable[SourceModel]) -> list[str]:
    """Names of the catalogue that the source does not have, in the catalogue's order."""
    known = list(models)
    names = {name for model in known for name in model.names}
    unnamed = [name for name in catalogue.models() if name not in names]
    return [name for name in unnamed if not any(model.matches(name) for model in known)]
