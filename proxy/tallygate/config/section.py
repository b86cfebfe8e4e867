"""Typed reading of one YAML mapping: every mistake becomes a problem with its line, and reading goes on."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import yaml

from tallygate.config.problems import Problems, nearest
from tallygate.domain.declared import TEXT_CHARS_MAX, is_text

T = TypeVar("T")

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_DURATION: Final = re.compile(r"([1-9]\d{0,8})(ms|s|m|h|d)", re.ASCII)
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
EMPTY: Final = "must not be empty: leave it out if nothing is asked for"
SHOWN_CHARS_MAX: Final = 60  # of a wrong value, in a problem's text

_KINDS: Final = {"str": "text", "int": "an integer", "float": "a number", "bool": "true or false", "null": "nothing"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: file and line, and its path from the item it belongs to ("rate_limits[1].requests")."""

    file: str
    line: int
    path: str
    problems: Problems

    def at(self, node: yaml.Node, path: str | None = None) -> "Place":
        return Place(self.file, node.start_mark.line + 1, self.path if path is None else path, self.problems)

    def problem(self, text: str) -> None:
        self.problems.add(self.file, self.line, f"{self.path} {text}" if self.path else text, path=self.path)


class Section:
    """A mapping being read. Each reader takes one key; `close` reports the keys that nobody took.

    A reader returns its default where the key is absent or wrong; wrong values are problems, so the default never goes live.
    """

    def __init__(self, place: Place, node: yaml.MappingNode) -> None:
        self.place = place
        self._values: dict[str, yaml.Node] = {}
        self._keys: dict[str, yaml.Node] = {}
        self._taken: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                place.at(key).problem("has a key that is not text")
            elif key.value in self._values:
                place.at(key, self._path(key.value)).problem(f"is given twice (first on line {self._line(key.value)})")
            else:
                self._values[key.value] = value
                self._keys[key.value] = key

    def _path(self, key: str) -> str:
        return f"{self.place.path}.{key}" if self.place.path else key

    def _line(self, key: str) -> int:
        return int(self._keys[key].start_mark.line) + 1

    def place_of(self, key: str) -> Place:
        """Where `key` stands, or the section itself where it is absent."""
        node = self._values.get(key)
        return self.place if node is None else self.place.at(node, self._path(key))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def node_of(self, key: str) -> yaml.Node | None:
        """What stands at `key`, unread."""
        return self._values.get(key)

    def is_mapping(self, key: str) -> bool:
        return isinstance(self._values.get(key), yaml.MappingNode)

    def keys(self) -> Collection[str]:
        return self._values.keys()

    def close(self, *, also: Collection[str] = ()) -> None:
        """Report unknown keys. also: keys that are allowed though nobody asked for them this time."""
        known = self._taken.union(also)
        for key, node in self._keys.items():
            if key not in known:
                hint = nearest(key, known)
                self.place.at(node, self._path(key)).problem(f"is not a known key{hint}")

    def _scalar(self, key: str, kind: str) -> yaml.ScalarNode | None:
        """The scalar at `key` if its YAML type is `kind` (str, int, bool ...); None if absent or a problem."""
        self._taken.add(key)
        node = self._values.get(key)
        if node is None:
            return None
        found = node.tag.rpartition(":")[2]
        if isinstance(node, yaml.ScalarNode) and found == kind:
            return node
        got = show(node.value) if isinstance(node, yaml.ScalarNode) else {"seq": "a list", "map": "a mapping"}.get(found, found)
        self.place_of(key).problem(f"must be {_KINDS[kind]}, got {got}")
        return None

    def require(self, *keys: str) -> bool:
        """Whether all keys are present; each missing one is a problem of the section itself."""
        missing = [key for key in keys if key not in self._values]
        self._taken.update(keys)
        for key in missing:
            text = f"{self.place.path} has no `{key}`" if self.place.path else f"has no `{key}`"
            self.place.problems.add(self.place.file, self.place.line, text, path=self._path(key))
        return not missing

    def parsed(self, key: str, parse: Callable[[str], T]) -> T | None:
        """Text that `parse` understands; its ValueError becomes the problem."""
        node = self._scalar(key, "str")
        if node is None:
            return None
        try:
            return parse(node.value)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return None

    def plain(self, key: str) -> str | None:
        """A scalar's text whatever YAML makes of it (a date, a number): for values with a grammar of their own."""
        self._taken.add(key)
        node = self._values.get(key)
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        if node is not None:
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
        if text is None or is_identifier(text):
            return text
        self.place_of(key).problem(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {show(text)}")
        return None

    def choice(self, key: str, options: Collection[str], default: str = "") -> str:
        def parse(value: str) -> str:
            if value not in options:
                raise ValueError(f"must be one of {', '.join(options)}, got {show(value)}")
            return value

        value = self.parsed(key, parse)
        return default if value is None else value

    def integer(self, key: str, default: int = 0, *, minimum: int, maximum: int) -> int:
        node = self._scalar(key, "int")
        if node is None:
            return default
        if not _INTEGER.fullmatch(node.value):  # YAML also reads 0x10, 1_000 and, before 1.2, 010 as eight
            self.place_of(key).problem(f"must be a plain decimal integer, got {show(node.value)}")
            return default
        value = int(node.value)
        if value < minimum:
            self.place_of(key).problem(f"must be at least {minimum}, got {value}")
            return default
        if value > maximum:
            self.place_of(key).problem(f"must be at most {maximum}, got {value}")
            return default
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        node = self._scalar(key, "bool")
        if node is None:
            return default
        value: str = node.value.lower()
        if value not in ("true", "false"):  # YAML 1.1 also takes yes, no, on and off
            self.place_of(key).problem(f"must be true or false, got {show(value)}")
            return default
        return value == "true"

    def duration_ms(self, key: str, default: int, *, minimum: int = 1, maximum: int = 366 * 86_400_000) -> int:
        """A length of time such as `1m` or `7d`, in milliseconds."""
        text = self.plain(key)
        if text is None:
            return default
        try:
            value = duration_ms(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return default
        if not minimum <= value <= maximum:
            self.place_of(key).problem(f"must be between {duration_text(minimum)} and {duration_text(maximum)}, got {text}")
            return default
        return value

    def instant_ms(self, key: str) -> int | None:
        """A date (its midnight, UTC) or an RFC 3339 instant with its offset, in Unix milliseconds."""
        text = self.plain(key)
        if text is None:
            return None
        try:
            return instant_ms(text)
        except ValueError as error:
            self.place_of(key).problem(str(error))
            return None

    def money(self, key: str, parse: Callable[[str], int]) -> int | None:
        """USD as a quoted decimal, read by `parse`. YAML numbers are refused: 0.1 would pass through a float somewhere."""
        self._taken.add(key)
        node = self._values.get(key)
        if isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("int", "float"):
            self.place_of(key).problem(f'must be quoted, so that it stays exact: "{show(node.value).strip(chr(39))}"')
            return None
        return self.parsed(key, parse)

    def section(self, key: str) -> "Section | None":
        self._taken.add(key)
        node = self._values.get(key)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            self.place_of(key).problem("must be a mapping")
            return None
        return Section(self.place_of(key), node)

    def _items(self, key: str, items_max: int) -> Iterator[tuple[Place, yaml.Node]]:
        self._taken.add(key)
        node = self._values.get(key)
        if node is None:
            return
        place = self.place_of(key)
        if not isinstance(node, yaml.SequenceNode):
            place.problem("must be a list")
            return
        if len(node.value) > items_max:
            place.problem(f"must have at most {items_max} entries, got {len(node.value)}")
            return
        for index, item in enumerate(node.value):
            yield self.place.at(item, f"{self._path(key)}[{index}]"), item

    def sections(self, key: str, *, items_max: int = 10_000) -> Iterator["Section"]:
        """The mappings of a list. Closing each is the reader's part."""
        for place, node in self._items(key, items_max):
            if isinstance(node, yaml.MappingNode):
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
            elif not isinstance(node, yaml.MappingNode):
                place.problem("must be a mapping")
            else:
                yield name, Section(place if is_path_kept else replace(place, path=""), node)

    def scalars(self, key: str, *, items_max: int = 1_000, may_be_empty: bool = True) -> list[tuple[Place, str]] | None:
        """The single values of a list, as text; None where the key is absent.

        may_be_empty   False for what restricts: an empty list is what a template leaves that had nothing to fill in
        """
        if key not in self._values:
            self._taken.add(key)
            return None
        node = self._values[key]
        if not may_be_empty and isinstance(node, yaml.SequenceNode) and not node.value:
            self.place_of(key).problem(EMPTY)
        found = []
        for place, node in self._items(key, items_max):
            if isinstance(node, yaml.ScalarNode):
                found.append((place, str(node.value)))
            else:
                place.problem("must be a single value")
        return found


def show(value: str) -> str:
    """A wrong value as a problem shows it: cut, escaped, quoted."""
    return ascii(value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "...")


def is_identifier(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def instant_ms(text: str) -> int:
    """Unix milliseconds of "2026-01-31" (its midnight, UTC) or "2026-01-31T12:00:00Z". Raises ValueError."""
    try:
        instant = datetime.fromisoformat(f"{text}T00:00:00+00:00" if _DATE.fullmatch(text) else text)
        since_epoch = instant - _EPOCH if instant.tzinfo else timedelta(-1)
    except (ValueError, OverflowError):
        since_epoch = timedelta(-1)
    if since_epoch < timedelta(0):
        raise ValueError(f"must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z, got {show(text)}")
    return since_epoch // timedelta(milliseconds=1)


def duration_ms(text: str) -> int:
    """Milliseconds of "500ms", "30s", "1m", "12h" or "7d". Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a whole number with a unit, such as 30s, 1m, 1h or 7d, got {show(text)}")
    return int(match[1]) * _UNIT_MS[match[2]]


def duration_text(milliseconds: int) -> str:
    """The shortest way to write a length of time: 60000 is "1m"."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds % _UNIT_MS[unit] == 0 and milliseconds:
            return f"{milliseconds // _UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms"
