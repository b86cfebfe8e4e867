"""A header field as it stands on the wire, and the Date that every answer has."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final

Header = tuple[bytes, bytes]  # name and value

_NAME: Final = itemgetter(0)


def http_date(now_ms: int) -> bytes:
    """The value of Date (RFC 9110 section 6.6.1), in IMF-fixdate, the only form to send (section 5.6.7).

    Formatted once a second.
    """
    return _of_second(now_ms // 1000)


@lru_cache(2)
def _of_second(seconds: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True).encode()


def names_of(headers: Sequence[Header]) -> tuple[bytes, ...]:
    """The names of headers, in order."""
    return tuple(map(_NAME, headers))


def values_of(headers: Sequence[Header]) -> list[bytes]:
    """The values of headers, in order."""
    return [value for _, value in headers]
