"""Strict parsing of request bodies, and edits that leave every other byte alone.

The upstream must read the same body that is priced: a body that two parsers could read differently (a key twice, bytes that are
not UTF-8) is refused, not guessed at.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from tallygate.domain.errors import RequestRejectedError

DEPTH_MAX: Final = 64  # nested objects and arrays
# Members, elements, objects and arrays. A block of a conversation has three to ten of them, so an agent's session of 20,000
# blocks fits. That many are parsed in some tenths of a second, in steps that never delay other threads for long.
ENTRIES_MAX: Final = 200_000
# If token ids are allowed. OpenAI, "Create embeddings": at most 2,048 inputs, and 300,000 tokens in all of them.
TOKEN_IDS_ENTRIES_MAX: Final = 310_000

SLICE_BYTES: Final = 262_144

_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END, _QUOTE, _COLON, _BACKSLASH = b'{}[]":\\'
_BEGINS: Final = frozenset({_OBJECT, _ARRAY})
_ENDS: Final = frozenset({_OBJECT_END, _ARRAY_END})
# Of valid JSON, bared: every key with its colon, every other string, every bracket. Everything between is skipped at once.
_TOKEN: Final = re.compile(rb'[^"{}\[\]]*+([{}\[\]]|"[^"]*+"(?::|[ \t\r\n]++:)?)')
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(rb'"[^"]*+"|[^,\]}\s]++')
Shape = TypeVar("Shape")

_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


@dataclass(frozen=True, slots=True)
class ParsedBody(Generic[Shape]):
    """A body that passed every check of form.

    fields       the members that the decoder's type declares
    keys         the names of its own members; `keys_anywhere`: of all members at any depth; each as `"name":`, unescaped
    """

    raw: bytes
    fields: Shape
    keys: frozenset[bytes]
    keys_anywhere: frozenset[bytes]

    def decoded(self) -> dict[str, Any]:
        """Decode all members: a second parse, for bodies with members that `fields` does not have."""
        whole: dict[str, Any] = msgspec.json.decode(self.raw)
        return whole

    def decoded_if_unknown(self, known: frozenset[bytes]) -> dict[str, Any]:
        """Decode all members if any is not among `known`; otherwise return {} and avoid the second parse."""
        return {} if self.keys <= known else self.decoded()


def keys_of(names: Iterable[str]) -> frozenset[bytes]:
    """Convert names to the form of `ParsedBody.keys`."""
    return frozenset(f'"{name}":'.encode() for name in names)


def parse_body(body: bytes, decoder: "msgspec.json.Decoder[Shape]", *, entries_max: int = ENTRIES_MAX) -> ParsedBody[Shape]:
    """Decode the JSON object of a request. Raises RequestRejectedError, which names the field at fault, if any.

    The decoder's type should be a Struct of the fields acted on, which are then checked strictly; the rest is checked for form.
    Structure is bounded before anything is decoded: many megabytes of commas are refused in milliseconds, as soon as they exceed
    the maximum.
    """
    bare = _bared(body) if len(body) <= entries_max else _bared_and_bounded(body, entries_max)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise RequestRejectedError(f"The request body is not valid UTF-8 (byte {error.start}).") from error
    try:
        shape = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _rejected(error) from error
    except msgspec.DecodeError as error:
        raise RequestRejectedError(f"The request body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise _too_deep() from error
    keys, keys_anywhere = _check_structure(bare)
    return ParsedBody(body, shape, keys, keys_anywhere)


def _bared(body: bytes) -> bytes:
    r"""The same JSON, byte for byte in place, in which every quote begins or ends a string.

    Escaped backslashes and quotes become `\B` and `\Q`, which JSON does not have, so `_unbared` finds them again.
    """
    return b"".join(map(_bared_slice, _slices(body))) if b"\\" in body else body


def _bared_slice(piece: bytes) -> bytes:
    return piece.replace(rb"\\", rb"\B").replace(rb"\"", rb"\Q")


def _slices(body: bytes) -> Iterator[bytes]:
    """Cut the body into pieces of some milliseconds' work, between which other threads can run.

    No piece ends within an escape: each takes an even number of a run of backslashes.
    """
    start = 0
    while start < len(body):
        piece = body[start : start + SLICE_BYTES]
        if piece[-1] == _BACKSLASH and len(body) > start + SLICE_BYTES and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = piece[:-1]
        yield piece
        start += len(piece)


def _unbared(bare: bytes) -> bytes:
    return bare.replace(rb"\Q", rb"\"").replace(rb"\B", rb"\\")


def _bared_and_bounded(body: bytes, most: int) -> bytes:
    """The body bared. Refuses a body as soon as more than `most` entries are counted outside of strings."""
    has_escapes = b"\\" in body
    bared: list[bytes] = []
    entries = quotes = 0
    for piece in _slices(body):
        bare = _bared_slice(piece) if has_escapes else piece
        if has_escapes:
            bared.append(bare)
        before, quotes = quotes, quotes + bare.count(b'"')
        if quotes // 4 <= most:  # a member has at most two strings, of two quotes each
            outside = b"".join(bare.split(b'"')[before % 2 :: 2])
            entries += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        if max(entries, quotes // 4) > most:
            raise RequestRejectedError(
                f"The request body has more than {most} members and elements. Send fewer messages, parts or inputs in one request."
            )
    return b"".join(bared) if has_escapes else body


def _rejected(error: msgspec.ValidationError) -> RequestRejectedError:
    message = str(error)
    path = _PATH.search(message)
    if path is None or not path[1]:
        return RequestRejectedError(f"The request body must be a JSON object: {message}.")
    reason = message[: path.start()]
    return RequestRejectedError(f"Invalid value for '{path[1]}': {reason[:1].lower()}{reason[1:]}.", param=path[1])


def _too_deep() -> RequestRejectedError:
    return RequestRejectedError(f"The request body is nested deeper than {DEPTH_MAX} levels.")


def _check_structure(bare: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The keys of the outermost object, and of all objects. Refuses a key twice in one object, and nesting beyond DEPTH_MAX.

    `bare` must be valid JSON, bared.
    """
    bare = bare.rstrip()
    if bare[-1] not in _ENDS:  # a number or a string: the pattern would fail at each byte after the last token
        return frozenset(), frozenset()
    colon, quote, begins = _COLON, _QUOTE, _BEGINS  # read once: this loop is most of the cost of parsing a request
    outer: list[set[bytes]] = []
    keys: set[bytes] = set()
    closed: set[bytes] = keys
    anywhere: set[bytes] = set()
    for token in _TOKEN.findall(bare):
        last = token[-1]
        if last == colon:
            key = token if token[-2] == quote and b"\\" not in token else _key(token) + b":"
            if key in keys:
                name = key[1:-2].decode()
                raise RequestRejectedError(f"Duplicate key '{name}' in the request body.", param=name)
            keys.add(key)
        elif last in begins:
            outer.append(keys)
            if len(outer) > DEPTH_MAX:
                raise _too_deep()
            keys = set()
        elif last != quote:
            closed, keys = keys, outer.pop()
            anywhere |= closed
    return frozenset(closed), frozenset(anywhere)


def _key(token: bytes) -> bytes:
    """The key of a token that ends in a colon, quoted and unescaped. A lone surrogate keeps its escape."""
    key = token[:-1] if token[-2] == _QUOTE else token[:-1].rstrip()
    if b"\\" in key:
        try:
            return msgspec.json.encode(msgspec.json.decode(_unbared(key)))
        except msgspec.DecodeError:
            return key
    return key


def with_member(body: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """Set the member at `path` of `body` to the JSON text `value`, and leave every other byte as it is.

    body is a valid JSON object without duplicate keys (see parse_body). Objects missing on the way are created, even in place of
    a null. A new member is put first in its object, so that the rest keeps its order.
    """
    bare = _bared(body)
    start = _value_start(body, 0)
    for depth, key in enumerate(path):
        if body[start] != _OBJECT:  # null instead of an object
            return body[:start] + _nested(path[depth:], value) + body[_value_end(bare, start) :]
        found = _find_member(bare, start, key)
        if found < 0:
            is_empty = body[_value_start(body, start + 1)] == _OBJECT_END
            member = _nested(path[depth:], value)[1:-1]
            return body[: start + 1] + member + (b"" if is_empty else b",") + body[start + 1 :]
        start = found
    return body[:start] + value + body[_value_end(bare, start) :]


def member_start(body: bytes, key: str) -> int:
    """The start of the value of the top-level member `key` in the JSON object `body`; -1 if there is none."""
    start = _value_start(body, 0)
    return _find_member(_bared(body), start, key) if body[start : start + 1] == b"{" else -1


def _nested(path: tuple[str, ...], value: bytes) -> bytes:
    for key in reversed(path):
        value = b"{" + msgspec.json.encode(key) + b":" + value + b"}"
    return value


def _value_start(body: bytes, position: int) -> int:
    match = _SPACE.match(body, position)
    return position if match is None else match.end()


def _value_end(bare: bytes, start: int) -> int:
    if bare[start] not in (_OBJECT, _ARRAY):
        scalar = _SCALAR.match(bare, start)
        return start if scalar is None else scalar.end()
    depth = 0
    for token in _TOKEN.finditer(bare, start):
        last = bare[token.end() - 1]
        if last in (_OBJECT, _ARRAY):
            depth += 1
        elif last in (_OBJECT_END, _ARRAY_END):
            depth -= 1
            if depth == 0:
                return token.end()
    return len(bare)


def _find_member(bare: bytes, start: int, key: str) -> int:
    """The start of the value of `key` in the object that begins at `start`; -1 if there is no such member."""
    wanted = msgspec.json.encode(key)
    if _bared(wanted) not in bare and b"\\u" not in bare:  # the usual case, without a walk
        return -1
    depth = 0
    for token in _TOKEN.finditer(bare, start):
        last = bare[token.end() - 1]
        if last in (_OBJECT, _ARRAY):
            depth += 1
        elif last in (_OBJECT_END, _ARRAY_END):
            depth -= 1
            if depth == 0:
                return -1
        elif depth == 1 and last == _COLON and _key(token[1]) == wanted:
            return _value_start(bare, token.end())
    return -1
