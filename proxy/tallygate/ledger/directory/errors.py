"""Why the directory does not do what was asked."""


class DirectoryError(Exception):
    """Nothing was changed. The message says why, and may be shown.

    status   of an HTTP answer; code: stable, snake_case; param: the field at fault, as a path
    problems all that is wrong, where it is more than the message
    """

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.problems = problems


class InvalidChangeError(DirectoryError):
    """What was asked for breaks a rule of the configuration."""


class NotFoundError(DirectoryError):
    """It is not there, or not for whoever asks."""

    status = 404
    code = "not_found"


class ConflictError(DirectoryError):
    """It is there already, or is in a state that does not allow the change."""

    status = 409
    code = "conflict"


class ManagedByFileError(ConflictError):
    """It stands in organizations.yaml, where it is reviewed; it is changed there and nowhere else."""

    code = "managed_by_file"
