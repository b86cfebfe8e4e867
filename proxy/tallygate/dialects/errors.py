"""Error bodies: the members of RFC 9457 beside an `error` object in the dialect's shape, all in one JSON object.

SDKs read the error object and nothing else, so the content type stays the one they expect.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from tallygate.domain.errors import ErrorCode, Refusal

JSON_CONTENT_TYPE: Final = "application/json"
QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY: Final = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
NO_TYPE: Final = "about:blank"  # RFC 9457, section 4.2.1: no semantics beyond the status

_PROBLEM_TYPES: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.RATE_LIMIT_EXCEEDED: QUOTA_EXCEEDED,
    ErrorCode.SPEND_LIMIT_EXCEEDED: QUOTA_EXCEEDED,
    ErrorCode.OVERLOADED: REDUCED_CAPACITY,
}


def problem_members(refusal: Refusal, *, request_id: str) -> dict[str, object]:
    """type, title, status, detail and the extension request_id; a new dict, for the caller to add to."""
    try:
        title = HTTPStatus(refusal.status).phrase
    except ValueError:  # a status without a registered phrase, such as Anthropic's 529
        title = refusal.code.value.replace("_", " ").capitalize()
    return {
        "type": _PROBLEM_TYPES.get(refusal.code, NO_TYPE),
        "title": title,
        "status": refusal.status,
        "detail": refusal.message,
        "request_id": request_id,
    }


def error_body(refusal: Refusal, error: Mapping[str, object], *, request_id: str, **members: object) -> tuple[str, bytes]:
    """Content type and body. `error` is the dialect's error object; `members` replace or join the top-level ones."""
    body = problem_members(refusal, request_id=request_id) | members | {"error": error}
    return JSON_CONTENT_TYPE, msgspec.json.encode(body)


def retry_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The headers for retries, in the three forms that SDKs read. Seconds round up, so that no retry is too early."""
    headers: list[tuple[bytes, bytes]] = []
    if refusal.retry_after_ms is not None:
        headers.append((b"retry-after", b"%d" % -(-refusal.retry_after_ms // 1000)))
        headers.append((b"retry-after-ms", b"%d" % refusal.retry_after_ms))
    if refusal.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
    return headers
