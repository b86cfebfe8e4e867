"""A header field as it stands on the wire, and the Date that every answer has."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

Header = tuple[bytes, bytes]  # name and value


def http_date(now_ms: int) -> bytes:
    """The value of Date (RFC 9110 section 6.6.1), in IMF-fixdate, the only form to send (section 5.6.7).

    Formatted once a second.
    """
    return _of_second(now_ms // 1000)


@lru_cache(2)
def _of_second(seconds: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True).encode()


def columns(headers: Sequence[Header]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The names and the values of headers, each in order."""
    if not headers:
        return (), ()
    names, values = zip(*headers, strict=True)
    return names, values
