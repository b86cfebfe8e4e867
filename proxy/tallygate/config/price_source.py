"""Prices of `genai-prices` (github.com/pydantic/genai-prices, MIT), packaged or published as JSON, as rows of prices.yaml.

The published form is a list of providers, each with its models. A price is an object of figures by key (`input_mtok`), some of
them with tiers. A model has one price, or a list of prices with constraints of which the last active one applies, and
`price_variants` for requests under conditions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, time
from decimal import ROUND_CEILING, Decimal
from importlib import import_module
from typing import Any, Final

from tallygate.config.price_row import is_model_name
from tallygate.domain.ratio import ONE, RATIO_MAX
from tallygate.domain.unit import PROMPT_UNITS, TOKEN_UNITS, UNITS_PER_RATE, Unit

Row = dict[str, Any]  # a row of prices.yaml: text, numbers, and for `when` a list of rows without a model
Figures = Mapping[str, Any]  # of one price of the source: Decimal, or {base, tiers}, by key

FIRST_KNOWN: Final = date.min  # of a price whose start is not stated
_RATIO_PLACES: Final = 6
_MODELS_MAX: Final = 20_000
_DECIMAL_CHARS_MAX: Final = 40

# Each key of the source, with the unit that it prices and how many times the row's figure it is.
UNITS: Final[Mapping[str, tuple[str, int]]] = {
    "input_mtok": (Unit.INPUT.value, 1),
    "cache_read_mtok": (Unit.CACHED_INPUT.value, 1),
    "cache_write_mtok": (Unit.CACHE_WRITE_5M.value, 1),
    "cache_write_5m_mtok": (Unit.CACHE_WRITE_5M.value, 1),
    "cache_write_1h_mtok": (Unit.CACHE_WRITE_1H.value, 1),
    "input_audio_mtok": (Unit.INPUT_AUDIO.value, 1),
    "cache_audio_read_mtok": (Unit.CACHED_INPUT_AUDIO.value, 1),
    "input_image_mtok": (Unit.INPUT_IMAGE.value, 1),
    "cache_image_read_mtok": (Unit.CACHED_INPUT_IMAGE.value, 1),
    "input_video_mtok": (Unit.INPUT_VIDEO.value, 1),
    "output_mtok": (Unit.OUTPUT.value, 1),
    "output_reasoning_mtok": (Unit.REASONING_OUTPUT.value, 1),
    "output_audio_mtok": (Unit.OUTPUT_AUDIO.value, 1),
    "output_image_mtok": (Unit.OUTPUT_IMAGE.value, 1),
    "output_video_mtok": (Unit.OUTPUT_VIDEO.value, 1),
    "web_searches_kcount": (Unit.WEB_SEARCH.value, 1),
    "storage_searches_kcount": (Unit.FILE_SEARCH.value, 1),
    "input_mchars": (Unit.CHARACTER.value, 1),
    "requests_kcount": (Unit.REQUEST.value, 1_000),
    "audio_hours": (Unit.AUDIO_SECOND.value, 3_600),
    "input_audio_hours": (Unit.AUDIO_SECOND.value, 3_600),
    "input_document_kpages": (Unit.PAGE.value, 1_000),
    "input_annotated_document_kpages": ("page:annotated", 1_000),
}
_ORDER: Final = tuple(dict.fromkeys(unit for unit, _ in UNITS.values()))
# Conditions of the source that are ours by another name. OpenAI renamed its tier `priority` to `fast`, at one price
# (developers.openai.com, guides/fast-mode).
_CONDITIONS: Final[Mapping[tuple[str, str], tuple[str, str] | None]] = {
    ("service_tier", "default"): None,
    ("service_tier", "fast"): ("service_tier", "priority"),
    ("processing", "batch"): ("service_tier", "batch"),
}
_KNOWN_CONDITIONS: Final = ("service_tier", "speed", "geography")


class SourceError(ValueError):
    """The data is none that can be read, with what is wrong."""


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model of the source.

    names   its own, and those that mean it exactly
    rows    by effective date, without `model`; the first has no date if the source states none
    left    what the rows cannot state, a phrase each
    """

    provider: str
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    left: tuple[str, ...]
    match: object = field(repr=False)

    def matches(self, name: str) -> bool:
        """Whether the source means this model by `name`, beside its names also by their beginnings and the like."""
        return name in self.names or _matches(self.match, name.lower())


def packaged() -> list[Any]:
    """The data of the installed package. Raises SourceError without one."""
    try:
        data = import_module("genai_prices.data")  # of an extra
    except ImportError as error:
        raise SourceError("genai-prices is not installed: pip install 'tallygate[prices]', or name a file or a URL") from error
    return [_plain(provider) for provider in data.providers]


def models_of(document: object, providers: Iterable[str] = ()) -> tuple[SourceModel, ...]:
    """The models of these providers (none: all), in the source's order. Raises SourceError."""
    wanted = set(providers)
    found: list[SourceModel] = []
    ids: set[str] = set()
    for provider in _list(document, "the data"):
        identifier = _text(provider, "id")
        ids.add(identifier)
        if wanted and identifier not in wanted:
            continue
        for model in _list(provider.get("models"), f"models of {identifier}"):
            read = _model(identifier, model)
            found += [read] if read.names else []  # none that a request can have
            if len(found) > _MODELS_MAX:
                raise SourceError(f"has more than {_MODELS_MAX} models")
    if missing := wanted - ids:
        raise SourceError(f"has no provider {min(missing)!r}; it has {', '.join(sorted(ids))}"[:600])
    if not found:
        raise SourceError("has no models")
    return tuple(found)


def _model(provider: str, model: Any) -> SourceModel:
    identifier = _text(model, "id")
    match = model.get("match")
    own = (identifier,) if identifier[-1:].isalnum() and _matches(match, identifier.lower()) else ()
    names = tuple(dict.fromkeys(name for name in (*own, *_names(match)) if is_model_name(name)))
    left: dict[str, None] = {}
    try:
        rows = _rows(model, left)
        if provider == "google":
            rows = tuple(_grounded(identifier, row) for row in rows)
    except (TypeError, KeyError, AttributeError, ArithmeticError, ValueError) as error:
        raise SourceError(f"the model {identifier!r} of {provider!r} cannot be read: {error}"[:300]) from error
    return SourceModel(provider, names, rows, tuple(left), match)


def _rows(model: Mapping[str, Any], left: dict[str, None]) -> tuple[Row, ...]:
    """The rows of one model: one for each date on which something changes."""
    bases, hours = _bases(model["prices"])
    variants = _variants(model.get("price_variants") or (), [start for start, _ in bases], left)
    starts = {start for start, _ in bases} | {start for versions in variants.values() for start, _ in versions}
    rows: list[Row] = []
    for start in sorted(starts):
        figures = _in_force(bases, start)
        row = _rates(figures, left)
        if Unit.INPUT not in row and Unit.OUTPUT not in row and not any(unit in row for unit in _ORDER):
            left["it has no price"] = None
            continue
        row = {Unit.INPUT.value: "0", **row} if Unit.INPUT not in row else row
        row = row if Unit.OUTPUT in row else {**row, Unit.OUTPUT.value: "0"}
        when = [
            {key: value, **rule}
            for (key, value), versions in variants.items()
            if (rule := _rule(row, {**figures, **_in_force(versions, start)}, left))
        ]
        when += [{"utc_hours": text, **rule} for since, text, at in hours if since <= start and (rule := _rule(row, at, left))]
        ordered = {name: row[name] for name in _ordered(row)}
        if when:
            ordered["when"] = when
        if not rows or {**rows[-1], "effective": None} != {"effective": None, **ordered}:
            dated = {} if start == FIRST_KNOWN else {"effective": start.isoformat()}
            rows.append({**dated, **ordered})
    return tuple(rows)


def _grounded(model: str, row: Row) -> Row:
    """A Gemini row with the unit of its searches: prompts up to Gemini 2, queries since 3.

    ai.google.dev, "Grounding with Google Search".
    """
    unit = Unit.GROUNDED_PROMPT if re.match(r"gemini-[12]", model) else Unit.GROUNDING_QUERY
    return {unit.value if key == Unit.WEB_SEARCH else key: value for key, value in row.items()}


def _bases(prices: Any) -> tuple[list[tuple[date, Figures]], list[tuple[date, str, Figures]]]:
    """Prices by the day from which they apply, and those of hours of the day, which began with the last price stated before."""
    bases: list[tuple[date, Figures]] = []
    hours: list[tuple[date, str, Figures]] = []
    for entry in prices if isinstance(prices, list) else [{"prices": prices}]:
        constraint = entry.get("constraint") or {}
        if "start_time" in constraint:
            hours.append((bases[-1][0] if bases else FIRST_KNOWN, _hours(constraint), entry["prices"]))
        else:
            bases.append((_start(constraint), entry["prices"]))
    return bases or [(FIRST_KNOWN, {})], hours


def _variants(
    stated: Iterable[Any], starts: list[date], left: dict[str, None]
) -> dict[tuple[str, str], list[tuple[date, Figures]]]:
    """Figures in place of the price's by condition, each from a day on.

    The first day of a variant is the one on which somebody looked, as the comments of the source say. It has applied since the
    price did beside which it was seen.
    """
    found: dict[tuple[str, str], list[tuple[date, Figures]]] = {}
    for variant in stated:
        when = variant["when"]
        condition = _condition(when)
        if condition is None:
            if variant["prices"]:
                left[f"its price under {', '.join(f'{key}: {value}' for key, value in when.items())}"] = None
            continue
        found.setdefault(condition, []).append((_start(variant.get("constraint") or {}), variant["prices"]))
    for versions in found.values():
        versions.reverse()  # of several active ones the source takes the first
        versions.sort(key=lambda version: version[0])
        first, figures = versions[0]
        versions[0] = max([start for start in starts if start <= first], default=first), figures
    return {condition: versions for condition, versions in found.items() if any(figures for _, figures in versions)}


def _condition(when: Mapping[str, str]) -> tuple[str, str] | None:
    if len(when) != 1:
        return None
    [(key, value)] = when.items()
    found = _CONDITIONS.get((key, value), (key, value))
    return found if found is not None and found[0] in _KNOWN_CONDITIONS else None


def _in_force(versions: list[tuple[date, Figures]], day: date) -> Figures:
    """The last one stated of those that have begun; nothing before the first."""
    begun = [figures for start, figures in versions if start <= day]
    return begun[-1] if begun else {}


def _rates(figures: Figures, left: dict[str, None]) -> Row:
    """The rates of one price, those of longer prompts under their own keys."""
    rates: dict[str, Decimal] = {}
    tiers: dict[int, dict[str, Decimal]] = {}
    for key, figure in figures.items():
        if figure is None:
            continue
        if key not in UNITS:
            left[f"its {key}"] = None
            continue
        unit, of = UNITS[key]
        rates[unit] = _decimal(figure["base"] if isinstance(figure, Mapping) else figure) / of
        for tier in figure["tiers"] if isinstance(figure, Mapping) else ():
            tiers.setdefault(int(tier["start"]), {})[unit] = _decimal(tier["price"]) / of
    row = {unit: _shown(rate, _places(unit)) for unit, rate in rates.items()}
    for start, stated in sorted(tiers.items()):
        suffix = _suffix(start)
        if suffix is None:  # a row counts in thousands: those of the last one, which are dearer, rather than none
            suffix = f"_above_{start // 1_000}k"
            left[f"that its next prices begin above {start} tokens rather than {start // 1_000}k"] = None
        of_all = {unit: rate for unit, rate in rates.items() if unit in TOKEN_UNITS} | stated
        row |= {unit + suffix: _shown(rate, _places(unit)) for unit, rate in of_all.items()}
    return row


def _suffix(above: int) -> str | None:
    if above % 1_000 == 0:
        return f"_above_{above // 1_000}k"
    return f"_from_{(above + 1) // 1_000}k" if (above + 1) % 1_000 == 0 else None


def _rule(row: Row, figures: Figures, left: dict[str, None]) -> Row:
    """What a rule of `row` states for these figures: a factor if one does, else all rates of tokens; nothing if none differs."""
    rates = {key: value for key, value in _rates(figures, left).items() if _is_of_tokens(key)}
    base = {key: value for key, value in row.items() if _is_of_tokens(key)}
    rates = {Unit.INPUT.value: base["input"], Unit.OUTPUT.value: base["output"], **rates}
    if rates == base:
        return {}
    side = Unit.INPUT if Decimal(base["input"]) else Unit.OUTPUT
    factor = Decimal(rates[side]) / Decimal(base[side]) if Decimal(base[side]) else Decimal(0)
    is_exact = _is_whole_in_millionths(factor) and all(Decimal(rates.get(key, -1)) == Decimal(base[key]) * factor for key in base)
    if is_exact and rates.keys() == base.keys():
        return {"times": _shown(factor, _RATIO_PLACES)}
    return {key: rates[key] for key in _ordered(rates)}


def _is_whole_in_millionths(factor: Decimal) -> bool:
    return 0 < factor <= RATIO_MAX // ONE and factor * ONE == int(factor * ONE)


def _is_of_tokens(key: str) -> bool:
    return re.sub(r"_(?:above|from)_\d+k$", "", key) in TOKEN_UNITS


def _ordered(keys: Iterable[str]) -> list[str]:
    """Rates in the order in which the documentation has them, then those of longer prompts."""

    def place(key: str) -> tuple[int, int, int]:
        tiered = re.fullmatch(r"(.+)_(?:above|from)_(\d+)k", key)
        unit = tiered[1] if tiered else key
        return (int(tiered[2]) if tiered else 0, 0 if unit in PROMPT_UNITS else 1, _ORDER.index(unit))

    return sorted(keys, key=place)


def _decimal(figure: object) -> Decimal:
    number = figure if isinstance(figure, Decimal) else Decimal(str(figure)[:_DECIMAL_CHARS_MAX])
    if not number.is_finite() or number < 0:
        raise ValueError(f"{figure} is no price")
    return number


def _places(unit: str) -> int:
    """Decimal places of a row's figure, which is whole in pico-USD of one unit."""
    return 13 - len(str(UNITS_PER_RATE[Unit(unit.partition(":")[0])]))


def _shown(figure: Decimal, places: int) -> str:
    """A figure without an exponent, rounded up."""
    text = f"{figure.quantize(Decimal(1).scaleb(-places), ROUND_CEILING):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _start(constraint: Mapping[str, Any]) -> date:
    stated = constraint.get("start_date", FIRST_KNOWN)
    return stated if isinstance(stated, date) else date.fromisoformat(stated)


def _hours(constraint: Mapping[str, Any]) -> str:
    return "-".join(_minute(constraint[name]) for name in ("start_time", "end_time"))


def _minute(stated: Any) -> str:
    at = stated if isinstance(stated, time) else time.fromisoformat(stated)
    if at.second or (at.utcoffset() or None) is not None:
        raise ValueError(f"{stated} is no minute of the day in UTC")
    return f"{at:%H:%M}"


def _names(clause: object) -> Iterator[str]:
    """The names that a clause gives outright: those that it equals, and the beginnings that it accepts."""
    if isinstance(clause, Mapping):
        for kind in ("equals", "starts_with"):
            name = clause.get(kind)
            if isinstance(name, str) and name[-1:].isalnum():
                yield name
        for each in clause.get("or") or ():
            yield from _names(each)


def _matches(clause: object, name: str) -> bool:
    """Whether a clause holds for a name in lower case."""
    if not isinstance(clause, Mapping) or len(clause) != 1:
        return False
    [(kind, value)] = clause.items()
    if kind in {"or", "and"}:
        return (any if kind == "or" else all)(_matches(each, name) for each in value)
    text = str(value)
    tests = {"equals": name == text.lower(), "starts_with": name.startswith(text.lower()), "ends_with": name.endswith(text.lower())}
    tests["contains"] = text.lower() in name
    return tests[kind] if kind in tests else kind == "regex" and re.search(text, name) is not None


def _plain(value: Any) -> Any:
    """What the package has as objects, in the form in which it is published."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if is_dataclass(value):
        return {each.name.rstrip("_"): _plain(getattr(value, each.name)) for each in fields(value) if each.name != "extractors"}
    if type(value).__name__ == "ModelPrice":
        return {key: _plain(each) for key, each in vars(value).items()}
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or any(not isinstance(each, Mapping) for each in value):
        raise SourceError(f"{what} must be a list of objects")
    return value


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise SourceError(f"an entry has no {key}")
    return value
