"""The destination of a command's document: standard output, or a file that exists only when it is whole."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click


@contextmanager
def output_file(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file that replaces the one at `path` only at the end: a failure leaves the old file in place.

    None: standard output. Raises click.ClickException if the file cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
