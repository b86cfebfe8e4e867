"""Parsing of declared fields from a section of a file or a body."""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from tallygate.config.kinds import Decimal, Identifier, Parsed, Words
from tallygate.config.problems import nearest
from tallygate.config.section import Place, Section, duration_ms, show
from tallygate.domain.declared import (
    CapabilitySet,
    Choice,
    ChoiceOrText,
    Chosen,
    Days,
    Declared,
    Duration,
    Flag,
    Instant,
    ModelPatterns,
    Text,
    Thousandths,
    TimeZone,
    Usd,
    WholeNumber,
    is_time_zone,
)
from tallygate.domain.model_patterns import MODEL_PATTERN
from tallygate.domain.money import nano_usd_from_usd, usd_text

_DAY_MS: Final = 86_400_000
FRACTION: Final = re.compile(r"(?:0\.\d{1,3}|1(?:\.0{1,3})?)", re.ASCII)


def read_declared(section: Section, declared: Sequence[Declared], *, capabilities: Collection[str] = ()) -> dict[str, Any]:
    """Parse the fields' values by attribute; an absent or wrong value gets its default. capabilities: those of the routes."""
    return {field.attribute: read_field(section, field, capabilities) for field in declared}


def read_field(section: Section, field: Declared, capabilities: Collection[str] = ()) -> Any:  # one for each kind
    if not section.has(field.key):
        if field.is_required:
            section.require(field.key)
        return field.default
    match field.kind:
        case Text(chars_max=chars_max):
            return section.text(field.key, field.default, chars_max=chars_max)
        case Flag():
            return section.boolean(field.key, default=field.default)
        case WholeNumber(least=least, most=most):
            return section.integer(field.key, field.default, minimum=least, maximum=most)
        case Usd(most=most):
            return section.money(field.key, lambda text: _nano_usd(text, most))
        case Duration(least=least, most=most, step=step, zero=zero):
            return section.duration_ms(field.key, field.default, minimum=least, maximum=most, step=step, zero=zero)
        case Days():
            return _days(section, field)
        case Thousandths(items_max=items_max):
            return _thousandths(section, field, items_max)
        case ChoiceOrText() as kind:
            return _choice_or_text(section, field, kind)
        case Choice(words=words):
            return words.get(section.choice(field.key, words), field.default)
        case TimeZone():
            return section.parsed(field.key, _time_zone) or field.default
        case Instant():
            return section.instant_ms(field.key)
        case CapabilitySet(may_be_all_but=may_be_all_but):
            return _capabilities(section, field.key, capabilities, may_be_all_but=may_be_all_but)
        case Identifier():
            return section.identifier(field.key) or field.default
        case Parsed(parse=parse):
            return section.parsed(field.key, parse) or field.default
        case Decimal(parse=parse):
            amount = section.money(field.key, parse)
            return field.default if amount is None else amount
        case Words() as kind:
            return _words(section, field, kind)
        case ModelPatterns():
            patterns = section.scalars(field.key)
            for place, pattern in patterns or []:
                if MODEL_PATTERN.fullmatch(pattern) is None:
                    place.problem(f"must be a model name, or the start of one followed by *, got {show(pattern)}")
            return None if patterns is None else tuple(pattern for _, pattern in patterns)
    raise TypeError(f"{field.key} is of a kind that no reader knows")


def _nano_usd(text: str, most: int) -> int:
    value = nano_usd_from_usd(text)
    if value > most:
        raise ValueError(f"must be at most {usd_text(most)} USD")
    return value


def _days(section: Section, field: Declared) -> int | None:
    text = section.plain(field.key)
    if text is None or text == "unlimited":
        return None
    try:
        milliseconds = duration_ms(text)
    except ValueError:
        milliseconds = 0
    if not milliseconds or milliseconds % _DAY_MS:
        section.place_of(field.key).problem(f"must be whole days such as 90d, or unlimited, got {text[:20]!r}")
        return None
    return milliseconds // _DAY_MS


def _thousandths(section: Section, field: Declared, items_max: int) -> Any:
    """Parse decimals of at most three places."""
    fractions = section.scalars(field.key, items_max=items_max)
    if fractions is None:
        return field.default
    found = []
    for place, text in fractions:
        if FRACTION.fullmatch(text) is None or not text.strip("0."):
            place.problem(f"must be a fraction above 0 and up to 1 with at most three decimals, got {show(text)}")
        else:
            whole, _, decimals = text.partition(".")
            found.append(int(whole) * 1000 + int(decimals.ljust(3, "0")))
    if found != sorted(set(found)):
        section.place_of(field.key).problem("must be ascending")
    return tuple(found)


def _words(section: Section, field: Declared, kind: Words) -> Any:
    found = []
    texts = section.scalars(field.key, items_max=kind.items_max)
    if texts == [] and kind.empty and section.is_empty(field.key):
        section.place_of(field.key).problem(kind.empty)
    for place, text in texts or ():
        try:
            found.append(kind.parse(text))
        except ValueError as error:
            place.problem(str(error))
    return tuple(found) or field.default


def _capabilities(section: Section, key: str, known: Collection[str], *, may_be_all_but: bool) -> frozenset[str] | None:
    """Parse a list of names or, if allowed, `{except: [...]}`; None if absent."""
    if not (may_be_all_but and section.is_mapping(key)):
        names = section.scalars(key, may_be_empty=not may_be_all_but)
        return None if names is None else _known_capabilities(names, known)
    inner = section.section(key)
    if inner is None:
        return None
    inner.require("except")
    left = frozenset(known) - _known_capabilities(inner.scalars("except", may_be_empty=False) or [], known)
    inner.close()
    if not left:
        inner.place_of("except").problem("leaves no capability: a plan without any says `api_access: false`")
    return left


def _known_capabilities(names: list[tuple[Place, str]], known: Collection[str]) -> frozenset[str]:
    for place, name in names:
        if name not in known:
            place.problem(f"{show(name)} is not a capability of any route{nearest(name, known)}")
    return frozenset(name for _, name in names)


def _choice_or_text(section: Section, field: Declared, kind: ChoiceOrText) -> Chosen:
    default: Chosen = field.default
    if not section.is_mapping(field.key):
        return Chosen(kind.words.get(section.choice(field.key, kind.words), default.value))
    inner = section.section(field.key)
    if inner is None:
        return default
    inner.require(kind.with_text)
    text = inner.text(kind.with_text)
    inner.close()
    return Chosen(kind.for_text, text) if text else default


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError(f"must be a time zone such as America/New_York, got {show(name)}")
    return name
