"""Secrets kept in files, as container platforms mount them."""

from pathlib import Path
from typing import Final

SECRET_BYTES_MAX: Final = 64 * 2**10


def read_secret_file(path: Path) -> str:
    """The file's text without surrounding white space. Raises ValueError, which names the file and never its content."""
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
