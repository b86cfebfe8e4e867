"""Parsing of a list of callers' existing keys (CSV or JSON Lines). No message repeats a value, since it may be a key."""

import csv
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import msgspec

from tallygate.config.directory import ISSUED_PREFIXES, KEY_CHARS_MAX
from tallygate.config.organizations import is_digest
from tallygate.config.problems import Problems, nearest
from tallygate.config.section import instant_ms, is_identifier
from tallygate.domain.declared import CapabilitySet, Declared, Flag, Instant, Kind, ModelPatterns, Text, is_text
from tallygate.domain.model_patterns import MODEL_PATTERN
from tallygate.domain.organization import CREDENTIAL_FIELDS
from tallygate.ledger.directory.records import StoredCredential

ROWS_MAX: Final = 250_000  # of one list, kept in memory, some 600 bytes each
LINE_BYTES_MAX: Final = 64 * 1024
PLAIN_KEY_CHARS_MIN: Final = 16  # a shorter one could be guessed from its digest
DIGEST, PLAIN_KEY = "key_sha256", "key"
IMPORTED_FIELDS: Final = tuple(declared for declared in CREDENTIAL_FIELDS if not isinstance(declared.kind, Flag))
COLUMNS: Final = ("org", "id", DIGEST, PLAIN_KEY, *(declared.key for declared in IMPORTED_FIELDS))
_BETWEEN: Final = re.compile(r"[\s,;]+")
_BEGINS_AS_KEYS: Final = re.compile(r"(?:(?:sk|rk|gsk|tga?)[-_]|eyJ|AIza)\S{12}")  # of providers, and ours
_NO_LIMITS: Final[Mapping[str, Any]] = {}
_Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedKey:
    """A row as the credential that it describes. line: where it ends in the list."""

    line: int
    credential: StoredCredential


class _WrongError(Exception):
    """A fault of a row, without its values."""


def read_credential_rows(
    file: BinaryIO, *, named: str, hashes_keys: bool, capabilities: Collection[str], problems: Problems
) -> list[ImportedKey]:
    """Parse the list's rows; problems are reported to `problems` as "file:line: what".

    named         the file's name in messages
    hashes_keys   the list has the keys themselves in a column `key`, of which only digests are kept
    capabilities  those of the routes
    """
    reader = _Reader(named, problems, hashes_keys=hashes_keys, capabilities=capabilities)
    found: list[ImportedKey] = []
    try:
        for line, row in _rows(file, problems, named):
            if len(found) >= ROWS_MAX:
                problems.add(named, line, f"a list has at most {ROWS_MAX:,} rows: split it")
                break
            key = reader.parse(line, row)
            if key is not None:
                found.append(key)
    except _WrongError as error:
        problems.add(named, reader.line, str(error))
    return found


class _Reader:
    """Tracks the lines of Client IDs and digests, each of which may occur once, and the lists that many rows share."""

    def __init__(self, named: str, problems: Problems, *, hashes_keys: bool, capabilities: Collection[str]) -> None:
        self._named, self._problems = named, problems
        self._hashes_keys, self._capabilities = hashes_keys, capabilities
        self._ids: dict[str, int] = {}
        self._digests: dict[str, int] = {}
        self._shared: dict[Collection[str], Collection[str]] = {}
        self.line = 1

    def parse(self, line: int, row: _Row) -> ImportedKey | None:
        self.line = line
        try:
            return ImportedKey(line=line, credential=self._credential(row))
        except _WrongError as error:
            self._problems.add(self._named, line, str(error))
            return None

    def _credential(self, row: _Row) -> StoredCredential:
        org, client_id = _text(row, "org"), _text(row, "id")
        for name, value in (("org", org), ("id", client_id)):
            if not is_identifier(value):
                raise _WrongError(f"{name} must be 1 to 64 of A-Z a-z 0-9 . _ -")
        digest = self._digest(row)
        values = {declared.attribute: self._field(row, declared) for declared in IMPORTED_FIELDS}
        shown = (client_id, *(text for value in values.values() for text in _texts(value)))
        if digest in {_sha256(value) for value in shown} or any(_BEGINS_AS_KEYS.match(value) for value in shown):
            raise _WrongError("has its key, or what looks like one, in another column, where it would be seen by everybody")
        for what, seen, value in (("id", self._ids, client_id), ("key", self._digests, digest)):
            if value in seen:
                raise _WrongError(f"its {what} stands on line {seen[value]} already")
            seen[value] = self.line
        return StoredCredential(
            id=client_id,
            org=org,
            key_sha256=digest,
            **values,
            limits=_NO_LIMITS,
        )

    def _digest(self, row: _Row) -> str:
        key, digest = _text(row, PLAIN_KEY), _text(row, DIGEST)
        if self._hashes_keys:
            if digest or not key:
                raise _WrongError(f"must have its key in the column `{PLAIN_KEY}`, and no {DIGEST}")
            if not PLAIN_KEY_CHARS_MIN <= len(key) <= KEY_CHARS_MAX or not key.isascii() or not key.isprintable() or " " in key:
                raise _WrongError(
                    f"its key must be {PLAIN_KEY_CHARS_MIN} to {KEY_CHARS_MAX} printable characters of ASCII without spaces, "
                    "as a header can hold it"
                )
            if key.startswith(ISSUED_PREFIXES):
                raise _WrongError("its key begins as those that tallygate makes, which never go to an upstream")
            return _sha256(key)
        if key:
            raise _WrongError(f"has a key in the column `{PLAIN_KEY}`: --plain-keys hashes them, or give {DIGEST} in its place")
        if not is_digest(digest.lower()):
            raise _WrongError(f"{DIGEST} must be the 64 hex digits of the SHA-256 digest of a key, hashed without a line end")
        return digest.lower()

    def _field(self, row: _Row, declared: Declared) -> Any:
        match declared.kind:
            case Text(chars_max=chars_max):
                text = _text(row, declared.key)
                if text and not is_text(text, chars_max):
                    raise _WrongError(f"{declared.key} must be printable, at most {chars_max} characters")
                return text
            case Instant():
                return _instant(row, declared.key)
            case _:
                return self._names(row, declared.key, declared.kind)

    def _names(self, row: _Row, column: str, kind: Kind) -> Collection[str] | None:
        value = row.get(column)
        if value is None or value == "":
            return None
        items = [item for item in _BETWEEN.split(value) if item] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
            raise _WrongError(f"{column} must be some names, or be left out for all")
        for item in items:
            if isinstance(kind, ModelPatterns) and MODEL_PATTERN.fullmatch(item) is None:
                raise _WrongError(f"{column} must be names of models, or the starts of some followed by *")
            if isinstance(kind, CapabilitySet) and item not in self._capabilities:
                raise _WrongError(f"{column} has one that no route has{nearest(item, self._capabilities)}")
        names: Collection[str] = frozenset(items) if isinstance(kind, CapabilitySet) else tuple(items)
        return self._shared.setdefault(names, names)


def _rows(file: BinaryIO, problems: Problems, named: str) -> Iterator[tuple[int, _Row]]:
    """Parse JSON Lines if the first line begins with a brace, which no header does; else CSV. Raises _WrongError."""
    lines = _lines(file)
    first = next(lines, "")
    if first.lstrip().startswith("{"):
        return _json_rows(first, lines, problems, named)
    return _csv_rows(first, lines, problems, named)


def _lines(file: BinaryIO) -> Iterator[str]:
    """Decode lines; invalid UTF-8 becomes surrogates, which no value may have. Raises _WrongError for a line that is too long."""
    number, start = 0, b"\xef\xbb\xbf"  # the mark that spreadsheets write
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise _WrongError(f"a line after line {number - 1} is longer than {LINE_BYTES_MAX:,} bytes")
        yield line.removeprefix(start).decode("utf-8", "surrogateescape")
        start = b""


def _json_rows(first: str, lines: Iterator[str], problems: Problems, named: str) -> Iterator[tuple[int, _Row]]:
    number = 0
    for line in (text for part in ([first], lines) for text in part):
        number += 1
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line.encode("utf-8", "surrogateescape"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            problems.add(named, number, "is not a JSON object")
        elif wrong := next((name for name in row if name not in COLUMNS), None):
            problems.add(named, number, f"has a member that is none{nearest(wrong, COLUMNS)}")
        else:
            yield number, row


def _csv_rows(first: str, lines: Iterator[str], problems: Problems, named: str) -> Iterator[tuple[int, _Row]]:
    reader = csv.reader((text for part in ([first], lines) for text in part), strict=True)
    header: Sequence[str] | None = None
    try:
        for values in reader:
            if header is None:
                header = _header(values)
            elif not values:
                continue
            elif len(values) != len(header):
                problems.add(named, reader.line_num, f"has {len(values)} values, the first line names {len(header)} columns")
            else:
                yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error:  # its text may quote a value
        problems.add(named, reader.line_num, "is no CSV: is a quotation mark never closed?")


def _header(values: Sequence[str]) -> Sequence[str]:
    names = [value.strip() for value in values]
    for number, name in enumerate(names, 1):
        if name not in COLUMNS:
            raise _WrongError(f"must name the columns: the {number}. is none{nearest(name, COLUMNS)}")
    if len(set(names)) < len(names):
        raise _WrongError("names a column twice")
    if not {"org", "id"} <= set(names):
        raise _WrongError(f"must name the columns: org, id and {DIGEST}, and what else there is")
    return names


def _text(row: _Row, column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _WrongError(f"{column} must be text")
    return value.strip()


def _texts(value: Any) -> Collection[str]:
    """The texts of a field's value."""
    return (value,) if isinstance(value, str) else value if isinstance(value, Collection) else ()


def _instant(row: _Row, column: str) -> int | None:
    text = _text(row, column)
    try:
        return instant_ms(text) if text else None
    except ValueError:
        raise _WrongError(f"{column} must be a date such as 2027-12-31, or a time such as 2027-12-31T12:00:00Z") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
