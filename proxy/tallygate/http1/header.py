"""A header field as it stands on the wire, and the Date that every answer has."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final

Header = tuple[bytes, bytes]  # name and value
Names = tuple[bytes, ...]
# Fields as they are written: their names, in order, and a line of each that ends as on the wire. What we say ourselves is put
# together in this form: pairs of name and value would have to be made of it, and made lines of again, for each answer.
Lines = tuple[Names, bytes]
NO_LINES: Final[Lines] = ((), b"")

_NAME: Final = itemgetter(0)


def http_date(now_ms: int) -> bytes:
    """The value of Date (RFC 9110 section 6.6.1), in IMF-fixdate, the only form to send (section 5.6.7).

    Formatted once a second.
    """
    return _of_second(now_ms // 1000)


@lru_cache(2)
def _of_second(seconds: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True).encode()


class Headers(list[Header]):
    """The fields of a head, in order, whose names are found once: what becomes of a head asks for them again and again.

    names   if they have been found, and no field has come since
    """

    names: Names | None = None


def names_of(headers: Sequence[Header]) -> Names:
    """The names of headers, in order."""
    if type(headers) is not Headers:
        return tuple(map(_NAME, headers))
    names = headers.names
    if names is None or len(names) != len(headers):
        names = headers.names = tuple(map(_NAME, headers))
    return names


def text_of(headers: Iterable[Header]) -> bytes:
    """Headers as they are written, a line of each."""
    lines = b"\r\n".join(map(b": ".join, headers))
    return lines + b"\r\n" if lines else lines


def lines_of(headers: Sequence[Header]) -> Lines:
    return names_of(headers), text_of(headers)


def headers_of(text: bytes) -> list[Header]:
    """The headers that are written so (`text_of`)."""
    pairs = [line.partition(b": ") for line in text.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in pairs]


def values_of(headers: Sequence[Header]) -> list[bytes]:
    """The values of headers, in order."""
    return [value for _, value in headers]
