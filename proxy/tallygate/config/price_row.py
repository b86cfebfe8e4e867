"""A row of prices.yaml: rates by unit, of longer prompts and under conditions."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from tallygate.config.declared import read_declared, read_field
from tallygate.config.kinds import Decimal, Parsed, Words, declare
from tallygate.config.section import Section, show
from tallygate.domain.declared import Declared, Flag, Instant, WholeNumber
from tallygate.domain.model_patterns import MODEL_PATTERN
from tallygate.domain.money import pico_usd_each
from tallygate.domain.price import UNDATED_MS, Price, Rates, Rule, Tier
from tallygate.domain.ratio import ONE, ratio
from tallygate.domain.unit import TOKEN_UNITS, UNITS_PER_RATE, Unit, wider

USD_PER_RATE_MAX: Final = 100_000  # above it the number is a typing error, and would lock every caller out
CONTEXT_TOKENS_MAX: Final = 100_000_000
PRICES_MAX: Final = 100_000  # of one file
TIERS_MAX: Final = 8
RULES_MAX: Final = 32
UNITS_OF_A_ROW_MAX: Final = 200
NAMES_OF_A_ROW_MAX: Final = 200
MODEL: Final = "model"
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
SIZE: Final = r"_(above|from)_([1-9]\d{0,4})k"  # of prompts, at the end of a key: input_above_200k
PARTS: Final = r"(?::[A-Za-z0-9._-]{1,32}){1,3}"  # that narrow a unit, at the end of a key: image:high:1024x1024
_TIERED: Final = re.compile(f"([a-z_0-9]+){SIZE}", re.ASCII)
_NARROWED: Final = re.compile(f"[a-z_]+{PARTS}", re.ASCII)
_CONDITION: Final = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_UNITS: Final[Mapping[str, Unit]] = {unit.value: unit for unit in Unit}
_PER: Final = {1_000_000: "million", 1_000: "thousand", 1: "one"}


def read_price(item: Section) -> tuple[Price, ...]:
    """The price by each name that the row gives it; none where something is wrong, which is a problem by then."""
    complete = item.require(MODEL, Unit.INPUT, Unit.OUTPUT)
    values = read_declared(item, ROW_FIELDS)
    model, effective_ms = values[MODEL], values["effective"]
    rates, tiers = read_rates(item)
    rules = _read_rules(item)
    item.close(also=_UNITS)
    if not complete or model is None or effective_ms is None or Unit.INPUT not in rates or Unit.OUTPUT not in rates:
        return ()
    price = versioned(
        Price(
            model=model,
            version="",
            effective_ms=effective_ms,
            rates=rates,
            tiers=tiers,
            rules=rules,
            max_output_tokens=values["max_output_tokens"],
            max_input_tokens=values["max_input_tokens"],
            reasons=values["reasons"],
        )
    )
    suffix = price.version.removeprefix(model)
    return (price, *[replace(price, model=name, version=name + suffix) for name in values["also"]])


def versioned(price: Price, *, as_model: str | None = None) -> Price:
    """`price` with its version, `model@date.digest`: the digest tells a corrected row from the one it replaces at the same date.

    Without a date the version is `model@undated.digest`.

    as_model   the model that it names, if another than the price's
    """
    text = json.dumps([price.effective_ms, statement(price)], sort_keys=True)
    is_undated = price.effective_ms == UNDATED_MS
    date = "undated" if is_undated else datetime.fromtimestamp(price.effective_ms / 1000, UTC).date()
    return replace(price, version=f"{as_model or price.model}@{date}.{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def statement(price: Price) -> dict[str, Any]:
    """All that a price states of money and sizes, as JSON can hold it; what is not stated is left out."""
    stated: dict[str, Any] = dict(price.rates)
    stated |= {"tiers": {str(tier.from_tokens): dict(tier.rates) for tier in price.tiers}} if price.tiers else {}
    stated |= {"rules": [_rule_statement(rule) for rule in price.rules]} if price.rules else {}
    sizes = {"max_output_tokens": price.max_output_tokens, "max_input_tokens": price.max_input_tokens}
    stated |= {name: size for name, size in sizes.items() if size is not None}
    return stated if price.generates else {**stated, "generates": False}


def price_of_statement(stated: Mapping[str, Any], *, model: str, version: str, effective_ms: int) -> Price:
    """The price that a `statement` is of. Raises ValueError, TypeError or KeyError for what is none."""
    others = {"tiers", "rules", "max_output_tokens", "max_input_tokens", "generates"}
    return Price(
        model=model,
        version=version,
        effective_ms=effective_ms,
        rates={unit: rate for unit, rate in stated.items() if unit not in others},
        tiers=tuple(sorted([Tier(int(size), rates) for size, rates in stated.get("tiers", {}).items()], key=_from_tokens)),
        rules=tuple([_stated_rule(rule) for rule in stated.get("rules", ())]),
        max_output_tokens=stated.get("max_output_tokens"),
        max_input_tokens=stated.get("max_input_tokens"),
        generates=stated.get("generates", True),
    )


def _stated_rule(stated: Mapping[str, Any]) -> Rule:
    conditions: dict[str, Any] = {name: stated[name] for name in ("service_tier", "speed", "geography") if name in stated}
    times: dict[str, Any] = {name: tuple(stated[name]) for name in ("utc_minutes", "utc_days") if name in stated}
    rates = {name: rate for name, rate in stated.items() if name not in {*conditions, *times, "factor"} and isinstance(rate, int)}
    tiers = [Tier(int(name.removeprefix("from_")), rate) for name, rate in stated.items() if isinstance(rate, dict)]
    return Rule(**conditions, **times, factor=stated.get("factor", ONE), rates=rates, tiers=tuple(sorted(tiers, key=_from_tokens)))


def _from_tokens(tier: Tier) -> int:
    return tier.from_tokens


def _rule_statement(rule: Rule) -> dict[str, Any]:
    stated: dict[str, Any] = {
        name: value
        for name in ("service_tier", "speed", "geography", "utc_minutes", "utc_days")
        if (value := getattr(rule, name)) is not None
    }
    if not rule.rates:
        return {**stated, "factor": rule.factor}
    return {**stated, **rule.rates, **{f"from_{tier.from_tokens}": dict(tier.rates) for tier in rule.tiers}}


def read_rates(item: Section, *, only: frozenset[Unit] | None = None) -> tuple[Rates, tuple[Tier, ...]]:
    """The rates of a row, and those of longer prompts: `input_above_200k`, or `input_from_200k` where 200,000 is one.

    only   units that may have a rate; None: every one
    """
    rates: dict[str, int] = {}
    tiers: dict[int, dict[str, int]] = {}
    keys = list(item.keys())
    if len(keys) > UNITS_OF_A_ROW_MAX:
        item.place.problem(f"must have at most {UNITS_OF_A_ROW_MAX} keys")
        return {}, ()
    for key in keys:
        tiered = _TIERED.fullmatch(key)
        name = tiered[1] if tiered else key
        unit = _unit(name)
        if unit is None or (only is not None and unit not in only) or (tiered and unit not in TOKEN_UNITS):
            continue
        rate = item.money(key, partial(rate_of, unit))
        if rate is None:
            continue
        if tiered is None:
            rates[name] = rate
        else:
            tiers.setdefault(int(tiered[3]) * 1000 + (tiered[2] == "above"), {})[name] = rate
    if any(Unit.INPUT not in each or Unit.OUTPUT not in each for each in tiers.values()):
        item.place.problem("needs input_above_<n>k and output_above_<n>k together, with one n")
    if Unit.IMAGE not in rates and any(name.startswith(f"{Unit.IMAGE}:") for name in rates):
        item.place.problem("needs `image` too: what an image costs whose quality or size has no rate here")
    if len(tiers) > TIERS_MAX:
        item.place.problem(f"must have at most {TIERS_MAX} sizes of prompt with rates of their own")
    return rates, tuple(Tier(size, tiers[size]) for size in sorted(tiers))


def _unit(name: str) -> Unit | None:
    """The unit that a key has a rate of; of a narrowed one that which it narrows."""
    found = _UNITS.get(name)
    if found is None and _NARROWED.fullmatch(name):
        widest = name
        while (narrower := wider(widest)) is not None:
            widest = narrower
        found = _UNITS.get(widest)
        return None if found in TOKEN_UNITS else found
    return found


def _read_rules(item: Section) -> tuple[Rule, ...]:
    """`when`: rates under a condition, or a factor of those of tokens."""
    rules = []
    for section in item.sections("when", items_max=RULES_MAX):
        stated = read_declared(section, (*CONDITIONS, *TIMES))
        factor = read_field(section, FACTOR)
        rates, tiers = read_rates(section, only=TOKEN_UNITS)
        section.close(also=TOKEN_UNITS)
        place = section.place
        if not any(name in section for name in stated):
            place.problem("states no condition: it needs service_tier, speed, geography, utc_hours or utc_days")
        if (factor is None) == (not rates):
            place.problem("needs either `times`, a factor of the row's rates, or rates of its own")
        elif rates and not {Unit.INPUT, Unit.OUTPUT} <= rates.keys():
            place.problem("needs `input` and `output` together")
        else:
            factor = ONE if factor is None else factor
            hours, days = stated.pop("utc_hours"), stated.pop("utc_days")
            rules.append(Rule(**stated, utc_minutes=hours, utc_days=days, factor=factor, rates=rates, tiers=tiers))
    return tuple(rules)


def _condition(text: str) -> str:
    if _CONDITION.fullmatch(text) is None:
        raise ValueError(f"must be 1 to 32 of a-z 0-9 _ -, got {show(text)}")
    return text


def minutes_of_day(text: str) -> tuple[int, int]:
    """Hours of the UTC day ("16:30-00:30") in minutes. Raises ValueError."""
    match = _HOURS.fullmatch(text)
    first, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if first == end:
        raise ValueError(f"must be hours of the day in UTC such as '16:30-00:30', got {show(text)}")
    return first, end


def _days(text: str) -> tuple[int, int]:
    """Days of the UTC week ("mon-fri", "sun"), 0 is Monday. Raises ValueError."""
    first, _, last = text.partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise ValueError(f"must be days of the week such as 'mon-fri' or 'sun', got {show(text)}")
    return DAYS.index(first), DAYS.index(last or first)


def hours_text(minutes: tuple[int, int]) -> str:
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)


def days_text(days: tuple[int, int]) -> str:
    return "-".join(DAYS[day] for day in dict.fromkeys(days))


def model_name(text: str) -> str:
    if not is_model_name(text):
        raise ValueError(f"must be a model name of at most 128 characters, got {show(text)}")
    return text


def is_model_name(text: str) -> bool:
    return _MODEL.fullmatch(text) is not None


def rate_of(unit: Unit, text: str) -> int:
    """A row's figure in pico-USD of one unit. Raises ValueError outside 0 to USD_PER_RATE_MAX."""
    return bounded_rate(pico_usd_each(text, of=UNITS_PER_RATE[unit], unit=_plain_name(unit)), unit)


def bounded_rate(pico_usd: int, unit: Unit = Unit.INPUT) -> int:
    of = UNITS_PER_RATE[unit]
    usd = pico_usd * of // 10**12
    if usd > USD_PER_RATE_MAX or (usd == USD_PER_RATE_MAX and pico_usd * of % 10**12):
        raise ValueError(f"must be at most {USD_PER_RATE_MAX} USD per {rated_units(unit)}, got {usd}")
    return pico_usd


def rated_units(unit: Unit) -> str:
    """What a rate is the price of, such as "million tokens"."""
    return f"{_PER[UNITS_PER_RATE[unit]]} {_plural(unit)}"


def _plain_name(unit: Unit) -> str:
    return "token" if unit in TOKEN_UNITS else unit.value


def _plural(unit: Unit) -> str:
    return "tokens" if unit in TOKEN_UNITS else f"of {unit.value}"


def model_pattern(text: str) -> str:
    """The name of a model, or the start of one followed by `*`. Raises ValueError."""
    if MODEL_PATTERN.fullmatch(text) is None:
        raise ValueError(f"must be a model name, or the start of one followed by *, got {show(text)}")
    return text


def _condition_of(name: str, help_: str) -> Declared:
    return declare(name, Parsed(help_, parse=_condition, pattern=f"^{_CONDITION.pattern}$"), None)


_SIZE: Final = WholeNumber("", 1, CONTEXT_TOKENS_MAX)
_MODEL_NAME: Final = Parsed("The model's name.", parse=model_name, pattern=f"^{_MODEL.pattern}$", example="gpt-4o-mini")
ROW_FIELDS: Final = (
    declare(MODEL, _MODEL_NAME, None),
    declare(
        "also",
        Words(
            "Other names at the same price.",
            parse=model_name,
            items_max=NAMES_OF_A_ROW_MAX,
            empty="",
            pattern=f"^{_MODEL.pattern}$",
        ),
        (),
    ),
    declare("effective", Instant("The day or time from which on the price is in force; else since ever."), UNDATED_MS),
    declare("reasons", Flag("Whether it may generate tokens that no answer shows."), default=True),
    declare("max_output_tokens", replace(_SIZE, help="The most that one answer has."), None),
    declare("max_input_tokens", replace(_SIZE, help="The most that it reads."), None),
)
CONDITIONS: Final = (
    _condition_of("service_tier", "The service tier to which it applies."),
    _condition_of("speed", "The speed to which it applies."),
    _condition_of("geography", "The place of inference to which it applies."),
)
TIMES: Final = (
    declare(
        "utc_hours",
        Parsed("Hours of the day in UTC.", parse=minutes_of_day, pattern=f"^{_HOURS.pattern}$", example="16:30-00:30"),
        None,
    ),
    declare(
        "utc_days",
        Parsed("Days of the week in UTC.", parse=_days, pattern=f"^({'|'.join(DAYS)})(-({'|'.join(DAYS)}))?$", example="mon-fri"),
        None,
    ),
)
FACTOR: Final = declare("times", Decimal("A factor of the row's rates of tokens.", parse=ratio), None)
