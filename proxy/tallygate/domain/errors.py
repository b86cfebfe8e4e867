"""Why a request is not served. Each refusal has a stable snake_case `code`; dialects give it their own shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tallygate.domain.admission import Decision


class ErrorCode(StrEnum):
    """Stable codes; docs/errors.md explains each."""

    INVALID_API_KEY = "invalid_api_key"
    PLAN_WITHOUT_API_ACCESS = "plan_without_api_access"
    CAPABILITY_NOT_IN_PLAN = "capability_not_in_plan"
    CAPABILITY_NOT_ALLOWED = "capability_not_allowed"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    UNKNOWN_ENDPOINT = "unknown_endpoint"
    OBJECT_NOT_FOUND = "object_not_found"
    BULK_OPERATION_REFUSED = "bulk_operation_refused"
    ENDPOINT_NOT_ENABLED = "endpoint_not_enabled"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_MODEL = "unknown_model"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_ENCODING = "unsupported_content_encoding"
    WEBSOCKET_NOT_SERVED = "websocket_not_served"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    SPEND_LIMIT_EXCEEDED = "spend_limit_exceeded"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_INVALID_RESPONSE = "upstream_invalid_response"
    UPSTREAM_KEY_REFUSED = "upstream_key_refused"
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable"
    LIMITER_UNAVAILABLE = "limiter_unavailable"
    LIST_UNREADABLE = "list_unreadable"
    OWNERS_UNAVAILABLE = "owners_unavailable"
    LEDGER_BACKLOG = "ledger_backlog"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    LOOP_DETECTED = "loop_detected"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer the gateway gives itself.

    param            the request field at fault, as a path such as "stream_options.include_usage"
    retry_after_ms   true time until a retry can succeed; None where waiting does not help
    should_retry     the x-should-retry header; None leaves the SDK to its own rules
    details          further members of the error object (spent, held, limit, resumes_at)
    """

    status: int
    code: ErrorCode
    message: str
    param: str | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    details: Mapping[str, str | int | None] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - not an error of ours: the request gets this answer
    """A request that is not served. Raised where the reason is found.

    decision   the limiter's, where it is the limiter that refuses: what is left of each limit stands in the answer's headers
    """

    def __init__(self, refusal: Refusal, *, decision: Decision | None = None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.decision = decision


class RequestRejectedError(Exception):
    """A request body that cannot be served, with the field at fault. Raised by dialects, answered as 400."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class StoreError(Exception):
    """The limiter's store did not answer in time, or answered with an error. What then happens is configured per class of limit."""


class NothingSentError(StoreError):
    """There was no connection, or too many calls waited: the store cannot have acted on this one."""


class LimiterWipedError(StoreError):
    """The store answers but has lost its data (the generation key is gone): spend is unknown until it is rebuilt."""


class ConfigError(Exception):
    """Configuration that cannot be used. `problems` holds one "file:line: what, and the fix" each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
