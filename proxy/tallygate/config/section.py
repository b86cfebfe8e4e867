"""Typed parsing of one mapping: every mistake becomes a problem with its place, and parsing continues.

A mapping is a YAML node, whose values keep their lines and original text, or a dict of JSON values.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Final, TypeVar

import yaml

from tallygate.config.problems import Problems, nearest
from tallygate.domain.declared import NAMES_MAX, TEXT_CHARS_MAX, is_text
from tallygate.domain.instants import INSTANT_MAX_MS, UNIT_MS, duration_text

T = TypeVar("T")

ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
DURATION: Final = re.compile(r"([1-9]\d{0,8})(ms|s|m|h|d)", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
EMPTY: Final = "must not be empty: leave it out if nothing is asked for"
SHOWN_CHARS_MAX: Final = 60  # of a wrong value, in a problem's text

_MAPPINGS: Final = (yaml.MappingNode, dict)
_KIND_OF_TYPE: Final[Mapping[type, str]] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    NoneType: "null",
    list: "seq",
    dict: "map",
}
_KINDS: Final = {"str": "text", "int": "an integer", "float": "a number", "bool": "true or false", "null": "nothing"}


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a value: file and line, and its path from the item it belongs to ("rate_limits[1].requests")."""

    file: str
    line: int
    path: str
    problems: Problems

    def at(self, value: object, path: str | None = None) -> "Place":
        line = value.start_mark.line + 1 if isinstance(value, yaml.Node) else self.line
        return Place(self.file, line, self.path if path is None else path, self.problems)

    def problem(self, text: str) -> None:
        self.problems.add(self.file, self.line, f"{self.path} {text}" if self.path else text, path=self.path)


class Section:
    """A mapping being parsed. Each reader reads one key; `close` reports keys that were not read.

    A reader returns its default if the key is absent or wrong; wrong values are problems, so the default never goes live.
    """

    def __init__(self, place: Place, mapping: yaml.MappingNode | Mapping[str, object]) -> None:
        self.place = place
        self._values: Mapping[str, object] = mapping if isinstance(mapping, dict) else {}
        self._keys: Mapping[str, object] = self._values
        self._keys_read: set[str] = set()
        if isinstance(mapping, yaml.MappingNode):
            self._index(mapping)

    def _index(self, mapping: yaml.MappingNode) -> None:
        values: dict[str, object] = {}
        keys: dict[str, object] = {}
        self._values, self._keys = values, keys
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                self.place.at(key).problem("has a key that is not text")
            elif key.value in values:
                self.place.at(key, self._path(key.value)).problem(f"is given twice (first on line {self._line(key.value)})")
            else:
                values[key.value] = value
                keys[key.value] = key

    def _path(self, key: str) -> str:
        return f"{self.place.path}.{key}" if self.place.path else key

    def _line(self, key: str) -> int:
        return self.place.at(self._keys[key]).line

    def place_of(self, key: str) -> Place:
        """The place of `key`, or of the section itself if it is absent."""
        return self.place.at(self._values[key], self._path(key)) if key in self._values else self.place

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def has(self, key: str) -> bool:
        """Return whether the key is there. It is a known key either way."""
        self._keys_read.add(key)
        return key in self._values

    def node_of(self, key: str) -> yaml.Node | None:
        """The unparsed value of `key`."""
        node = self._values.get(key)
        return node if isinstance(node, yaml.Node) else None

    def is_mapping(self, key: str) -> bool:
        return isinstance(self._values.get(key), _MAPPINGS)

    def is_empty(self, key: str) -> bool:
        """Return whether the value of `key` is a list without items."""
        return key in self._values and _items_of(self._values[key]) == []

    def keys(self) -> Collection[str]:
        return self._values.keys()

    def close(self, *, also: Collection[str] = ()) -> None:
        """Report unknown keys. also: keys that are allowed although they were not read this time."""
        known = self._keys_read.union(also)
        for key, node in self._keys.items():
            if key not in known:
                hint = nearest(key, known)
                self.place.at(node, self._path(key)).problem(f"is not a known key{hint}")

    def _scalar(self, key: str, kind: str) -> str | None:
        """The text of the single value at `key` if its YAML type is `kind` (str, int, bool ...); None if absent or a problem."""
        self._keys_read.add(key)
        if key not in self._values:
            return None
        value = self._values[key]
        found = _kind(value)
        if found == kind and _is_single(value):
            return _text(value)
        got = show(_text(value)) if _is_single(value) else {"seq": "a list", "map": "a mapping"}.get(found, found)
        self.place_of(key).problem(f"must be {_KINDS[kind]}, got {got}")
        return None

    def require(self, *keys: str) -> bool:
        """Return whether all keys are present; each missing one is a problem of the section itself."""
        missing = [key for key in keys if key not in self._values]
        self._keys_read.update(keys)
        for key in missing:
            text = f"{self.place.path} has no `{key}`" if self.place.path else f"has no `{key}`"
            self.place.problems.add(self.place.file, self.place.line, text, path=self._path(key))
        return not missing

    def parsed(self, key: str, parse: Callable[[str], T]) -> T | None:
        """Text parsed by `parse`, whose ValueError becomes the problem."""
        text = self._scalar(key, "str")
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return None

    def plain(self, key: str) -> str | None:
        """A scalar's text, whatever its YAML type (a date, a number), for values with a grammar of their own."""
        self._keys_read.add(key)
        if key not in self._values:
            return None
        value = self._values[key]
        if _is_single(value):
            return _text(value)
        self.place_of(key).problem("must be a single value")
        return None

    def text(self, key: str, default: str = "", *, chars_max: int = TEXT_CHARS_MAX) -> str:
        def parse(value: str) -> str:
            if not is_text(value, chars_max):
                raise ValueError(f"must be 1 to {chars_max} printable characters, got {show(value)}")
            return value

        value = self.parsed(key, parse)
        return default if value is None else value

    def identifier(self, key: str) -> str | None:
        """An id: it becomes part of Redis keys and a metric label, hence the narrow alphabet."""
        text = self.plain(key)  # an id of digits only is still an id
        try:
            return None if text is None else identifier(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return None

    def choice(self, key: str, options: Collection[str], default: str = "") -> str:
        def parse(value: str) -> str:
            if value not in options:
                raise ValueError(f"must be one of {', '.join(options)}, got {show(value)}")
            return value

        value = self.parsed(key, parse)
        return default if value is None else value

    def integer(self, key: str, default: int = 0, *, minimum: int, maximum: int) -> int:
        text = self._scalar(key, "int")
        if text is None:
            return default
        if not _INTEGER.fullmatch(text):  # YAML also reads 0x10, 1_000 and, before 1.2, 010 as eight
            self.place_of(key).problem(f"must be a plain decimal integer, got {show(text)}")
            return default
        value = int(text)
        if value < minimum:
            self.place_of(key).problem(f"must be at least {minimum}, got {value}")
            return default
        if value > maximum:
            self.place_of(key).problem(f"must be at most {maximum}, got {value}")
            return default
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        text = self._scalar(key, "bool")
        if text is None:
            return default
        value = text.lower()
        if value not in ("true", "false"):  # YAML 1.1 also takes yes, no, on and off
            self.place_of(key).problem(f"must be true or false, got {show(value)}")
            return default
        return value == "true"

    def duration_ms(
        self, key: str, default: int, *, minimum: int = 1, maximum: int = 366 * 86_400_000, step: int = 1, zero: str = ""
    ) -> int:
        """A duration such as `1m` or `7d`, in milliseconds, a multiple of step. zero: a word for 0."""
        text = self.plain(key)
        if text is None:
            return default
        if zero and text == zero:
            return 0
        try:
            value = duration_ms(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return default
        if not minimum <= value <= maximum:
            self.place_of(key).problem(f"must be between {duration_text(minimum)} and {duration_text(maximum)}, got {text}")
            return default
        if value % step:
            self.place_of(key).problem(f"must be {f'`{zero}` or ' if zero else ''}a multiple of {duration_text(step)}")
            return default
        return value

    def instant_ms(self, key: str) -> int | None:
        """A date (midnight UTC at its start) or an RFC 3339 instant with its offset, in Unix milliseconds."""
        text = self.plain(key)
        if text is None:
            return None
        try:
            return instant_ms(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return None

    def money(self, key: str, parse: Callable[[str], int]) -> int | None:
        """USD as a quoted decimal, parsed by `parse`. YAML numbers are refused, since 0.1 would become a float."""
        self._keys_read.add(key)
        value = self._values.get(key)
        if _kind(value) in ("int", "float") and _is_single(value):
            self.place_of(key).problem(f'must be quoted, so that it stays exact: "{show(_text(value)).strip(chr(39))}"')
            return None
        return self.parsed(key, parse)

    def section(self, key: str) -> "Section | None":
        self._keys_read.add(key)
        if key not in self._values:
            return None
        value = self._values[key]
        if not isinstance(value, _MAPPINGS):
            self.place_of(key).problem("must be a mapping")
            return None
        return Section(self.place_of(key), value)

    def _items(self, key: str, items_max: int) -> Iterator[tuple[Place, object]]:
        self._keys_read.add(key)
        if key not in self._values:
            return
        items, place = _items_of(self._values[key]), self.place_of(key)
        if items is None:
            place.problem("must be a list")
            return
        if len(items) > items_max:
            place.problem(f"must have at most {items_max} entries, got {len(items)}")
            return
        for index, item in enumerate(items):
            yield self.place.at(item, f"{self._path(key)}[{index}]"), item

    def sections(self, key: str, *, items_max: int = 10_000) -> Iterator["Section"]:
        """The mappings of a list. The caller closes each."""
        for place, node in self._items(key, items_max):
            if isinstance(node, _MAPPINGS):
                yield Section(place, node)
            else:
                place.problem("must be a mapping")

    def named_sections(self, key: str, *, is_path_kept: bool = True) -> Iterator[tuple[str, "Section"]]:
        """The mappings of a mapping, with their names, which must be ids. is_path_kept False: paths inside start anew."""
        outer = self.section(key)
        if outer is None:
            return
        for name, node in outer._values.items():  # noqa: SLF001  # a section of its own
            place = outer.place.at(outer._keys[name], outer._path(name))  # noqa: SLF001
            if not is_identifier(name):
                place.problem("must be named with 1 to 64 of A-Z a-z 0-9 . _ -")
            elif not isinstance(node, _MAPPINGS):
                place.problem("must be a mapping")
            else:
                yield name, Section(place if is_path_kept else replace(place, path=""), node)

    def scalars(self, key: str, *, items_max: int = NAMES_MAX, may_be_empty: bool = True) -> list[tuple[Place, str]] | None:
        """The single values of a list, as text; None if the key is absent.

        may_be_empty   False for restrictions: a template without values leaves an empty list
        """
        if key not in self._values:
            self._keys_read.add(key)
            return None
        if not may_be_empty and self.is_empty(key):
            self.place_of(key).problem(EMPTY)
        found = []
        for place, item in self._items(key, items_max):
            if _is_single(item):
                found.append((place, _text(item)))
            else:
                place.problem("must be a single value")
        return found


def _items_of(value: object) -> list[object] | None:
    items = value.value if isinstance(value, yaml.SequenceNode) else value
    return items if isinstance(items, list) else None


def _is_single(value: object) -> bool:
    return isinstance(value, yaml.ScalarNode) if isinstance(value, yaml.Node) else not isinstance(value, dict | list)


def _kind(value: object) -> str:
    """A node's type as YAML names it: str, int, float, bool, null, seq, map, or a tag of the file's own."""
    return str(value.tag).rpartition(":")[2] if isinstance(value, yaml.Node) else _KIND_OF_TYPE.get(type(value), "str")


def _text(value: object) -> str:
    """A single value as written in the file, or as YAML would write it."""
    if isinstance(value, yaml.Node):
        return str(value.value)
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def show(value: str) -> str:
    """A wrong value as a problem shows it: cut, escaped, quoted."""
    return ascii(value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "...")


def is_identifier(text: str) -> bool:
    return ID.fullmatch(text) is not None


def identifier(text: str) -> str:
    """Raises ValueError."""
    if not is_identifier(text):
        raise ValueError(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {show(text)}")
    return text


def instant_ms(text: str) -> int:
    """Unix milliseconds of "2026-01-31" (midnight UTC at its start) or "2026-01-31T12:00:00Z". Raises ValueError."""
    try:
        instant = datetime.fromisoformat(f"{text}T00:00:00+00:00" if _DATE.fullmatch(text) else text)
        at_ms = (instant - _EPOCH) // timedelta(milliseconds=1) if instant.tzinfo else -1
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms <= INSTANT_MAX_MS:
        raise ValueError(f"must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z, got {show(text)}")
    return at_ms


def duration_ms(text: str) -> int:
    """Milliseconds of "500ms", "30s", "1m", "12h" or "7d". Raises ValueError."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a whole number with a unit, such as 30s, 1m, 1h or 7d, got {show(text)}")
    return int(match[1]) * UNIT_MS[match[2]]
