"""Incremental parsing of the JSON objects in a response body: one object, an array of them, or several in a row.

Gemini streams an array in pieces unless asked for events, and an ordinary answer is one object: this module reads both.
"""

import re
from typing import Final

OBJECT_BYTES_MAX: Final = 16 * 1024 * 1024  # of one object (answers may have images as base64); a longer object is given up

_QUOTE: Final = b'"'[0]
_OPEN: Final = b"{"[0]
_CLOSE: Final = b"}"[0]
_ARRAY_END: Final = b"]"[0]
_STRING_REST: Final = rb"(?:[^\"\\]++|\\.)*+"
# Text up to the next bracket. It ends before a string that is cut off.
_PLAIN_OUTSIDE: Final = re.compile(rb"(?:[^\"{}\[\]]++|\"" + _STRING_REST + rb"\")*+", re.DOTALL)
_PLAIN_INSIDE: Final = re.compile(rb"(?:[^\"{}]++|\"" + _STRING_REST + rb"\")*+", re.DOTALL)
_REST_OF_STRING: Final = re.compile(_STRING_REST, re.DOTALL)


class JsonObjects:
    """Cuts a body into its outermost objects, inside arrays or not. Split at any byte, the objects are the same.

    Only quotes and brackets are examined: a returned object is complete, but may still be malformed.

    is_closed   the body's own end was seen: the outer array's bracket, or the closing brace of an object in no array
    gave_up     an object was longer than the maximum, and is missing
    """

    __slots__ = ("_depth", "_in_array", "_in_escape", "_in_string", "_object", "_object_bytes_max", "_over", "gave_up", "is_closed")

    def __init__(self, *, object_bytes_max: int = OBJECT_BYTES_MAX) -> None:
        self.is_closed = False
        self.gave_up = False
        self._object_bytes_max = object_bytes_max
        self._object = bytearray()
        self._over = False
        self._depth = 0
        self._in_array = False
        self._in_string = False
        self._in_escape = False

    @property
    def is_inside(self) -> bool:
        """Return whether the bytes so far end inside an object."""
        return self._depth > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Parse bytes and return the objects that they complete."""
        found: list[bytes] = []
        size = len(data)
        start = position = 0  # data[start:] belongs to the object that is open
        while position < size:
            if self._in_string:
                position = self._skip_string(data, position)
                continue
            plain = (_PLAIN_INSIDE if self._depth else _PLAIN_OUTSIDE).match(data, position)
            position = size if plain is None else plain.end()
            if position == size:
                break
            mark = data[position]
            position += 1
            if mark == _QUOTE:
                self._in_string = True
            elif mark == _OPEN:
                if not self._depth:
                    start = position - 1
                self._depth += 1
            elif mark == _CLOSE:
                if self._depth == 1:
                    self._keep(data[start:position])
                    self._complete(found)
                self._depth = max(0, self._depth - 1)
            elif mark == _ARRAY_END:
                self.is_closed = True
            else:
                self._in_array = True
        if self._depth:
            self._keep(data[start:])
        return found

    def _skip_string(self, data: bytes, position: int) -> int:
        """The position after the open string, or the end of `data`, which may lie between a backslash and the escaped character."""
        if self._in_escape:
            self._in_escape = False
            position += 1
        rest = _REST_OF_STRING.match(data, position)
        position = len(data) if rest is None else rest.end()
        if position < len(data):
            if data[position] == _QUOTE:
                self._in_string = False
            else:
                self._in_escape = True
            position += 1
        return position

    def _keep(self, piece: bytes) -> None:
        if self._over or len(self._object) + len(piece) > self._object_bytes_max:
            self._over = self.gave_up = True
            self._object.clear()
        else:
            self._object += piece

    def _complete(self, found: list[bytes]) -> None:
        if not self._over:
            found.append(bytes(self._object))
        self._object.clear()
        self._over = False
        self.is_closed = not self._in_array
