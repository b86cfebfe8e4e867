"""A directory that only its owner can read, with its contents: they are money, and digests of keys."""

import os
import stat
from pathlib import Path
from typing import Final

OWN_ONLY_UMASK: Final = 0o077
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class TooOpenError(Exception):
    """The directory, or something in it, is open to other users and could not be closed."""


def close_directory(root: Path) -> None:
    """Create it if it is missing; remove group's and others' rights from it and its contents. Raises TooOpenError.

    A container platform may mount a volume that belongs to somebody else, and give access through a group. Its top can then stay
    readable, as long as nobody else may write there; everything below is closed.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _close(root, is_top=True)
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            _close(Path(directory, name), is_top=False)


def _close(path: Path, *, is_top: bool) -> None:
    try:
        found = path.stat() if is_top else path.lstat()
    except FileNotFoundError:  # a running store replaces its files
        return
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or not mode & _OTHERS:
        return
    try:
        path.chmod(mode & ~_OTHERS)
    except FileNotFoundError:
        return
    except OSError as error:
        if is_top and found.st_uid != os.geteuid() and _is_kept_by_platform(found):
            return
        text = f"{path} can be used by other users (mode {mode:04o}), and is not ours to close ({error.strerror})"
        if is_top:
            text += ": name a directory within it as TALLYGATE_DATA_DIR, which is then made for this user alone"
        raise TooOpenError(text) from error


def _is_kept_by_platform(found: os.stat_result) -> bool:
    is_our_group = found.st_gid in {os.getegid(), *os.getgroups()}
    return not found.st_mode & stat.S_IWOTH and (is_our_group or not found.st_mode & stat.S_IWGRP)
