"""Errors as Gloo AI's clients understand them, with all that OpenAI's SDKs look for, since those are used there as well.

Three shapes are public (docs.gloo.com, "Errors" and "Rate Limits"): an object `error` with `name`, `fault` and `retryable`, a flat
`code` (`too_many_requests`), and a `detail`. One body has them all. Not public are most of Gloo's numbers for `error.code`, and the
exact body of SPENDING_LIMIT_EXCEEDED: `error.code` is ours.
"""

from collections.abc import Mapping
from typing import Final

from tallygate.dialects.errors import error_body
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.domain.errors import ErrorCode, Refusal

_NAMES: Final[Mapping[ErrorCode, str]] = {  # others are called as here, in capitals
    ErrorCode.SPEND_LIMIT_EXCEEDED: "SPENDING_LIMIT_EXCEEDED",
    ErrorCode.UPSTREAM_TIMEOUT: "PROVIDER_TIMEOUT",
    ErrorCode.UPSTREAM_UNREACHABLE: "PROVIDER_UNAVAILABLE",
    ErrorCode.UPSTREAM_INVALID_RESPONSE: "PROVIDER_UNAVAILABLE",
}
_FLAT_CODES: Final[Mapping[ErrorCode, str]] = {ErrorCode.RATE_LIMIT_EXCEEDED: "too_many_requests"}  # others are the name
_PROVIDERS: Final = frozenset(
    {
        ErrorCode.UPSTREAM_TIMEOUT,
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_INVALID_RESPONSE,
        ErrorCode.UPSTREAM_KEY_REFUSED,
    }
)


class GlooShape(OpenAiShape):
    """Goes before an OpenAI-shaped dialect."""

    reset_header: bytes | None = b"x-ratelimit-reset"

    def error_object(self, refusal: Refusal) -> dict[str, object]:
        told = super().error_object(refusal) | {"name": _name(refusal), "retryable": _is_retryable(refusal)}
        return told | {"fault": "provider"} if refusal.code in _PROVIDERS else told

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body; `detail` is there in any dialect."""
        error = self.error_object(refusal) | {"request_id": request_id}
        flat = _FLAT_CODES.get(refusal.code) or _name(refusal)
        return error_body(refusal, error, request_id=request_id, code=flat, retryable=_is_retryable(refusal))


def _name(refusal: Refusal) -> str:
    return _NAMES.get(refusal.code) or refusal.code.value.upper()


def _is_retryable(refusal: Refusal) -> bool:
    """Whether the same request can succeed later without anybody doing anything; not while a spend limit pauses."""
    if refusal.code is ErrorCode.RATE_LIMIT_EXCEEDED:
        return True
    if refusal.should_retry is not None:
        return refusal.should_retry
    return refusal.status >= 500 and refusal.code is not ErrorCode.UPSTREAM_KEY_REFUSED
