"""Failures of the upstream leg of an exchange: one value for the sink, one exception for `UpstreamPool.acquire`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tallygate.domain.errors import ErrorCode


class FailureKind(StrEnum):
    """Why there is no whole answer; a metric label."""

    UNREACHABLE = "unreachable"  # no connection: refused, unknown host, TLS not trusted; nothing was sent
    OVERLOADED = "overloaded"  # no free connection within the pool's bounds; nothing was sent
    TIMEOUT = "timeout"  # of connecting, of the response headers, or between two reads
    RESET = "reset"  # the connection ended before the response headers
    INVALID_RESPONSE = "invalid_response"  # not HTTP, or framing that two readers could understand differently
    TRUNCATED = "truncated"  # the connection ended inside the response body
    UNAUTHORIZED = "unauthorized"  # it refused the operator's key (401), which the caller cannot fix


_ANSWERS: Final[Mapping[FailureKind, ErrorCode]] = {
    FailureKind.UNREACHABLE: ErrorCode.UPSTREAM_UNREACHABLE,
    FailureKind.OVERLOADED: ErrorCode.OVERLOADED,
    FailureKind.TIMEOUT: ErrorCode.UPSTREAM_TIMEOUT,
    FailureKind.RESET: ErrorCode.UPSTREAM_UNREACHABLE,
    FailureKind.INVALID_RESPONSE: ErrorCode.UPSTREAM_INVALID_RESPONSE,
    FailureKind.TRUNCATED: ErrorCode.UPSTREAM_INVALID_RESPONSE,
    FailureKind.UNAUTHORIZED: ErrorCode.UPSTREAM_KEY_REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailure:
    """Why an exchange has no whole answer.

    message        our own words, fit for a client: never bytes of the upstream's, an address or a key
    request_sent   some of the request was handed to the socket: the provider may bill it, so nobody repeats it
    headers_seen   on_headers was called: too late for an error answer of our own
    reason         for the operator's log, where more is known than the client is told; else ""
    """

    kind: FailureKind
    message: str
    request_sent: bool
    headers_seen: bool = False
    reason: str = ""

    @property
    def code(self) -> ErrorCode:
        return _ANSWERS[self.kind]


class UpstreamError(Exception):
    """No connection could be opened; nothing was sent. `failure` states why."""

    def __init__(self, kind: FailureKind, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.failure = UpstreamFailure(kind=kind, message=message, request_sent=False, reason=reason)


class UpstreamUnreachableError(UpstreamError):
    """Connecting failed or took too long; also: the connection died between `acquire` and `send`."""


class UpstreamPoolFullError(UpstreamError):
    """Every connection is in use, and the queue for one is full or was too slow; or the pool is closed."""
