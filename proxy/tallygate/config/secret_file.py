"""Secrets, which the configuration names and never contains: a variable, or a file as container platforms mount them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tallygate.config.section import Section, show

SECRET_BYTES_MAX: Final = 64 * 2**10
CHARS_OF_A_PATH_MAX: Final = 4096


def read_secret_file(path: Path) -> str:
    """Read the file's text without surrounding white space. Raises ValueError, which names the file and never its content."""
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        text = data.decode().strip()
    except OSError as error:
        raise ValueError(f"names the file {str(path)!r}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"names the file {str(path)!r}, which is not UTF-8 text") from None
    if not text.isprintable():
        raise ValueError(f"names the file {str(path)!r}, which holds more than one line or control characters")
    if not text or len(data) > SECRET_BYTES_MAX:
        raise ValueError(f"names the file {str(path)!r}, which is empty or larger than {SECRET_BYTES_MAX} bytes")
    return text


def read_secret(section: Section, name: str, environ: Mapping[str, str] | None) -> str:
    """Read the secret that `<name>_env` or `<name>_file` names; "" with a problem if there is none. It is never shown.

    environ   None: the secret is not needed, and "" is no problem
    """
    variable, file = section.text(f"{name}_env"), section.text(f"{name}_file", chars_max=CHARS_OF_A_PATH_MAX)
    if bool(variable) == bool(file):
        section.place.problem(f"must have exactly one of {name}_env (a variable's name) and {name}_file (a path)")
        return ""
    if environ is None:
        return ""
    if variable:
        value = environ.get(variable, "").strip()
        if not value:
            section.place_of(f"{name}_env").problem(f"names the variable {show(variable)}, which is not set")
        if not value.isprintable():
            section.place_of(f"{name}_env").problem(f"names the variable {show(variable)}, which holds control characters")
        return value
    try:
        return read_secret_file(Path(file))
    except ValueError as error:
        section.place_of(f"{name}_file").problem(str(error))
        return ""
