"""Fields that a dataclass declares once: the kind of a field states how its values are given, shown and stored.

    expires_at_ms: Annotated[int | None, Instant("from when on it is refused")] = None

Derived from this are the key `expires` in YAML, in bodies and answers of the API and in import lists, the column
`expires_at_ms`, and the option `--expires`. Code that derives them (`config/declared.py`, `ledger/directory/schema.py` ...)
depends on the kind, never on the field.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from tallygate.domain.instants import INSTANT_MAX_MS, duration_text, optional_instant
from tallygate.domain.model_patterns import MODEL_PATTERN
from tallygate.domain.money import usd_text

TEXT_CHARS_MAX: Final = 256
NAMES_MAX: Final = 1_000  # of one list
_JOINERS: Final = str.maketrans("", "", "\u200c\u200d")  # shown by what they do to their neighbours, in Persian, Hindi or emoji


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a field's values. help: one line, for people; key: the name under which they are given and shown, if it differs
    from the attribute's.

    Values are given and shown as JSON values; a cell is a value as a database stores it.
    """

    help: str
    key: str = field(default="", kw_only=True)

    def shown(self, value: Any) -> Any:
        return value

    def cell(self, value: Any) -> Any:
        return value

    def of_cell(self, cell: Any) -> Any:
        return cell

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        """Return whether a stored value breaks no rule. capabilities: those of the routes."""
        del value, capabilities
        return True


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Printable text; "" if none is given."""

    chars_max: int = TEXT_CHARS_MAX

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        del capabilities
        return not value or is_text(value, self.chars_max)


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """True or false. option: the command-line flags that set it, in click's notation."""

    option: str = ""


@dataclass(frozen=True, slots=True)
class Instant(Kind):
    """Unix milliseconds, or None; given as a day or an RFC 3339 time. The attribute ends in `_at_ms`, its key does not."""

    def shown(self, value: Any) -> Any:
        return optional_instant(value)

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        del capabilities
        return value is None or 0 <= value <= INSTANT_MAX_MS


@dataclass(frozen=True, slots=True)
class WholeNumber(Kind):
    """A whole number from least to most."""

    least: int
    most: int

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        del capabilities
        return bool(self.least <= value <= self.most)


@dataclass(frozen=True, slots=True)
class TimeZone(Kind):
    """An IANA name."""

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        del capabilities
        return is_time_zone(value)


@dataclass(frozen=True, slots=True)
class Usd(Kind):
    """Nano-USD, at most `most`; given as decimal text of USD, so that it stays exact."""

    most: int

    def shown(self, value: Any) -> Any:
        return usd_text(value)


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """Milliseconds from least to most, a multiple of step; given as `1m` or `7d`. zero: a word for 0."""

    least: int
    most: int
    step: int = 1
    zero: str = ""

    def shown(self, value: Any) -> Any:
        return duration_text(value) if value or not self.zero else self.zero


@dataclass(frozen=True, slots=True)
class Days(Kind):
    """A number of whole days, given as `90d`; None for `unlimited`. Shown as a number, under the attribute's name."""


@dataclass(frozen=True, slots=True)
class Thousandths(Kind):
    """Ascending fractions above 0 and up to 1, as a tuple of whole thousandths."""

    items_max: int

    def shown(self, value: Any) -> Any:
        return [permille / 1000 for permille in value]


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of several words, each of which stands for a value."""

    words: Mapping[str, Any]

    def shown(self, value: Any) -> Any:
        return next((word for word, each in self.words.items() if each is value), None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice, with the text that it is given with; "" for a choice without one."""

    value: Any
    text: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceOrText(Choice):
    """One of several words, or a further one with a text: `{price_as: gpt-4o}`. with_text: that word; its value is for_text."""

    with_text: str
    for_text: Any

    def shown(self, value: Any) -> Any:
        return {self.with_text: value.text} if value.value is self.for_text else Choice.shown(self, value.value)


@dataclass(frozen=True, slots=True)
class Names(Kind):
    """A list of names; None for all. one: the name of the option that adds one."""

    one: str

    def shown(self, value: Any) -> Any:
        return None if value is None else list(value)

    def cell(self, value: Any) -> Any:
        return None if value is None else json.dumps(self.shown(value))

    def of_cell(self, cell: Any) -> Any:
        return None if cell is None else tuple(json.loads(cell))


@dataclass(frozen=True, slots=True)
class CapabilitySet(Names):
    """Capabilities of routes, as a frozenset. may_be_all_but: `{except: [...]}` is accepted too, and an empty list is not."""

    may_be_all_but: bool = False

    def shown(self, value: Any) -> Any:
        return None if value is None else sorted(value)

    def of_cell(self, cell: Any) -> Any:
        return None if cell is None else frozenset(json.loads(cell))

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        return value is None or (len(value) <= NAMES_MAX and all(name in capabilities for name in value))


@dataclass(frozen=True, slots=True)
class ModelPatterns(Names):
    """Names of models, or beginnings of names followed by `*`, as a tuple in the order given."""

    def is_sound(self, value: Any, capabilities: Collection[str] = ()) -> bool:
        del capabilities
        return value is None or (len(value) <= NAMES_MAX and all(MODEL_PATTERN.fullmatch(pattern) for pattern in value))


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared field. attribute: its name in Python and its column; key: its name everywhere else.

    default   if no value is given; None also if there is no default, in which case is_required is set
    """

    attribute: str
    key: str
    kind: Kind
    default: Any
    is_required: bool = False


def declared_fields(shape: type) -> tuple[Declared, ...]:
    """The fields of a dataclass that have a kind."""
    defaults = {each.name: each.default for each in fields(shape)}
    found = []
    for attribute, hint in get_type_hints(shape, include_extras=True).items():
        kinds = [each for each in get_args(hint) if isinstance(each, Kind)] if get_origin(hint) is Annotated else []
        default = defaults[attribute] if kinds else None
        found += [
            Declared(
                attribute=attribute,
                key=kind.key or attribute.removesuffix("_at_ms"),
                kind=kind,
                default=None if default is MISSING else default,
                is_required=default is MISSING,
            )
            for kind in kinds
        ]
    return tuple(found)


def values_of(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    """The declared fields of a value by attribute, as arguments for another value that has them."""
    return {each.attribute: getattr(value, each.attribute) for each in declared}


def shown_values(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    return {each.key: each.kind.shown(getattr(value, each.attribute)) for each in declared}


def cells_of(declared: Sequence[Declared], value: object) -> dict[str, Any]:
    """The cells of a row, by column."""
    return {each.attribute: each.kind.cell(getattr(value, each.attribute)) for each in declared}


@lru_cache(maxsize=1_000)
def is_time_zone(name: str) -> bool:
    """Return whether it is the name of a zone of the IANA's, as browsers know them too, rather than another file beside those.

    `right/` counts leap seconds, so its days are not those of anybody's clock; `localtime` is another zone on each machine.
    """
    if name.startswith(("posix/", "right/")) or name in {"Factory", "localtime", "posixrules"}:
        return False
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a malformed key, a directory, an unknown zone
        return False
    return True


def is_text(text: str, chars_max: int = TEXT_CHARS_MAX) -> bool:
    """Return whether the text can be shown unchanged: 1 to chars_max printable characters, joined or not."""
    seen = text.translate(_JOINERS)
    return bool(seen) and len(text) <= chars_max and seen.isprintable()
