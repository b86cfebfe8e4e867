"""The data directory: its lock and its layout."""

import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from tallygate.config.admin_token import ADMIN_TOKEN
from tallygate.config.sign_in_link import STARTED_LINK

LOCK_FILE: Final = "lock"
LOCK_WAIT_SECONDS: Final = 10.0  # for the processes of a killed supervisor, which end by themselves


_BLOCK: Final = b"\0" * 4096


class DirectoryInUseError(Exception):
    """Another tallygate runs on this data directory."""


def directory_problem(root: Path) -> str | None:
    """Why a data directory cannot be used, naming the path; None if it can. Makes nothing."""
    if root.exists() and not root.is_dir():
        return f"the data directory {root} is a file: name a directory as TALLYGATE_DATA_DIR (--data-dir)"
    there = root if root.exists() else next(parent for parent in root.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(_BLOCK)
        closed = next((path for path in root.iterdir() if not os.access(path, os.R_OK | os.W_OK)), None) if root.exists() else None
    except OSError as error:
        return f"the data directory {root} cannot be written: {error.strerror}"
    return None if closed is None else f"{closed} in the data directory cannot be read and written by this user"


class DataDirectory:
    """Paths under one directory, and the lock on it.

    The lock belongs to an open file that every child inherits, so it is free only when the last of them has ended: two Valkeys
    never append to one file, and two workers never count in one slot.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root.resolve()
        self.metrics = self.root / "metrics"
        self.valkey = self.root / "valkey"
        self.spool = self.root / "spool"
        self._lock_path = self.root / LOCK_FILE

    def lock(self) -> int:
        """Take the lock and return its descriptor, to be inherited. Raises DirectoryInUseError after LOCK_WAIT_SECONDS."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                if _is_alive(owner) or time.monotonic() > deadline:
                    os.close(descriptor)
                    raise DirectoryInUseError(
                        f"{self.root} is in use by another tallygate (process {owner or 'unknown'})"
                    ) from None
                time.sleep(0.05)
            else:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor

    def keep_admin_token(self, token: str) -> None:
        """Store the digest; the token itself is shown once and never written."""
        self._keep_digest(ADMIN_TOKEN, token)

    def keep_link(self, secret: str) -> None:
        """Store the digest of a link to sign in, for the console that starts next."""
        self._keep_digest(STARTED_LINK, secret)

    def _keep_digest(self, name: str, secret: str) -> None:
        descriptor = os.open(self.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(hashlib.sha256(secret.encode()).hexdigest())


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
