"""Base64 is kept from meters: an image has megabytes, of which no figure depends."""

import re
from typing import Final

from tallygate.dialects.dialect import MeterReading, ResponseMeter

STRING_BYTES_MAX: Final = 1_024  # of one string, between its quotes; a longer one is read as an empty one

_QUOTE: Final = b'"'
_BACKSLASH: Final = b"\\"
_OUTSIDE: Final = re.compile(rb"[^\"]*+")
# To the end of the string, of its line, or of the bytes so far, which may lie between a backslash and the escaped character.
_INSIDE: Final = re.compile(rb"(?:[^\"\\\r\n]++|\\.)*+", re.DOTALL)


class WithoutLongStrings:
    """Implements `ResponseMeter` over the meter of a whole JSON body or of an event stream, whose strings end with their line.

    What the client gets is unchanged, so that nothing is hidden. Split at any byte, the meter reads the same.
    """

    __slots__ = ("_held", "_is_in_escape", "_is_in_string", "_is_long", "_meter", "reading")

    def __init__(self, meter: ResponseMeter) -> None:
        self.reading: MeterReading = meter.reading
        self._meter = meter
        self._held = bytearray()  # of the string that is open, while it is not too long
        self._is_in_string = False
        self._is_in_escape = False
        self._is_long = False

    def feed(self, data: bytes) -> bytes:
        self._meter.feed(self._shortened(data))
        return data

    def end_body(self) -> bytes:
        self._meter.feed(bytes(self._held))  # of a body that broke off
        self._held.clear()
        return self._meter.end_body()

    def _shortened(self, data: bytes) -> bytes:
        found: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if not self._is_in_string:
                outside = _OUTSIDE.match(data, position)
                end = size if outside is None else outside.end()
                self._is_in_string = end < size
                found.append(data[position : end + 1])
                position = end + 1
                continue
            start = position
            if self._is_in_escape:
                self._is_in_escape = False
                position += 1
            position = _end_of_string(data, position)
            if data[position : position + 1] == _BACKSLASH:  # the last byte so far
                self._is_in_escape = True
                position += 1
            self._hold(data, start, position)
            if position < size:
                found.append(bytes(self._held) + data[position : position + 1])
                self._held.clear()
                self._is_in_string = self._is_long = False
                position += 1
        return b"".join(found)

    def _hold(self, data: bytes, start: int, end: int) -> None:
        if self._is_long or len(self._held) + end - start > STRING_BYTES_MAX:
            self._is_long = True
            self._held.clear()
        else:
            self._held += data[start:end]


def _end_of_string(data: bytes, position: int) -> int:
    """Where the open string ends, its line does, or the bytes so far do. Base64 has nothing that needs more than a search."""
    quote = data.find(_QUOTE, position)
    end = len(data) if quote < 0 else quote
    if all(data.find(each, position, end) < 0 for each in (_BACKSLASH, b"\n", b"\r")):
        return end
    inside = _INSIDE.match(data, position)
    return len(data) if inside is None else inside.end()
