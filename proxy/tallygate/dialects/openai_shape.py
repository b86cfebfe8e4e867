"""Errors and limit headers as OpenAI's SDKs understand them; also used if no dialect is known."""

import re
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from tallygate.dialects.dialect import FormDialect, RequestFacts, UsageReporting
from tallygate.dialects.errors import error_body
from tallygate.dialects.limits import LimitHeaders
from tallygate.domain.errors import ErrorCode, Refusal

# OpenAI's `type` names the kind of fault; `code` is ours, and equals OpenAI's if it has one.
_TYPES: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.SPEND_LIMIT_EXCEEDED: "insufficient_quota",
    ErrorCode.PLAN_WITHOUT_API_ACCESS: "insufficient_permissions",
    ErrorCode.CAPABILITY_NOT_IN_PLAN: "insufficient_permissions",
    ErrorCode.CAPABILITY_NOT_ALLOWED: "insufficient_permissions",
    ErrorCode.MODEL_NOT_ALLOWED: "insufficient_permissions",
}


def duration_text(duration_ms: int) -> str:
    """A duration as OpenAI writes it: 120ms, 1s, 6m0s, 2h0m0s. Above one second it is rounded up to whole seconds."""
    if duration_ms <= 0:
        return "0s"
    if duration_ms < 1000:
        return f"{duration_ms}ms"
    minutes, seconds = divmod(-(-duration_ms // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


_LIMIT_HEADERS: Final = LimitHeaders(
    {
        "requests": (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
        "tokens": (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
    },
    reset=lambda _now_ms, reset_ms: duration_text(reset_ms).encode(),
)


class OpenAiShape:
    """The client-facing half of every OpenAI-shaped dialect; usable alone for errors on routes without one."""

    is_billed = True
    generates = True
    own_paths: re.Pattern[str] | None = None
    own_header: str | None = None
    has_version_in_base = True
    key_header: str | None = "authorization"
    not_keys: Collection[str] = ()
    usage_reporting = UsageReporting.STREAMS_WHEN_ASKED
    request_id_header: bytes | None = None
    reset_header: bytes | None = None
    query_values: Mapping[str, re.Pattern[str]] = {"api-version": re.compile(r"[A-Za-z0-9.-]{1,32}", re.ASCII)}  # Azure's
    form: FormDialect | None = None
    answers_media = False
    allows_comments = True
    limit_headers: LimitHeaders | None = _LIMIT_HEADERS

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """`body` itself, for APIs in which no member asks for the usage or lowers the cost."""
        del facts, ask_usage, max_output_tokens
        return body

    def error_object(self, refusal: Refusal) -> dict[str, object]:
        return openai_error(refusal)

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body: OpenAI's error object, details included, with RFC 9457 members beside it."""
        return error_body(refusal, self.error_object(refusal), request_id=request_id)

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """A data event whose `error` member makes OpenAI's stream readers raise."""
        error = self.error_object(refusal) | {"request_id": request_id}
        return b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"


def openai_error(refusal: Refusal) -> dict[str, object]:
    """OpenAI's error object: message, type, param and code are always present; details follow, and never replace them."""
    required: dict[str, object] = {
        "message": refusal.message,
        "type": _error_type(refusal),
        "param": refusal.param,
        "code": refusal.code.value,
    }
    return required | {name: value for name, value in refusal.details.items() if name not in required}


def _error_type(refusal: Refusal) -> str:
    if refusal.code is ErrorCode.RATE_LIMIT_EXCEEDED:
        return "tokens" if refusal.details.get("quantity") == "tokens" else "requests"
    return _TYPES.get(refusal.code) or ("server_error" if refusal.status >= 500 else "invalid_request_error")
