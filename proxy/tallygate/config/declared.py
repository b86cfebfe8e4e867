"""Declared fields, read from a section of a file or a body."""

from collections.abc import Collection, Sequence
from typing import Any

from tallygate.config.problems import nearest
from tallygate.config.section import Section, show
from tallygate.domain.declared import (
    CapabilitySet,
    Declared,
    Flag,
    Instant,
    ModelPatterns,
    Text,
    TimeZone,
    WholeNumber,
    is_time_zone,
)
from tallygate.domain.model_patterns import MODEL_PATTERN


def read_declared(section: Section, declared: Sequence[Declared], *, capabilities: Collection[str]) -> dict[str, Any]:
    """The fields' values by attribute; what is absent or wrong has its default. capabilities: those that routes have."""
    return {field.attribute: _read(section, field, capabilities) for field in declared}


def _read(section: Section, field: Declared, capabilities: Collection[str]) -> Any:
    match field.kind:
        case Text(chars_max=chars_max):
            return section.text(field.key, field.default, chars_max=chars_max)
        case Flag():
            return section.boolean(field.key, default=field.default)
        case WholeNumber(least=least, most=most):
            return section.integer(field.key, field.default, minimum=least, maximum=most)
        case TimeZone():
            return section.parsed(field.key, _time_zone) or field.default
        case Instant():
            return section.instant_ms(field.key)
        case CapabilitySet():
            names = section.scalars(field.key)
            for place, name in names or []:
                if name not in capabilities:
                    place.problem(f"{show(name)} is not a capability of any route{nearest(name, capabilities)}")
            return None if names is None else frozenset(name for _, name in names)
        case ModelPatterns():
            patterns = section.scalars(field.key)
            for place, pattern in patterns or []:
                if MODEL_PATTERN.fullmatch(pattern) is None:
                    place.problem(f"must be a model name, or the start of one followed by *, got {show(pattern)}")
            return None if patterns is None else tuple(pattern for _, pattern in patterns)
    raise TypeError(f"{field.key} is of a kind that no reader knows")


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError(f"must be a time zone such as America/New_York, got {show(name)}")
    return name
