"""The one shape of errors on the console's API, which is OpenAI's: {"error": {"message", "type", "param", "code"}}."""

from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import hdrs, web

from tallygate.config.settings import variable_name

RETRY_SECONDS: Final = 5  # after which a store that was away may be back
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error"}


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """param: the parameter or body field at fault, null where there is none. code: stable, snake_case."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorBody


class ApiError(Exception):
    """An answer other than success. `param` names the field at fault."""

    def __init__(
        self, *, status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers

    def body(self) -> ErrorAnswer:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return ErrorAnswer(error=ErrorBody(message=self.message, type=kind, param=self.param, code=self.code))

    def answer(self) -> web.Response:
        return json_answer(self.body(), status=self.status, headers=self.headers)


def invalid_parameter(param: str, message: str) -> ApiError:
    return ApiError(status=400, code="invalid_parameter", message=f"{param}: {message}", param=param)


def unknown_id(param: str, kind: str) -> ApiError:
    """The error for an unknown id, and for one outside the token's scope: both look alike, so that ids cannot be guessed."""
    return ApiError(
        status=404, code=f"unknown_{kind}", message=f"{param}: there is no such {kind} within this token's scope", param=param
    )


def unknown_host() -> ApiError:
    """The error for a request by a host name that is not known to be the console's."""
    fix = f"name it in {variable_name('console_hosts')}, or set {variable_name('console_url')}"
    return ApiError(status=403, code="unknown_host", message=f"this host name is not known as the console's: {fix}")


def unavailable(code: str, message: str) -> ApiError:
    """The error for a store that does not answer."""
    return ApiError(status=503, code=code, message=message, headers={hdrs.RETRY_AFTER: str(RETRY_SECONDS)})


def json_answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    encoded = msgspec.json.encode(body) + b"\n"
    return web.Response(status=status, body=encoded, content_type="application/json", headers=headers)
