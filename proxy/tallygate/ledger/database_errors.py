"""What goes wrong with the ledger's database: the errors of either driver, translated into those that callers know."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tallygate.domain.obstacle import Obstacle

# Why a database that answers does not do what it is asked, by SQLite's primary result code (sqlite.org/rescode.html) or
# PostgreSQL's SQLSTATE ("PostgreSQL Error Codes" of its manual).
_FULL: Final = Obstacle("disk", "takes no writes: its disk is full")
_READ_ONLY: Final = Obstacle("read_only", "takes no writes: it is read-only, or a standby")
_MEMORY: Final = Obstacle("memory", "takes no writes: it is out of memory")
LOCKED: Final = Obstacle("locked", "takes no writes: another process keeps it locked")
_DAMAGED: Final = Obstacle("damaged", "takes no writes: its file is damaged, or is no SQLite database")
_PERMISSION: Final = Obstacle("permission", "takes no writes: its user lacks a privilege on the ledger's tables")
_NO_TABLES: Final = Obstacle(
    "tables", "takes no writes: the ledger's tables are not there, or not where its user looks (search_path)"
)
_OBSTACLES: Final[Mapping[int | str, Obstacle]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: Obstacle("disk", "takes no writes: its disk fails, or is full"),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Obstacle("permission", "takes no writes: its file cannot be opened"),
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_NOMEM: _MEMORY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    "53100": _FULL,
    "25006": _READ_ONLY,
    "53200": _MEMORY,
    "55P03": LOCKED,  # after a lock_timeout
    "42501": _PERMISSION,
    "53300": Obstacle("connections", "takes no writes: it has no connection left (max_connections)"),
    "57P03": Obstacle("loading", "takes no writes yet: it is starting, or recovers"),
    "28P01": Obstacle("password", "does not accept the user or the password"),
    "28000": Obstacle("password", "does not accept the user"),
    "3D000": Obstacle("missing", "is not there: its server has no database of that name"),
    "3F000": _NO_TABLES,
    "42P01": _NO_TABLES,
}

GONE: Final = Obstacle("gone", "was deleted or replaced while it is in use: put back what was there, or restart")
MISSING: Final = Obstacle("missing", "is not there: put its file back, or start `tallygate serve` to make a new one")
OLD_TABLES: Final = Obstacle("tables", "does not have the tables of this version yet: `tallygate ledger`, or `serve`, makes them")
NEW_TABLES: Final = Obstacle("tables", "has tables of a newer version: run the newer tallygate that wrote them")


class LedgerUnavailableError(Exception):
    """The database is away, locked, full or too slow: the operation did not happen, and may be retried.

    obstacle   why, where the database says so; None if it did not answer
    """

    def __init__(self, message: str, obstacle: Obstacle | None = None) -> None:
        super().__init__(message)
        self.obstacle = obstacle

    @property
    def reason(self) -> str:
        """The rest of a sentence that begins with the database."""
        return f"does not answer: {self}" if self.obstacle is None else f"{self.obstacle.text} ({self})"


class UnstorableError(Exception):
    """The database will never accept the values: text or numbers that do not fit."""


@contextmanager
def translated() -> Iterator[None]:
    """Translate drivers' errors. Errors that are not about the data may pass with time, and are never blamed on an event."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        orig = _driver_error(error)
        if _is_about_data(error):
            raise UnstorableError(f"{type(orig).__name__}: {orig}") from error
        raise LedgerUnavailableError(str(orig), _obstacle_of(orig)) from error
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise LedgerUnavailableError(str(error) or type(error).__name__) from error


def takes_no_writes(error: object) -> bool:
    """Return whether a driver's error is that of a server that only reads, such as a standby."""
    return _obstacle_of(error) is _READ_ONLY


def is_locked(error: LedgerUnavailableError) -> bool:
    """Return whether another process was writing to the SQLite file for all of BUSY_MS."""
    return getattr(_driver_error(error.__cause__), "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _driver_error(error: BaseException | None) -> object:
    """What the driver raised, whether SQLAlchemy has wrapped it or not."""
    return getattr(error, "orig", error)


def _obstacle_of(error: object) -> Obstacle | None:
    state, code = getattr(error, "sqlstate", None), getattr(error, "sqlite_errorcode", None)
    key = state if code is None else code & 0xFF  # the primary code is the last byte of an extended one
    return None if key is None else _OBSTACLES.get(key)


def _is_about_data(error: DBAPIError | sqlite3.Error) -> bool:
    """Return whether the database refuses the values themselves (SQLSTATE class 22 and 23), however often it is tried."""
    orig = _driver_error(error)
    state = getattr(orig, "sqlstate", None)
    return (
        isinstance(error, (DataError, IntegrityError, sqlite3.DataError, sqlite3.IntegrityError))
        or isinstance(getattr(orig, "__cause__", None), (ValueError, OverflowError))  # the driver could not encode it
        or (state is not None and state[:2] in {"22", "23"})
    )
