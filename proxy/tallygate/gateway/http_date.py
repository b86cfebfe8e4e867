"""The Date of an answer (RFC 9110 section 6.6.1), written once a second."""

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache


def http_date(now_ms: int) -> bytes:
    """In the one form that is to be sent: IMF-fixdate (RFC 9110 section 5.6.7)."""
    return _of_second(now_ms // 1000)


@lru_cache(2)
def _of_second(seconds: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True).encode()
