"""Reasons why a request is not served. Each refusal has a stable snake_case `code`; dialects give it their own shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from tallygate.domain.admission import Decision
from tallygate.domain.obstacle import Obstacle


class ErrorCode(StrEnum):
    """Stable codes, each with the HTTP status under which its refusals are sent and counted; docs/errors.md explains each."""

    status: int

    def __new__(cls, code: str, status: int) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member

    INVALID_API_KEY = "invalid_api_key", 401
    PLAN_WITHOUT_API_ACCESS = "plan_without_api_access", 403
    CAPABILITY_NOT_IN_PLAN = "capability_not_in_plan", 403
    CAPABILITY_NOT_ALLOWED = "capability_not_allowed", 403
    MODEL_NOT_ALLOWED = "model_not_allowed", 403
    UNKNOWN_ENDPOINT = "unknown_endpoint", 404
    OBJECT_NOT_FOUND = "object_not_found", 404
    BULK_OPERATION_REFUSED = "bulk_operation_refused", 403
    ENDPOINT_NOT_ENABLED = "endpoint_not_enabled", 403
    METHOD_NOT_ALLOWED = "method_not_allowed", 405
    ORIGIN_NOT_ALLOWED = "origin_not_allowed", 403
    INVALID_REQUEST = "invalid_request", 400
    UNKNOWN_MODEL = "unknown_model", 400
    REQUEST_TOO_LARGE = "request_too_large", 413
    UNSUPPORTED_ENCODING = "unsupported_content_encoding", 415
    WEBSOCKET_NOT_SERVED = "websocket_not_served", 426
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded", 429
    SPEND_LIMIT_EXCEEDED = "spend_limit_exceeded", 429
    UPSTREAM_UNREACHABLE = "upstream_unreachable", 502
    UPSTREAM_TIMEOUT = "upstream_timeout", 504
    UPSTREAM_INVALID_RESPONSE = "upstream_invalid_response", 502
    UPSTREAM_KEY_REFUSED = "upstream_key_refused", 502
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable", 503
    LIMITER_UNAVAILABLE = "limiter_unavailable", 503
    LIST_UNREADABLE = "list_unreadable", 502
    OWNERS_UNAVAILABLE = "owners_unavailable", 503
    LEDGER_BACKLOG = "ledger_backlog", 503
    OVERLOADED = "overloaded", 503
    SHUTTING_DOWN = "shutting_down", 503
    NO_WORKER = "no_worker", 503
    LOOP_DETECTED = "loop_detected", 508
    INTERNAL_ERROR = "internal_error", 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal by the gateway itself.

    status           HTTP status, by default its code's; given only for requests that are not valid HTTP (0: not given)
    param            the request field at fault, as a path such as "stream_options.include_usage"
    retry_after_ms   true time until a retry can succeed; None if waiting does not help
    should_retry     the x-should-retry header; None leaves the SDK to its own rules
    details          further members of the error object (spent, held, limit, resumes_at)
    """

    code: ErrorCode
    message: str
    status: int = 0
    param: str | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    details: Mapping[str, str | int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.status:
            object.__setattr__(self, "status", self.code.status)


class Refused(Exception):  # noqa: N818 - not an error of ours: the request gets this answer
    """A request that is not served. Raised where the reason is found.

    decision   the limiter's, if the limiter refuses: the answer's headers show what is left of each limit
    model      that the request asks for, where that was read before it was refused
    """

    def __init__(self, refusal: Refusal, *, decision: Decision | None = None, model: str | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.decision = decision
        self.model = model


class PathRefused(Refused):
    """A request that is refused for its path. Its answer names the nearest endpoint."""


class RequestRejectedError(Exception):
    """A request body that cannot be served, with the field at fault. Raised by dialects, answered as 400."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class StoreError(Exception):
    """The limiter's store did not answer in time, or answered with an error. The effect is configured per class of limit.

    obstacle   what keeps it from taking writes; None if it did not answer, or the error is another one
    """

    def __init__(self, message: str, obstacle: Obstacle | None = None) -> None:
        super().__init__(message)
        self.obstacle = obstacle


class NothingSentError(StoreError):
    """A call that the store cannot have executed: there was no connection, or too many calls waited."""


class LimiterWipedError(StoreError):
    """The store answers but has lost its data (the generation key is missing): spend is unknown until it is rebuilt."""


class ConfigError(Exception):
    """Configuration that cannot be used. Each of `problems` is "file:line: what, and the fix"."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
