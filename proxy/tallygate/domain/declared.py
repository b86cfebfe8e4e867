"""A field that is declared once, by a dataclass: its kind states how it is given, shown and kept.

    expires_at_ms: Annotated[int | None, Instant("from when on it is refused")] = None

From this are derived: the key `expires` in YAML, in the bodies and answers of the API and in lists to import, the column
`expires_at_ms`, and the option `--expires`. Those who derive them (`config/declared.py`, `ledger/directory/schema.py` ...) ask for
the kind, never for the field.
"""

import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from tallygate.domain.instants import optional_instant

TEXT_CHARS_MAX: Final = 256
_INSTANT_MAX_MS: Final = 253_402_300_799_000  # the last second of the year 9999


@dataclass(frozen=True, slots=True)
class Kind:
    """What values of one field are. help: one line, for people.

    Values are shown and given as JSON values; a cell is a value as a database keeps it.
    """

    help: str

    def shown(self, value: Any) -> Any:
        return value

    def cell(self, value: Any) -> Any:
        return value

    def of_cell(self, cell: Any) -> Any:
        return cell

    def is_sound(self, value: Any) -> bool:
        """Whether no rule has anything against a value that was kept, whatever the configuration in force."""
        del value
        return True


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Printable; "" where nothing is given."""

    chars_max: int = TEXT_CHARS_MAX

    def is_sound(self, value: Any) -> bool:
        return not value or is_text(value, self.chars_max)


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """True or false. option: how commands set it, as click has it."""

    option: str


@dataclass(frozen=True, slots=True)
class Instant(Kind):
    """Unix milliseconds, or None. The attribute ends in `_at_ms`, which its key does not; a day or an RFC 3339 time is given."""

    def shown(self, value: Any) -> Any:
        return optional_instant(value)

    def is_sound(self, value: Any) -> bool:
        return value is None or 0 <= value <= _INSTANT_MAX_MS


@dataclass(frozen=True, slots=True)
class WholeNumber(Kind):
    """From least to most."""

    least: int
    most: int

    def is_sound(self, value: Any) -> bool:
        return bool(self.least <= value <= self.most)


@dataclass(frozen=True, slots=True)
class TimeZone(Kind):
    """An IANA name."""

    def is_sound(self, value: Any) -> bool:
        return is_time_zone(value)


@dataclass(frozen=True, slots=True)
class Names(Kind):
    """A list of names; None for all there are. one: what one of them is called, as an option."""

    one: str

    def shown(self, value: Any) -> Any:
        return None if value is None else list(value)

    def cell(self, value: Any) -> Any:
        return None if value is None else json.dumps(self.shown(value))

    def of_cell(self, cell: Any) -> Any:
        return None if cell is None else tuple(json.loads(cell))

    def is_sound(self, value: Any) -> bool:
        return value is None  # which names there are, the configuration says


@dataclass(frozen=True, slots=True)
class CapabilitySet(Names):
    """Capabilities of routes: a frozenset."""

    def shown(self, value: Any) -> Any:
        return None if value is None else sorted(value)

    def of_cell(self, cell: Any) -> Any:
        return None if cell is None else frozenset(json.loads(cell))


@dataclass(frozen=True, slots=True)
class ModelPatterns(Names):
    """Names of models, or the starts of some followed by `*`: a tuple, in the order given."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared field. attribute: of the values, and the column; key: everywhere else. default: of a value not given."""

    attribute: str
    key: str
    kind: Kind
    default: Any


def declared_fields(shape: type) -> tuple[Declared, ...]:
    """The fields of a dataclass that have a kind."""
    defaults = {field.name: None if field.default is MISSING else field.default for field in fields(shape)}
    found = []
    for attribute, hint in get_type_hints(shape, include_extras=True).items():
        kinds = [each for each in get_args(hint) if isinstance(each, Kind)] if get_origin(hint) is Annotated else []
        found += [Declared(attribute, attribute.removesuffix("_at_ms"), kind, defaults[attribute]) for kind in kinds]
    return tuple(found)


def values_of(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    """The declared fields of a value, by attribute: for another value that has them."""
    return {each.attribute: getattr(value, each.attribute) for each in declared}


def shown_values(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    return {each.key: each.kind.shown(getattr(value, each.attribute)) for each in declared}


def cells_of(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    """A row's, by column."""
    return {each.attribute: each.kind.cell(getattr(value, each.attribute)) for each in declared}


@lru_cache(maxsize=1_000)
def is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a malformed key, a directory, an unknown zone
        return False
    return True


def is_text(text: str, chars_max: int = TEXT_CHARS_MAX) -> bool:
    """Whether it can be shown as it is: 1 to chars_max printable characters."""
    return 0 < len(text) <= chars_max and text.isprintable()
