"""Copies of a SQLite ledger, made while it is written and read, and put back while it is not. Both are checked before they count.

SQLite's own backup takes pages of one snapshot (sqlite.org/backup.html), whatever is written meanwhile: a read transaction that is
open on the source keeps it from beginning anew with each change.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tallygate.ledger.table_version import VERSION_TABLE, newest_version

PAGES_AT_ONCE: Final = 2_000  # 8 MB between two reports of progress
_SIDE_FILES: Final = ("", "-wal", "-shm")
_SUMS: Final = "SELECT org, COUNT(*), SUM(cost_nano_usd) FROM entries GROUP BY org ORDER BY org"
Progress = Callable[[int, int], None]  # of so many, how many are done


class BackupError(Exception):
    """A file is no whole ledger, or is there already. The message names it and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a ledger has. organizations: (id, entries, cost in nano-USD)."""

    version: str
    organizations: tuple[tuple[str, int, int], ...]

    @property
    def entries(self) -> int:
        return sum(entries for _, entries, _ in self.organizations)

    @property
    def nano_usd(self) -> int:
        return sum(nano_usd for _, _, nano_usd in self.organizations)


def back_up(source: Path, target: Path, progress: Progress) -> Contents:
    """Copy a ledger that may be in use into a new file, which is there only once it is whole and was checked.

    Raises BackupError, OSError, sqlite3.Error.
    """
    if target.exists():
        raise BackupError(f"{target} exists: name another file, or remove it")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with reading(source) as ledger:
            ledger.execute("BEGIN")
            expected = contents(ledger, source)
            with closing(sqlite3.connect(part)) as copy:
                ledger.backup(copy, pages=PAGES_AT_ONCE, progress=lambda _, left, total: progress(total, total - left))
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        if checked(part) != expected:
            raise BackupError(f"the copy of {source} has other sums than {source}: it is not kept")
        sync_path(part)
        part.replace(target)
        sync_path(target.parent)
    finally:
        part.unlink(missing_ok=True)
    return expected


def put_back(backup: Path, ledger: Path, *, now_s: int) -> tuple[Contents, Path | None]:
    """Put a backup in the place of a ledger that nobody has open; returns what it has, and where the one before is now.

    Raises BackupError, OSError, sqlite3.Error; then the ledger is as it was.
    """
    found = checked(backup)
    if found.version > newest_version():
        raise BackupError(f"{backup} has tables of version {found.version}, this tallygate knows up to {newest_version()}")
    part = ledger.with_name(f".{ledger.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(backup, part)
        part.chmod(0o600)
        sync_path(part)
        aside = _set_aside(ledger, now_s)
        part.replace(ledger)
        sync_path(ledger.parent)
    finally:
        part.unlink(missing_ok=True)
    return found, aside


def checked(path: Path) -> Contents:
    """What a ledger's file has, all of whose pages were read. Raises BackupError, sqlite3.Error."""
    with reading(path) as ledger:
        try:
            [(verdict,), *more] = ledger.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.DatabaseError as error:
            raise BackupError(f"{path} is no SQLite database, or is damaged: {error}") from error
        if more or verdict != "ok":
            raise BackupError(f"{path} is damaged: {verdict}")
        return contents(ledger, path)


def contents(ledger: sqlite3.Connection, path: Path) -> Contents:
    """What a connection reads. Raises BackupError."""
    try:
        [(version,)] = ledger.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608 - a constant
        return Contents(version=version, organizations=tuple(ledger.execute(_SUMS)))
    except (sqlite3.DatabaseError, ValueError) as error:
        raise BackupError(f"{path} is no ledger: {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise BackupError(f"there is no {path}")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        yield connection


def _set_aside(ledger: Path, now_s: int) -> Path | None:
    """Rename a ledger with its log, which would else be played into the one that takes its place."""
    if not ledger.exists():
        for side in _SIDE_FILES[1:]:
            ledger.with_name(ledger.name + side).unlink(missing_ok=True)
        return None
    aside = ledger.with_name(f"{ledger.name}.before-{now_s}")
    for side in _SIDE_FILES:
        file = ledger.with_name(ledger.name + side)
        if file.exists():
            file.rename(aside.with_name(aside.name + side))
    return aside


def sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
