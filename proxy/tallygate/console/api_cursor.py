"""Cursors: the start of the next page, bound to the query that it continues."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from tallygate.console.api_errors import invalid_parameter

_DIGEST_BYTES: Final = 12
CURSOR_CHARS_MAX: Final = 2_048  # of the position of a stored object, the longest


def question_of(path: str, values: Mapping[str, Any]) -> str:
    """The query to which a cursor is bound: the endpoint and all parameters except the page itself."""
    asked = {name: value for name, value in values.items() if name not in {"cursor", "page", "limit"}}
    return repr((path, sorted(asked.items())))


def seal(position: str, question: str) -> str:
    return base64.urlsafe_b64encode(_digest(position, question) + position.encode()).decode().rstrip("=")


def unseal(name: str, cursor: str, question: str) -> str:
    """The position in a cursor. Raises ApiError for text that is no cursor, or belongs to another query."""
    try:
        raw = base64.b64decode(cursor[:CURSOR_CHARS_MAX] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = raw[_DIGEST_BYTES:].decode()
    except (ValueError, binascii.Error):
        raise invalid_parameter(name, "is not a cursor that an earlier page gave") from None
    if raw[:_DIGEST_BYTES] != _digest(position, question):
        raise invalid_parameter(name, "is not a cursor of this question: every other parameter must stay as it was")
    return position


def _digest(position: str, question: str) -> bytes:
    """A checksum against mistakes, not forgery: a token's scope applies whatever the cursor contains."""
    return hashlib.sha256(f"{position}\n{question}".encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]
