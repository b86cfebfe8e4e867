"""Refusals by the directory."""


class DirectoryError(Exception):
    """A refused change: nothing was changed. The message states why, and may be shown.

    status   of an HTTP answer; code: stable, snake_case; param: the field at fault, as a path
    problems all problems, if there are more than the message states
    """

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.problems = problems


class InvalidChangeError(DirectoryError):
    """The change breaks a rule of the configuration."""


class NotFoundError(DirectoryError):
    """The object does not exist, or is outside the caller's scope."""

    status = 404
    code = "not_found"


class OperatorNeededError(DirectoryError):
    """The organization may not decide this by itself."""

    status = 403
    code = "platform_token_needed"


class ConflictError(DirectoryError):
    """The object already exists, or its state does not allow the change."""

    status = 409
    code = "conflict"


class ManagedByFileError(ConflictError):
    """The object is in organizations.yaml, and can be changed only there."""

    code = "managed_by_file"
